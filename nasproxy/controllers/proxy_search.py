"""Proxy search: train the reference models under each proxy task until they rank as full training ranks them.

The cloud tool's third tool, with its stopping states. A check counts once every model has reached it, so that what
is decided does not hang on which model was fastest.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt

from nasproxy.controllers.base import Decide, Records, Train
from nasproxy.controllers.settings import ProxySearchSettings
from nasproxy.controllers.states import (
    ProxySearchState,
    Reference,
    Rules,
    StoppingState,
    TaskCheck,
    TaskState,
    best_task,
    in_order,
    read_tasks,
)
from nasproxy.controllers.vertex_files import write_search_controller_state
from nasproxy.errors import ConfigError
from nasproxy.proxy import ProxyTask
from nasproxy.statistics.acceptance import Criterion, Evidence, Verdict, VerdictKind
from nasproxy.statistics.rank_correlation import kendall_tau, rank_failed_last
from nasproxy.storage import Lease, write_record
from nasproxy.tracking.tracker import Progress
from nasproxy.trial import Recipe, Split, TrialRecord, TrialSpec


class ProxySearchController:
    """Judges proxy tasks one after the other."""

    name = "proxy_search"

    def __init__(
        self,
        settings: ProxySearchSettings,
        *,
        tasks: Mapping[str, ProxyTask],
        criterion: Criterion,
        judged_by: str,
        references: Sequence[Reference],
        recipe: Recipe,
        seed: int,
        slots: int,
        folder: Path,
    ) -> None:
        """Say what to judge.

        Args:
            settings: How.
            tasks: Proxy tasks by name, in the order to try them.
            criterion: When a task is good.
            judged_by: The criterion and the settings in words, to know a change of them by.
            references: Models with full-training scores.
            recipe: The study's trainings.
            seed: Seed of every proxy training; another than the references'.
            slots: Trials that run at once.
            folder: Where each task's state lives.
        """
        settings.check()
        self._settings = settings
        self._proxy_tasks = dict(tasks)
        self._criterion = criterion
        self._judged_by = judged_by
        self._references = tuple(references)
        self._recipe = recipe
        self._seed = seed
        self._slots = slots
        self._folder = folder
        self._specs = {name: self._task_specs(task) for name, task in self._proxy_tasks.items()}
        # Applying the overrides of every task now refuses a wrong one before the first trial.

    def load(self) -> ProxySearchState:
        """All tasks that the study has judged, and this controller's own."""
        known = read_tasks(self._folder)
        own = {name: self._known_or_new(name, known) for name in self._proxy_tasks}
        return ProxySearchState(in_order({**known, **own}))

    def save(self, state: ProxySearchState) -> ProxySearchState:
        """Store the own tasks that changed, each in its file, and learn what others have decided."""
        # Jobs of one sweep write one file together: without the lease the slower would undo the faster.
        with Lease(self._folder.parent / "merge.lock").hold("the proxy search", wait_seconds=None):
            known = read_tasks(self._folder)
            for name in self._proxy_tasks:
                if known.get(name) != state.tasks[name]:
                    write_record(self._folder / f"{name}.json", state.tasks[name])
            others = {name: task for name, task in known.items() if name not in self._proxy_tasks}
            merged = ProxySearchState(in_order({**state.tasks, **others}))
            write_record(self._folder.parent / "rules.json", Rules(self._judged_by))
            best = self._best(merged.tasks)
            write_search_controller_state(self._folder.parent / "SEARCH_CONTROLLER_STATE.json", merged.tasks, best)
        return merged

    def specs(self, state: ProxySearchState) -> list[TrialSpec]:
        """The trials of the task that is being judged."""
        current = self._current(state)
        return [] if current is None else list(self._specs[current.name])

    def next_action(self, state: ProxySearchState, records: Records) -> Train | Decide[ProxySearchState] | None:
        """Judge the first undecided task at each check that all its models have reached."""
        task = self._current(state)
        if task is None:
            return None
        judged = self._judge(task, records, self._time_to_beat(state, task))
        if judged != task:
            return Decide(ProxySearchState({**state.tasks, task.name: judged}), _outcome(judged))
        return Train(self._advance(task, records))

    def progress(self, state: ProxySearchState, records: Records) -> Progress:
        """Steps of the tasks that are yet to be judged, at most."""
        task = self._current(state)
        own = [state.tasks[name] for name in self._proxy_tasks]
        open_tasks = [t for t in own if t.stopping_state is None]
        decided = len(own) - len(open_tasks)
        shown = next((c.correlation for c in reversed(task.checks)), None) if task else None
        return Progress(
            stage=self.name,
            detail="" if task is None else f"{task.name} ({decided + 1} of {len(own)})",
            trials_done=decided * len(self._references),
            trials_total=len(own) * len(self._references),
            steps_done=sum(record.step for record in records.values()),
            steps_total=sum(t.total_steps * len(t.keys) for t in open_tasks),
            tau=None if shown is None else shown.tau,
        )

    def _task_specs(self, task: ProxyTask) -> tuple[TrialSpec, ...]:
        return tuple(
            TrialSpec(reference.architecture, task, Split.SEARCH, self._seed, self._recipe)
            for reference in self._references
        )

    def _known_or_new(self, name: str, all_known: Mapping[str, TaskState]) -> TaskState:
        specs, known = self._specs[name], all_known.get(name)
        if known is not None and known.proxy_task != self._proxy_tasks[name]:
            raise ConfigError(
                f"proxy task {name!r} must stay what it is in this study, and was another setting before: give the new "
                f"setting a name of its own"
            )
        keys = tuple(spec.key for spec in specs)
        is_same = known is not None and known.keys == keys and known.judged_by == self._judged_by
        if known is not None and is_same and known.stopping_state is not StoppingState.EXCESS_FAILURES:
            return known  # what failed from outside may have been mended, and is looked at again
        new = [other for other in self._proxy_tasks if other not in all_known]
        number = known.number if known is not None else len(all_known) + new.index(name)
        return TaskState(name, number, self._proxy_tasks[name], self._judged_by, keys, specs[0].total_steps)

    def _current(self, state: ProxySearchState) -> TaskState | None:
        return next((state.tasks[n] for n in self._proxy_tasks if state.tasks[n].stopping_state is None), None)

    def _time_to_beat(self, state: ProxySearchState, task: TaskState) -> float | None:
        if not self._settings.early_stop_if_not_best:
            return None
        others = {name: other for name, other in state.tasks.items() if name != task.name}
        best = self._best(others)
        if best is None or best.final_train_seconds is None:
            return None
        return best.final_train_seconds * (1 - self._settings.time_tolerance)

    def _best(self, tasks: Mapping[str, TaskState]) -> TaskState | None:
        return best_task(tasks, self._judged_by, time_tolerance=self._settings.time_tolerance)

    def _advance(self, task: TaskState, records: Records) -> dict[str, int]:
        steps = self._specs[task.name][0].check_steps
        until = steps[-1]
        if len(task.keys) > self._slots:
            # With fewer slots than models they take turns, or the last model would begin when the first has ended
            # and no early stop could save anything.
            reached = task.checks[-1].step if task.checks else 0
            stride = max(1, round(self._settings.advance_fraction * until))
            until = next(step for step in steps if step >= min((reached // stride + 1) * stride, until))
        return {key: until for key in task.keys if not (records[key].is_failed or records[key].reached(until))}

    def _judge(self, task: TaskState, records: Records, time_to_beat: float | None) -> TaskState:
        """The task with the next check that all models have reached, and its end if that decides it."""
        steps, number = self._specs[task.name][0].check_steps, len(task.checks)
        if number == len(steps):
            return task
        step = steps[number]
        present = [key for key in task.keys if not records[key].is_missing_at(step)]
        needed = max(self._settings.min_models, math.ceil(self._settings.min_valid_ratio * len(task.keys)))
        if len(present) < needed or all(records[key].has_failed_by(step) for key in present):
            return replace(task, stopping_state=StoppingState.EXCESS_FAILURES)
        if not all(_has_reached(records[key], step) for key in present):
            return task
        checks = (*task.checks, self._measure(task, records, step))
        verdict = self._criterion.judge(self._evidence(task, records, steps, number + 1))
        stopping = self._stopping_state(checks, verdict, time_to_beat, is_last=number + 1 == len(steps))
        judged = replace(task, checks=checks, verdict=verdict, stopping_state=stopping)
        if stopping is None:
            return judged
        last = checks[-1]
        return replace(judged, final_step=last.step, final_train_seconds=last.median_train_seconds)

    def _measure(self, task: TaskState, records: Records, step: int) -> TaskCheck:
        at_step = [check for key in task.keys if (check := records[key].check_at(step)) is not None]
        scores = self._scores(task, records, (step,))[0]
        return TaskCheck(
            step=step,
            correlation=kendall_tau(scores, self._reference_scores(), min_pairs=self._settings.min_models),
            median_score=median(check.score for check in at_step),
            median_train_seconds=median(check.train_seconds for check in at_step),
        )

    def _evidence(self, task: TaskState, records: Records, steps: Sequence[int], looks: int) -> Evidence:
        return Evidence(
            reference=self._reference_scores(),
            proxy=self._scores(task, records, steps[:looks]),
            fractions=np.array(steps[:looks]) / steps[-1],
            looks_planned=len(steps),
            tasks_planned=len(self._proxy_tasks),
        )

    def _reference_scores(self) -> npt.NDArray[np.float64]:
        return np.array([reference.score for reference in self._references])

    def _scores(self, task: TaskState, records: Records, steps: Sequence[int]) -> npt.NDArray[np.float64]:
        rows = []
        for step in steps:
            checks = [records[key].check_at(step) for key in task.keys]
            failed = [records[key].has_failed_by(step) for key in task.keys]
            scores = np.array([np.nan if check is None else check.score for check in checks])
            rows.append(rank_failed_last(scores, np.array(failed)))
        return np.array(rows)

    def _stopping_state(
        self, checks: Sequence[TaskCheck], verdict: Verdict, time_to_beat: float | None, *, is_last: bool
    ) -> StoppingState | None:
        last, settings = checks[-1], self._settings
        if verdict.kind is VerdictKind.ACCEPTED:
            return StoppingState.MET_CORRELATION
        if settings.desired_score is not None and last.median_score >= settings.desired_score:
            return StoppingState.MET_ACCURACY
        if settings.train_seconds_limit is not None and last.median_train_seconds >= settings.train_seconds_limit:
            return StoppingState.EXCEEDED_TIME_LIMIT
        if time_to_beat is not None and last.median_train_seconds >= time_to_beat:
            return StoppingState.EXCEEDED_BEST_TIME
        return StoppingState.RAN_TO_COMPLETION if is_last else None


def _has_reached(record: TrialRecord, step: int) -> bool:
    return record.is_failed or record.reached(step)


def _outcome(task: TaskState) -> str | None:
    if task.stopping_state is None:
        return None
    last = task.checks[-1].correlation if task.checks else None
    tau = "" if last is None else f", tau {last.tau:.2f}"
    seconds = "" if task.final_train_seconds is None else f" after {task.final_train_seconds:.1f} s of training"
    return f"{task.name}: {task.stopping_state.value}{seconds}{tau}"
