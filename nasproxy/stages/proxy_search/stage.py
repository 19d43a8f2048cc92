"""Proxy search: train the reference models under each proxy task until they rank as under full training.

All proxy tasks race in lockstep of training time, or are judged one after the other. A look at a task happens at a
step that all of its models have reported, and looks are taken in the order of rated training time, so that decisions
depend neither on which trial was fastest nor on how many run at once.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from nasproxy.errors import ConfigError
from nasproxy.stages.common_steps import find_settled_step, probe_common_steps
from nasproxy.stages.confirmation.state import ConfirmationState
from nasproxy.stages.proxy_search import race, reopening
from nasproxy.stages.proxy_search.judge import Judge, JudgedModels
from nasproxy.stages.proxy_search.race import NextLook, TaskSpeed
from nasproxy.stages.proxy_search.settings import ProxySearchSettings
from nasproxy.stages.proxy_search.state import (
    PREFIX,
    ProxySearchState,
    Rules,
    StoppingState,
    TaskCache,
    TaskCheck,
    TaskOrigin,
    TaskState,
    find_best_task,
    read_rules,
    read_tasks,
    sort_tasks,
)
from nasproxy.stages.references.candidate_pool import CandidatePool
from nasproxy.stages.references.state import Reference
from nasproxy.stages.runner import Decide, Records, Train
from nasproxy.statistics.acceptance import Criterion, LookPlan, Verdict, VerdictKind
from nasproxy.statistics.selection_bound import bound_selected_tau, measure_margin
from nasproxy.storage.leases import hold_lease
from nasproxy.storage.study_stores import StudyStore
from nasproxy.tracking.events import Look, Progress
from nasproxy.trials.check_steps import find_requested_step
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import TrialPurpose
from nasproxy.trials.spec import Recipe, Split, TrialSpec


class ProxySearchStage:
    """Judges proxy tasks, in a race or one after the other."""

    name = "proxy_search"

    def __init__(
        self,
        settings: ProxySearchSettings,
        *,
        tasks: Mapping[str, ProxyTask],
        criterion: Criterion,
        judged_by: str,
        references: Sequence[Reference],
        candidate_pool: CandidatePool,
        recipe: Recipe,
        seed: int,
        study: StudyStore,
        full_seconds: float = math.inf,
        prefix: str = PREFIX,
        confirmations: Sequence[ConfirmationState] = (),
        is_fresh: bool = False,
        is_random: bool = True,
        origin: TaskOrigin | None = None,
    ) -> None:
        """Configure the stage.

        Args:
            settings: Settings of the proxy search.
            tasks: Proxy tasks by name, in the order of the grid.
            criterion: Acceptance criterion.
            judged_by: Criterion and settings as JSON; a task judged by other rules is judged again.
            references: Models with full-training scores.
            candidate_pool: Candidates that become references if a verdict is inconclusive.
            recipe: The study's recipe.
            seed: Seed of all proxy trainings; differs from the references' seed.
            study: The study.
            full_seconds: Median time of a full training, in seconds, of all its devices together: a task that is no
                cheaper is of no use.
            prefix: Prefix of the names of its decisions in the study.
            confirmations: Confirmations of earlier winners; a contradicted winner is withdrawn.
            is_fresh: Judge all tasks from the start, on the trials that there are, instead of resuming their states,
                which may have been judged in another order or with other tasks.
            is_random: Whether the references are random models, as the bound after selection assumes.
            origin: How the tasks were given; recorded for the report.

        Raises:
            ConfigError: A setting or an override of a task is invalid.
        """
        settings.check()
        self._settings = settings
        self._proxy_tasks = dict(tasks)
        self._judge = Judge(criterion, settings.min_models, settings.min_valid_ratio)
        self._judged_by = judged_by
        self._references = tuple(references)
        self._candidate_pool = candidate_pool
        self._recipe = recipe
        self._objective = recipe.objective
        self._seed = seed
        self._study = study
        self._full_seconds = full_seconds
        self._prefix = prefix
        self._confirmations = tuple(confirmations)
        self._is_fresh = is_fresh
        self._is_random = is_random
        self._origin = origin
        self._cache: TaskCache = {}
        self._specs: dict[tuple[str, int], TrialSpec] = {}
        self._task_names: dict[str, str] = {}
        # Applies the overrides of every task now, so that an invalid one is refused before the first trial.
        self._steps = {name: self._make_spec(name, self._references[0]).check_steps for name in self._proxy_tasks}

    def load(self) -> ProxySearchState:
        """Read the states of all tasks in the study, and make states for new tasks of this controller."""
        stored = {} if self._is_fresh else read_tasks(self._study, self._prefix)
        own = {name: self._resume_or_create(name, stored) for name in self._proxy_tasks}
        return ProxySearchState(sort_tasks({**stored, **own}))

    def save(self, state: ProxySearchState) -> ProxySearchState:
        """Store the changed tasks of this controller, each in its file, and read the decisions of other controllers."""
        # The jobs of a sweep share `rules.json`; the lease keeps a job from overwriting newer states.
        with hold_lease(self._study.lease("proxy_search_tasks"), "the proxy search", wait_seconds=None):
            stored = read_tasks(self._study, self._prefix, self._cache)
            changed = [state.tasks[name] for name in self._proxy_tasks if stored.get(name) != state.tasks[name]]
            for task in changed:
                self._write_task(task)
            others = {name: task for name, task in stored.items() if name not in self._proxy_tasks}
            merged = ProxySearchState(sort_tasks({**state.tasks, **others}))
            rules = Rules(self._judged_by, self._settings.policy, self._origin)
            if read_rules(self._study, self._prefix) != rules:
                self._study.write(f"{self._prefix}/rules", rules)
        return merged

    def specs(self, state: ProxySearchState) -> list[TrialSpec]:
        """List the trials of the tasks that are being judged, and of candidates requested as references."""
        contenders = self._list_contenders(state)
        proxies = [spec for task in contenders for spec in self._list_task_specs(task)]
        return [*proxies, *(spec for task in contenders for spec in self._candidate_pool.requested_specs(task))]

    def purpose(self, spec: TrialSpec) -> TrialPurpose:
        """Return the proxy task that the trial is for; none for the full training of an added reference."""
        return TrialPurpose(self.name, self._task_names.get(spec.key))

    def next_action(self, state: ProxySearchState, records: Records) -> Train | Decide[ProxySearchState] | None:
        """Take the look with the shortest rated time, once all models of its task have reported its step."""
        changed = reopening.find_next_change(state.tasks, self._proxy_tasks, self._confirmations)
        if changed is not None:
            return self._decide(state, changed)
        contenders = {task.name: task for task in self._list_contenders(state)}
        if not contenders:
            return None
        models = {name: self._collect_models(task, records) for name, task in contenders.items()}
        measured = {name: self._measure_speed(name, models[name]) for name in contenders}
        for name, task in contenders.items():
            if measured[name] is None and race.have_ended(models[name].records, task.total_steps):
                return self._decide(state, replace(task, stopping_state=StoppingState.EXCESS_FAILURES))
        speeds = {name: speed for name, speed in measured.items() if speed is not None}
        if len(speeds) < len(contenders):
            return Train(self._plan_speed_trials(contenders, speeds, models))
        looks = {name: self._find_next_look(task, models[name]) for name, task in contenders.items()}
        times = {name: speeds[name].seconds_at(look.step) for name, look in looks.items()}
        first = race.find_earliest(times)
        task, look = contenders[first], looks[first]
        best = self._find_time_to_beat(state, first)
        if best is not None and times[first] >= best.seconds:
            return self._decide(state, replace(_stop_task(task, StoppingState.EXCEEDED_BEST_TIME), beaten_by=best.name))
        if task.requested > task.completed:
            grown = self._add_references(task, records)
            if grown is None:
                return self._plan_rung(contenders, speeds, looks, best, records)
            return self._decide(state, grown)
        if not self._judge.has_enough(models[first], look.step):
            return self._decide(state, replace(task, stopping_state=StoppingState.EXCESS_FAILURES))
        if look.is_reported:
            return self._decide(state, self._take_look(state, task, models[first], speeds[first], look.step))
        return self._plan_rung(contenders, speeds, looks, best, records)

    def progress(self, state: ProxySearchState, records: Records) -> Progress:
        """Summarise the steps of the undecided tasks; the total assumes that none stops early."""
        own = [state.tasks[name] for name in self._proxy_tasks]
        open_tasks = [task for task in own if task.stopping_state is None]
        contenders = self._list_contenders(state)
        decided = len(own) - len(open_tasks)
        leader = max(contenders, key=lambda task: len(task.checks), default=None)
        shown = next((c.correlation for c in reversed(leader.checks)), None) if leader else None
        return Progress(
            stage=self.name,
            detail=_describe_progress(contenders, decided, len(own)),
            trials_done=sum(len(task.keys) for task in own if task.stopping_state is not None),
            trials_total=sum(len(task.keys) for task in own),
            steps_done=sum(records[spec.key].step for task in contenders for spec in self._list_task_specs(task)),
            steps_total=sum(task.total_steps * len(task.keys) for task in open_tasks),
            tau=None if shown is None else shown.tau,
        )

    def _write_task(self, task: TaskState) -> None:
        name = f"{self._prefix}/tasks/{task.name}"
        self._study.write(name, task)
        self._cache[name] = self._study.version(name), task

    def _list_contenders(self, state: ProxySearchState) -> list[TaskState]:
        """List the undecided tasks of this controller that are judged now."""
        open_tasks = [state.tasks[name] for name in self._proxy_tasks if state.tasks[name].stopping_state is None]
        return open_tasks if self._settings.policy == "race" else open_tasks[:1]

    def _make_spec(self, name: str, model: Reference) -> TrialSpec:
        # A spec caches its hash, and the race reads all specs repeatedly.
        if (name, model.number) not in self._specs:
            task = self._proxy_tasks[name]
            spec = TrialSpec(model.architecture, task, Split.SEARCH, self._seed, self._recipe)
            self._specs[name, model.number] = spec
            self._task_names.setdefault(spec.key, name)
        return self._specs[name, model.number]

    def _list_task_specs(self, task: TaskState) -> list[TrialSpec]:
        return [self._make_spec(task.name, model) for model in (*self._references, *task.added)]

    def _collect_models(self, task: TaskState, records: Records) -> JudgedModels:
        return JudgedModels((*self._references, *task.added), tuple(records[key] for key in task.keys), self._objective)

    def _resume_or_create(self, name: str, stored: Mapping[str, TaskState]) -> TaskState:
        task = stored.get(name)
        if task is not None and task.proxy_task != self._proxy_tasks[name]:
            if self._prefix != PREFIX:
                return self._resume_or_create(name, {other: stored[other] for other in stored if other != name})
            raise ConfigError(
                f"proxy task {name!r} must keep its setting during a study, got another setting than before: give the "
                f"new setting another name"
            )
        keys = tuple(self._make_spec(name, model).key for model in self._references)
        is_same = task is not None and task.keys[: len(keys)] == keys and task.judged_by == self._judged_by
        if task is not None and is_same and not self._is_judged_again(task):
            return task
        new = [other for other in self._proxy_tasks if other not in stored]
        number = task.number if task is not None else len(stored) + new.index(name)
        return TaskState(name, number, self._proxy_tasks[name], self._judged_by, keys, self._steps[name][-1])

    def _is_judged_again(self, task: TaskState) -> bool:
        """Return whether a task's failures may have been fixed, or its acceptance was stored before it had a bound."""
        lacks_bound = task.is_accepted and self._is_random and task.margin is None
        return lacks_bound or task.stopping_state is StoppingState.EXCESS_FAILURES

    def _measure_speed(self, name: str, models: JudgedModels) -> TaskSpeed | None:
        """Measure a task's speed on the selected references only, so that added references do not change it."""
        devices = self._make_spec(name, self._references[0]).devices
        return race.measure_speed(self._steps[name], models.records[: len(self._references)], devices)

    def _find_next_look(self, task: TaskState, models: JudgedModels) -> NextLook:
        """Find the next look at a task: the last one again if references were added after it."""
        again = bool(task.checks) and (task.checks[-1].models < len(task.keys) or task.requested > task.completed)
        looks = [check.step for check in task.checks]
        return race.find_next_look(looks, self._steps[task.name], models.records, again=again)

    def _find_time_to_beat(self, state: ProxySearchState, name: str) -> "_TimeToBeat | None":
        if not self._settings.early_stop_if_not_best:
            return None
        best = self._find_best({other: task for other, task in state.tasks.items() if other != name})
        if best is None or best.final_rated_seconds is None:
            # Times are measured within a tolerance: a task as expensive as full training is judged to its end.
            return _TimeToBeat(None, self._full_seconds * (1 + self._settings.time_tolerance))
        return _TimeToBeat(best.name, best.final_rated_seconds * (1 - self._settings.time_tolerance))

    def _find_best(self, tasks: Mapping[str, TaskState]) -> TaskState | None:
        return find_best_task(tasks, self._judged_by, time_tolerance=self._settings.time_tolerance)

    def _plan_speed_trials(
        self,
        contenders: Mapping[str, TaskState],
        speeds: Mapping[str, TaskSpeed],
        models: Mapping[str, JudgedModels],
    ) -> dict[str, int]:
        """Return the trials to train until the speed of every task is measured.

        Raises:
            StageStoppedError: The first two models of a task have no common step.
        """
        until: dict[str, int] = {}
        for name in (name for name in contenders if name not in speeds):
            task, steps = contenders[name], self._steps[name]
            records = dict(zip(task.keys, models[name].records, strict=True))
            rated, settled = race.find_rated_step(steps), find_settled_step(models[name].records)
            probed = probe_common_steps(records, task.total_steps)
            wanted = max(rated, find_requested_step(steps, settled))
            # The first two models show whether there are common steps at all, before the others train further.
            until |= probed if probed and settled >= rated else self._list_unfinished([(task, wanted)], records)
        return until

    def _plan_rung(
        self,
        contenders: Mapping[str, TaskState],
        task_speeds: Mapping[str, TaskSpeed],
        looks: Mapping[str, NextLook],
        best: "_TimeToBeat | None",
        records: Records,
    ) -> Train:
        """Return the trials to train before the next look: requested candidates first, then all tasks up to the rung.

        Even if each trial has a slot, fast tasks pause at the end of the rung; otherwise they would train far beyond
        the check that the slowest task still has to reach.
        """
        times = {name: task_speeds[name].seconds_at(look.step) for name, look in looks.items()}
        first = race.find_earliest(times)
        requested = {
            spec.key: spec.total_steps
            for spec in self._candidate_pool.requested_specs(contenders[first])
            if not (records[spec.key].is_failed or records[spec.key].reached(spec.total_steps))
        }
        start = max(speed.seconds_at(race.find_rated_step(speed.check_steps)) for speed in task_speeds.values())
        end = race.find_horizon(times[first], start, self._settings.rung_growth)
        if best is not None:
            end = min(end, best.seconds)  # later looks cannot be cheaper and are never taken
        step = looks[first].step
        in_turn = sorted(contenders, key=lambda name: times[name])
        until = {name: max(task_speeds[name].last_check_within(end), step if name == first else 0) for name in in_turn}
        return Train(
            until={
                **requested,
                **self._list_unfinished(((contenders[name], until[name]) for name in in_turn), records),
            },
            awaited=requested or self._list_unfinished([(contenders[first], step)], records),
        )

    def _list_unfinished(self, wanted: Iterable[tuple[TaskState, int]], records: Records) -> dict[str, int]:
        return {
            key: until
            for task, until in wanted
            for key in task.keys
            if not (records[key].is_failed or records[key].reached(until))
        }

    def _take_look(
        self, state: ProxySearchState, task: TaskState, models: JudgedModels, speed: TaskSpeed, step: int
    ) -> TaskState:
        """Look at a task at a step and return the task with the look, perhaps stopped or requesting references."""
        earlier = tuple(check for check in task.checks if check.step < step)
        steps = [*(check.step for check in earlier), step]
        plan = LookPlan(
            tasks=len(state.tasks),
            sizes=self._candidate_pool.sizes(len(self._references)),
        )
        check, verdict = self._judge.look(models, steps, speed, plan, total_steps=task.total_steps)
        is_last = step == task.total_steps
        judged = replace(task, checks=(*earlier, check), verdict=verdict)
        trained = max((other.completed for other in state.tasks.values()), default=0)
        if verdict.kind is not VerdictKind.ACCEPTED:
            requested = self._candidate_pool.count_requested(
                judged, verdict, len(task.keys), trained, is_last_look=is_last
            )
            if requested > task.requested:
                return replace(judged, requested=requested)
        stopping = self._choose_stopping_state(check, verdict, speed, is_last=is_last)
        if stopping is None:
            return judged
        stopped = _stop_task(judged, stopping)
        if not stopping.is_success:
            return stopped
        stopped = replace(stopped, saves_nothing=self._saves_nothing(check))
        if not self._is_random:
            return stopped
        evidence = self._judge.collect(models, steps, plan, total_steps=task.total_steps)
        return replace(stopped, margin=measure_margin(evidence.fractions, plan), bound=bound_selected_tau(evidence))

    def _saves_nothing(self, check: TaskCheck) -> bool:
        """Return whether training up to a check is no cheaper than full training."""
        return check.rated_seconds > self._full_seconds * (1 - self._settings.time_tolerance)

    def _add_references(self, task: TaskState, records: Records) -> TaskState | None:
        """Return the task with its requested references added; None while they still train."""
        trainable = self._candidate_pool.trainable(task, records)
        if trainable is None:
            return None
        keys = tuple(self._make_spec(task.name, model).key for model in trainable)
        grown = replace(task, added=(*task.added, *trainable), keys=(*task.keys, *keys), completed=task.requested)
        has_more_to_judge = bool(trainable) or task.checks[-1].step < task.total_steps
        return grown if has_more_to_judge else _stop_task(grown, StoppingState.RAN_TO_COMPLETION)

    def _choose_stopping_state(
        self, check: TaskCheck, verdict: Verdict, speed: TaskSpeed, *, is_last: bool
    ) -> StoppingState | None:
        settings = self._settings
        if verdict.kind is VerdictKind.ACCEPTED:
            return StoppingState.MET_CORRELATION
        if settings.desired_score is not None and not self._objective.is_better(
            settings.desired_score, check.median_score
        ):
            return StoppingState.MET_ACCURACY
        if (
            settings.train_seconds_limit is not None
            and check.rated_seconds >= speed.devices * settings.train_seconds_limit
        ):
            return StoppingState.EXCEEDED_TIME_LIMIT
        return StoppingState.RAN_TO_COMPLETION if is_last else None

    def _decide(self, state: ProxySearchState, task: TaskState) -> Decide[ProxySearchState]:
        before = state.tasks[task.name]
        changed = ProxySearchState({**state.tasks, task.name: task})
        return Decide(changed, _describe_change(before, task), _find_look(before, task))


@dataclass(frozen=True)
class _TimeToBeat:
    """The best accepted task, None for full training, and the rated training time that another task must stay below."""

    name: str | None
    seconds: float


def _stop_task(task: TaskState, stopping: StoppingState) -> TaskState:
    last = task.checks[-1] if task.checks else None
    return replace(
        task,
        stopping_state=stopping,
        final_step=None if last is None else last.step,
        final_train_seconds=None if last is None else last.median_train_seconds,
    )


def _describe_progress(contenders: Sequence[TaskState], decided: int, total: int) -> str:
    if not contenders:
        return ""
    names = contenders[0].name if len(contenders) == 1 else f"{len(contenders)} tasks race"
    added = sum(task.requested - task.completed for task in contenders)
    references = f", {added} references being added" if added else ""
    return f"{names} ({decided} of {total} decided{references})"


def _find_look(before: TaskState, task: TaskState) -> Look | None:
    """Return the look by which a task's state changed, if any."""
    if task.checks == before.checks or not task.checks or task.verdict is None:
        return None
    check = task.checks[-1]
    return Look(
        task=task.name,
        step=check.step,
        total_steps=task.total_steps,
        models=check.models,
        tau=None if check.correlation is None else check.correlation.tau,
        needed=check.needed,
        median_score=check.median_score,
        train_seconds=check.median_train_seconds,
        verdict=task.verdict.kind.value,
    )


def _describe_change(before: TaskState, task: TaskState) -> str | None:
    if task.requested > before.requested:
        tau = "" if task.checks[-1].correlation is None else f" at tau {task.checks[-1].correlation.tau:.2f}"
        added = task.requested - before.requested
        return f"{task.name}: inconclusive{tau} on {len(task.keys)} models, {added} references are added"
    if task.stopping_state is None:
        return None if before.stopping_state is None else f"{task.name}: continues, {before.beaten_by} was withdrawn"
    if task.stopping_state is StoppingState.CONTRADICTED:
        return None  # the confirmation has logged it
    last = task.checks[-1].correlation if task.checks else None
    tau = "" if last is None else f", tau {last.tau:.2f} on {last.n} models"
    seconds = "" if task.final_train_seconds is None else f" after {task.final_train_seconds:.1f} s of training"
    useless = ", but it is no cheaper than full training" if task.saves_nothing else ""
    return f"{task.name}: {task.stopping_state.value}{seconds}{tau}{useless}"
