"""Proxy search: train the reference models under each proxy task until they rank as full training ranks them.

All proxy tasks race in lockstep of training time, or are tried one after the other. Their checks are judged in the
order of that time, each once every model has reached it, so that what is decided hangs neither on which trial was
fastest nor on how many run at once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nasproxy.errors import ConfigError
from nasproxy.stages.confirmation.state import ConfirmationState
from nasproxy.stages.proxy_search import race, reopening
from nasproxy.stages.proxy_search.judge import Judge, Models
from nasproxy.stages.proxy_search.race import Pace
from nasproxy.stages.proxy_search.settings import ProxySearchSettings
from nasproxy.stages.proxy_search.state import (
    KnownTasks,
    ProxySearchState,
    Rules,
    StoppingState,
    TaskCheck,
    TaskState,
    best_task,
    in_order,
    read_policy,
    read_rules,
    read_tasks,
)
from nasproxy.stages.references.candidate_pool import Reserve
from nasproxy.stages.references.state import Reference
from nasproxy.stages.runner import Decide, Records, Train
from nasproxy.statistics.acceptance import Criterion, Plan, Verdict, VerdictKind
from nasproxy.storage.files import stamp, write_record
from nasproxy.storage.leases import Lease
from nasproxy.tracking.tracker import Progress
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.spec import Recipe, Split, TrialSpec


class ProxySearchController:
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
        reserve: Reserve,
        recipe: Recipe,
        seed: int,
        folder: Path,
        confirmations: Sequence[ConfirmationState] = (),
    ) -> None:
        """Say what to judge.

        Args:
            settings: How.
            tasks: Proxy tasks by name, in the order of the grid.
            criterion: When a task is good.
            judged_by: The criterion and the settings in words, to know a change of them by.
            references: Models with full-training scores.
            reserve: Candidates that may become references while a verdict is undecided.
            recipe: The study's trainings.
            seed: Seed of every proxy training; another than the references'.
            folder: Where each task's state lives.
            confirmations: What became of earlier winners: a contradicted one is none.
        """
        settings.check()
        self._settings = settings
        self._proxy_tasks = dict(tasks)
        self._judge = Judge(criterion, settings.min_models, settings.min_valid_ratio)
        self._judged_by = judged_by
        self._references = tuple(references)
        self._reserve = reserve
        self._recipe = recipe
        self._seed = seed
        self._folder = folder
        self._confirmations = tuple(confirmations)
        self._known: KnownTasks = {}
        self._specs: dict[tuple[str, int], TrialSpec] = {}
        # Applying the overrides of every task now refuses a wrong one before the first trial.
        self._steps = {name: self._spec(name, self._references[0]).check_steps for name in self._proxy_tasks}

    def load(self) -> ProxySearchState:
        """All tasks that the study has judged, and this controller's own."""
        known = read_tasks(self._folder)
        own = {name: self._known_or_new(name, known) for name in self._proxy_tasks}
        return ProxySearchState(in_order({**known, **own}))

    def save(self, state: ProxySearchState) -> ProxySearchState:
        """Store the own tasks that changed, each in its file, and learn what others have decided."""
        # Jobs of one sweep write one file together: without the lease the slower would undo the faster.
        with Lease(self._folder.parent / "merge.lock").hold("the proxy search", wait_seconds=None):
            stored = read_tasks(self._folder, self._known)
            changed = [state.tasks[name] for name in self._proxy_tasks if stored.get(name) != state.tasks[name]]
            for task in changed:
                self._write(task)
            others = {name: task for name, task in stored.items() if name not in self._proxy_tasks}
            merged = ProxySearchState(in_order({**state.tasks, **others}))
            rules = Rules(self._judged_by, self._settings.policy)
            if (read_rules(self._folder), read_policy(self._folder)) != (rules.judged_by, rules.policy):
                write_record(self._folder.parent / "rules.json", rules)
        return merged

    def specs(self, state: ProxySearchState) -> list[TrialSpec]:
        """The trials of the tasks that are being judged, and of candidates called up as references."""
        contenders = self._contenders(state)
        proxies = [spec for task in contenders for spec in self._task_specs(task)]
        return [*proxies, *(spec for task in contenders for spec in self._reserve.called_up(task))]

    def next_action(self, state: ProxySearchState, records: Records) -> Train | Decide[ProxySearchState] | None:
        """Judge the check that comes first in training time, once all models of its task have reached it."""
        changed = reopening.next_change(state.tasks, self._proxy_tasks, self._confirmations)
        if changed is not None:
            return self._decide(state, changed)
        contenders = {task.name: task for task in self._contenders(state)}
        if not contenders:
            return None
        models = {name: self._models(task, records) for name, task in contenders.items()}
        paces = {name: self._pace(name, models[name]) for name in contenders}
        for name, task in contenders.items():
            until = race.rated_until(self._steps[name])
            if paces[name] is None and models[name].have_reached(until):
                return self._decide(state, replace(task, stopping_state=StoppingState.EXCESS_FAILURES))
        known = {name: pace for name, pace in paces.items() if pace is not None}
        if len(known) < len(contenders):
            return Train(self._unrated(contenders, known, records))
        times = {name: known[name].seconds_at(self._next_step(task)) for name, task in contenders.items()}
        first = race.earliest(times)
        task, step = contenders[first], self._next_step(contenders[first])
        best = self._to_beat(state, first)
        if best is not None and times[first] >= best.seconds:
            return self._decide(state, replace(_ended(task, StoppingState.EXCEEDED_BEST_TIME), beaten_by=best.name))
        if task.asked > task.settled:
            grown = self._grown(task, records)
            return self._rung(contenders, known, times, best, records) if grown is None else self._decide(state, grown)
        if not self._judge.has_enough(models[first], step):
            return self._decide(state, replace(task, stopping_state=StoppingState.EXCESS_FAILURES))
        if models[first].have_reached(step):
            return self._decide(state, self._judged(state, task, models[first], known[first]))
        return self._rung(contenders, known, times, best, records)

    def progress(self, state: ProxySearchState, records: Records) -> Progress:
        """Steps of the tasks that are yet to be judged, at most."""
        own = [state.tasks[name] for name in self._proxy_tasks]
        open_tasks = [task for task in own if task.stopping_state is None]
        contenders = self._contenders(state)
        decided = len(own) - len(open_tasks)
        leader = max(contenders, key=lambda task: len(task.checks), default=None)
        shown = next((c.correlation for c in reversed(leader.checks)), None) if leader else None
        return Progress(
            stage=self.name,
            detail=_detail(contenders, decided, len(own)),
            trials_done=sum(len(task.keys) for task in own if task.stopping_state is not None),
            trials_total=sum(len(task.keys) for task in own),
            steps_done=sum(records[spec.key].step for task in contenders for spec in self._task_specs(task)),
            steps_total=sum(task.total_steps * len(task.keys) for task in open_tasks),
            tau=None if shown is None else shown.tau,
        )

    def _write(self, task: TaskState) -> None:
        path = self._folder / f"{task.name}.json"
        write_record(path, task)
        self._known[path] = stamp(path), task

    def _contenders(self, state: ProxySearchState) -> list[TaskState]:
        """The own tasks that are judged now."""
        open_tasks = [state.tasks[name] for name in self._proxy_tasks if state.tasks[name].stopping_state is None]
        return open_tasks if self._settings.policy == "race" else open_tasks[:1]

    def _spec(self, name: str, model: Reference) -> TrialSpec:
        # Specs hash themselves once; a race looks at all of them again and again.
        if (name, model.number) not in self._specs:
            task = self._proxy_tasks[name]
            spec = TrialSpec(model.architecture, task, Split.SEARCH, self._seed, self._recipe)
            self._specs[name, model.number] = spec
        return self._specs[name, model.number]

    def _task_specs(self, task: TaskState) -> list[TrialSpec]:
        return [self._spec(task.name, model) for model in (*self._references, *task.added)]

    def _models(self, task: TaskState, records: Records) -> Models:
        return Models((*self._references, *task.added), tuple(records[key] for key in task.keys))

    def _known_or_new(self, name: str, all_known: Mapping[str, TaskState]) -> TaskState:
        known = all_known.get(name)
        if known is not None and known.proxy_task != self._proxy_tasks[name]:
            raise ConfigError(
                f"proxy task {name!r} must stay what it is in this study, and was another setting before: give the new "
                f"setting a name of its own"
            )
        keys = tuple(self._spec(name, model).key for model in self._references)
        is_same = known is not None and known.keys[: len(keys)] == keys and known.judged_by == self._judged_by
        if known is not None and is_same and known.stopping_state is not StoppingState.EXCESS_FAILURES:
            return known  # what failed from outside may have been mended, and is looked at again
        new = [other for other in self._proxy_tasks if other not in all_known]
        number = known.number if known is not None else len(all_known) + new.index(name)
        return TaskState(name, number, self._proxy_tasks[name], self._judged_by, keys, self._steps[name][-1])

    def _pace(self, name: str, models: Models) -> Pace | None:
        """The pace of the selected references: models that are added later do not change what is on record."""
        devices = self._spec(name, self._references[0]).devices
        return race.pace(self._steps[name], models.records[: len(self._references)], devices)

    def _next_step(self, task: TaskState) -> int:
        """The step to judge next; the last one again where references were added after it."""
        is_to_judge_again = bool(task.checks) and (task.checks[-1].models < len(task.keys) or task.asked > task.settled)
        return self._steps[task.name][len(task.checks) - is_to_judge_again]

    def _to_beat(self, state: ProxySearchState, name: str) -> "_Best | None":
        if not self._settings.early_stop_if_not_best:
            return None
        best = self._best({other: task for other, task in state.tasks.items() if other != name})
        if best is None or best.final_rated_seconds is None:
            return None
        return _Best(best.name, best.final_rated_seconds * (1 - self._settings.time_tolerance))

    def _best(self, tasks: Mapping[str, TaskState]) -> TaskState | None:
        return best_task(tasks, self._judged_by, time_tolerance=self._settings.time_tolerance)

    def _unrated(
        self, contenders: Mapping[str, TaskState], known: Mapping[str, Pace], records: Records
    ) -> dict[str, int]:
        """Trials to train until the speed of every task is known."""
        waiting = {name: race.rated_until(self._steps[name]) for name in contenders if name not in known}
        return self._open(((contenders[name], until) for name, until in waiting.items()), records)

    def _rung(
        self,
        contenders: Mapping[str, TaskState],
        paces: Mapping[str, Pace],
        times: Mapping[str, float],
        best: "_Best | None",
        records: Records,
    ) -> Train:
        """What to train before the next judgement: candidates called up first, then all tasks to the rung's end.

        Where each trial has a slot the small models are paused too: else they train far beyond the check that the
        slowest still has to reach.
        """
        first = race.earliest(times)
        called = {
            spec.key: spec.total_steps
            for spec in self._reserve.called_up(contenders[first])
            if not (records[spec.key].is_failed or records[spec.key].reached(spec.total_steps))
        }
        start = max(pace.seconds_at(race.rated_until(pace.check_steps)) for pace in paces.values())
        end = race.horizon(times[first], start, self._settings.rung_growth)
        if best is not None:
            end = min(end, best.seconds)  # a check that comes later could not be cheaper, and is never judged
        step = self._next_step(contenders[first])
        in_turn = sorted(contenders, key=lambda name: times[name])
        until = {name: max(paces[name].last_check_within(end), step if name == first else 0) for name in in_turn}
        return Train(
            until={**called, **self._open(((contenders[name], until[name]) for name in in_turn), records)},
            awaited=called or self._open([(contenders[first], step)], records),
        )

    def _open(self, wanted: Iterable[tuple[TaskState, int]], records: Records) -> dict[str, int]:
        return {
            key: until
            for task, until in wanted
            for key in task.keys
            if not (records[key].is_failed or records[key].reached(until))
        }

    def _judged(self, state: ProxySearchState, task: TaskState, models: Models, pace: Pace) -> TaskState:
        """The task with its next check, and its end or its wish for more references if that follows."""
        steps, step = self._steps[task.name], self._next_step(task)
        looks = steps.index(step) + 1
        plan = Plan(
            fractions=tuple(each / steps[-1] for each in steps),
            tasks=max(len(state.tasks), self._settings.tasks_planned or 0),
            sizes=self._reserve.sizes(len(self._references)),
        )
        check, verdict = self._judge.look(models, steps[:looks], pace, plan)
        is_last = looks == len(steps)
        judged = replace(task, checks=(*task.checks[: looks - 1], check), verdict=verdict)
        trained = max((other.settled for other in state.tasks.values()), default=0)
        if verdict.kind is not VerdictKind.ACCEPTED:
            asked = self._reserve.ask(judged, verdict, len(task.keys), trained, is_last_look=is_last)
            if asked > task.asked:
                return replace(judged, asked=asked)
        stopping = self._stopping_state(check, verdict, pace, is_last=is_last)
        return judged if stopping is None else _ended(judged, stopping)

    def _grown(self, task: TaskState, records: Records) -> TaskState | None:
        """The task with the references that were called up for it; None while these still train."""
        workable = self._reserve.workable(task, records)
        if workable is None:
            return None
        keys = tuple(self._spec(task.name, model).key for model in workable)
        grown = replace(task, added=(*task.added, *workable), keys=(*task.keys, *keys), settled=task.asked)
        has_more_to_judge = bool(workable) or len(task.checks) < len(self._steps[task.name])
        return grown if has_more_to_judge else _ended(grown, StoppingState.RAN_TO_COMPLETION)

    def _stopping_state(self, check: TaskCheck, verdict: Verdict, pace: Pace, *, is_last: bool) -> StoppingState | None:
        settings = self._settings
        if verdict.kind is VerdictKind.ACCEPTED:
            return StoppingState.MET_CORRELATION
        if settings.desired_score is not None and check.median_score >= settings.desired_score:
            return StoppingState.MET_ACCURACY
        if (
            settings.train_seconds_limit is not None
            and check.rated_seconds >= pace.devices * settings.train_seconds_limit
        ):
            return StoppingState.EXCEEDED_TIME_LIMIT
        return StoppingState.RAN_TO_COMPLETION if is_last else None

    def _decide(self, state: ProxySearchState, task: TaskState) -> Decide[ProxySearchState]:
        before = state.tasks[task.name]
        return Decide(ProxySearchState({**state.tasks, task.name: task}), _outcome(before, task))


@dataclass(frozen=True)
class _Best:
    """The accepted task that others must be cheaper than, and the training time they must stay below."""

    name: str
    seconds: float


def _ended(task: TaskState, stopping: StoppingState) -> TaskState:
    last = task.checks[-1] if task.checks else None
    return replace(
        task,
        stopping_state=stopping,
        final_step=None if last is None else last.step,
        final_train_seconds=None if last is None else last.median_train_seconds,
    )


def _detail(contenders: Sequence[TaskState], decided: int, total: int) -> str:
    if not contenders:
        return ""
    names = contenders[0].name if len(contenders) == 1 else f"{len(contenders)} tasks race"
    calls = sum(task.asked - task.settled for task in contenders)
    more = f", {calls} more references" if calls else ""
    return f"{names} ({decided} of {total} decided{more})"


def _outcome(before: TaskState, task: TaskState) -> str | None:
    if task.asked > before.asked:
        tau = "" if task.checks[-1].correlation is None else f" at tau {task.checks[-1].correlation.tau:.2f}"
        called = task.asked - before.asked
        return f"{task.name}: undecided{tau} on {len(task.keys)} models, {called} more are trained fully"
    if task.stopping_state is None:
        return None if before.stopping_state is None else f"{task.name}: goes on, for {before.beaten_by} is no winner"
    if task.stopping_state is StoppingState.CONTRADICTED:
        return None  # the confirmation has said so
    last = task.checks[-1].correlation if task.checks else None
    tau = "" if last is None else f", tau {last.tau:.2f} on {last.n} models"
    seconds = "" if task.final_train_seconds is None else f" after {task.final_train_seconds:.1f} s of training"
    return f"{task.name}: {task.stopping_state.value}{seconds}{tau}"
