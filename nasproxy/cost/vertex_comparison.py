"""Compute what the same study would have cost with Vertex AI NAS, from the seconds that this study measured.

Computed twice: for the tool as it is, whose resume restores weights only and whose stop message is never written, and
for the tool with both faults fixed. Uses its published constants and this study's trainings; the tool was not run.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from nasproxy.cost.account import Cost, count_stage_costs, sum_train_seconds
from nasproxy.errors import TooFewTrialsError
from nasproxy.stages.common_steps import list_common_steps
from nasproxy.stages.proxy_search.rules import read_settings
from nasproxy.stages.proxy_search.settings import ProxySearchSettings
from nasproxy.stages.proxy_search.state import TaskState
from nasproxy.stages.references.spread_selection import SpreadSelection
from nasproxy.stages.study_results import Purpose, StudyResults, rank_purpose, read_target
from nasproxy.statistics.acceptance import ROUNDING
from nasproxy.statistics.rank_correlation import kendall_tau
from nasproxy.statistics.spread import selection_cost
from nasproxy.trials.objective import Objective
from nasproxy.trials.records import TrialRecord

VARIANCE_SEEDS = 5
"""Trainings of Vertex AI NAS's variance measurement."""
WAYS = ("study", "as_it_is", "corrected")


@dataclass(frozen=True)
class Effort:
    """Cost of trainings.

    Attributes:
        trainings: Number of full trainings with the same total of steps.
        seconds: Training time, in device seconds.
        is_at_least: Whether this is a lower limit, because the trainings of this study ended earlier.
    """

    trainings: float
    seconds: float
    is_at_least: bool = False

    def __add__(self, other: "Effort") -> "Effort":
        is_at_least = self.is_at_least or other.is_at_least
        return Effort(self.trainings + other.trainings, self.seconds + other.seconds, is_at_least)


@dataclass(frozen=True)
class StageComparison:
    """Cost of a stage, or of one proxy task, in three ways; None if a way has no such stage.

    Attributes:
        stage: Name of the stage.
        task: Name of the proxy task; None for other stages.
        study: Cost in this study.
        as_it_is: Cost with Vertex AI NAS.
        corrected: Cost with Vertex AI NAS if its two faults were fixed.
    """

    stage: str
    task: str | None
    study: Effort | None
    as_it_is: Effort | None
    corrected: Effort | None


def compare_with_vertex(results: StudyResults) -> list[StageComparison]:
    """Compare the costs of all stages and their total; empty if this study lacks the data for it."""
    tasks = list(results.tasks.values())
    full_steps, wanted = results.full_steps, _read_target(results)
    if not (tasks and results.references and full_steps) or wanted is None:
        return []
    if any(task.stopping_state is None for task in tasks):
        return []
    full_seconds = median(reference.train_seconds for reference in results.references)
    trainings = [_Trainings.of(results, task, full_steps) for task in tasks]
    if full_seconds <= 0 or not all(task_trainings.is_complete for task_trainings in trainings):
        return []
    rows = list(_make_rows(results, full_steps, full_seconds, dict(zip(results.tasks, trainings, strict=True)), wanted))
    sums = [_add_up(getattr(row, way) for row in rows) for way in WAYS]
    return [*rows, StageComparison("total", None, *sums)]


def _make_rows(
    results: StudyResults, full_steps: int, full_seconds: float, trainings: Mapping[str, "_Trainings"], wanted: float
) -> Iterator[StageComparison]:
    models = min(SpreadSelection().models, len(results.references))
    settings = SpreadSelection()
    plan = settings.start_models, models, settings.remove_per_iteration
    resumed, restarted = selection_cost(*plan), selection_cost(*plan, is_resumed=False)
    as_it_is: dict[tuple[str, str | None], Effort] = {}
    corrected: dict[tuple[str, str | None], Effort] = {}
    as_it_is[Purpose.SELECTION.value, None] = Effort(restarted, restarted * full_seconds)
    corrected[Purpose.SELECTION.value, None] = Effort(resumed, resumed * full_seconds)
    variance_cost = _estimate_variance_cost(results, full_steps)
    if variance_cost is not None:
        as_it_is[Purpose.VARIANCE.value, None] = corrected[Purpose.VARIANCE.value, None] = variance_cost
    stops = _find_stops(results, trainings, wanted)
    for name, task_trainings in trainings.items():
        as_it_is[Purpose.PROXY_SEARCH.value, name] = task_trainings.cost_to_end(models, results.time_limit)
        corrected[Purpose.PROXY_SEARCH.value, name] = task_trainings.cost_until(stops[name], models)
    study = {place: _make_effort(cost, full_steps) for place, cost in count_stage_costs(results).items()}
    names = list(trainings)
    places = sorted(
        study.keys() | as_it_is.keys(),
        key=lambda place: (rank_purpose(place[0]), names.index(place[1]) if place[1] in names else len(names)),
    )
    for stage, task in places:
        place = (stage, task)
        yield StageComparison(stage, task, study.get(place), as_it_is.get(place), corrected.get(place))


def _estimate_variance_cost(results: StudyResults, full_steps: int) -> Effort | None:
    measured = results.measured
    trials = [] if measured is None else [results.trials[key] for key in measured.keys if key in results.trials]
    if not trials:
        return None
    seconds = fmean(trial.spec.devices * sum_train_seconds(trial.record) for trial in trials)
    return Effort(VARIANCE_SEEDS * trials[0].spec.total_steps / full_steps, VARIANCE_SEEDS * seconds)


def _find_stops(results: StudyResults, trainings: Mapping[str, "_Trainings"], wanted: float) -> dict[str, int | None]:
    """Find the step at which each task would be stopped, in sequence; None if this study did not train that far."""
    settings, limit = read_settings(results.judged_by), results.time_limit
    score = settings.get("desired_score")
    stops_early = bool(settings.get("early_stop_if_not_best", ProxySearchSettings.early_stop_if_not_best))
    best: float | None = None
    stops: dict[str, int | None] = {}
    for name, task_trainings in trainings.items():
        ends = [seconds for seconds in (limit, best if stops_early else None) if seconds is not None]
        stops[name], has_crossed = task_trainings.find_first_stop(wanted, score, min(ends, default=None))
        stop = stops[name]
        if has_crossed and stop is not None:
            seconds = task_trainings.compute_median_seconds(stop)
            best = seconds if best is None else min(best, seconds)
    return stops


@dataclass(frozen=True)
class _Trainings:
    """The selected references' trainings under one proxy task, as this study has them."""

    records: Sequence[TrialRecord]
    scores: Sequence[float]
    check_steps: Sequence[int]
    full_steps: int
    devices: int
    objective: Objective

    @classmethod
    def of(cls, results: StudyResults, task: TaskState, full_steps: int) -> "_Trainings":
        keys = [key for key in task.keys[: len(task.keys) - len(task.added)] if key in results.trials]
        first = results.trials[keys[0]].spec if keys else None
        records = [results.trials[key].record for key in keys]
        return cls(
            records=records,
            scores=[reference.score for reference in results.references],
            check_steps=() if first is None else _list_look_steps(records, first.check_steps),
            full_steps=full_steps,
            devices=1 if first is None else first.devices,
            objective=results.objective,
        )

    @property
    def is_complete(self) -> bool:
        """Whether the speed of every training is known, except for those that failed before their first check."""
        is_shown = [bool(record.checks) or record.is_failed for record in self.records]
        return len(is_shown) == len(self.scores) and all(is_shown) and any(r.checks for r in self.records)

    def find_first_stop(self, wanted: float, score: float | None, longest: float | None) -> tuple[int | None, bool]:
        """Find the first step at which tau or score suffices or the time limit is reached, and whether it suffices.

        Args:
            wanted: Target of tau.
            score: Target of the median score; None for none.
            longest: Time limit in seconds; None for none.

        Returns:
            The step (None if the study did not train that far), and whether tau or the score reached its target.
        """
        for step in self.check_steps:
            if not all(record.reached(step) or record.is_failed for record in self.records):
                # At the measured speed the time limit is reached here, for any scores.
                is_late = longest is not None and self._extrapolate_seconds(step) >= longest
                return (step if is_late else None), False
            if self._has_crossed(step, wanted) or self._is_score_reached(step, score):
                return step, True
            if longest is not None and self.compute_median_seconds(step) >= longest:
                return step, False
        return self.check_steps[-1], False

    def compute_median_seconds(self, step: int) -> float:
        """Compute the median training time of the models that reached a step, in seconds; infinite if none did."""
        checks = [check for record in self.records if (check := record.check_at(step)) is not None]
        return median(check.train_seconds for check in checks) if checks else float("inf")

    def cost_until(self, stop: int | None, models: int) -> Effort:
        """Compute the cost of so many trainings up to a step; None for the last step that all of them reached."""
        step = stop if stop is not None else self._common_step
        return self._average(
            [self._extrapolate(record, step) for record in self.records], models, is_at_least=stop is None
        )

    def cost_to_end(self, models: int, limit: float | None) -> Effort:
        """Compute the cost of so many trainings to the end, or to a time limit each, at the measured speed."""
        ends = []
        for record in self.records:
            step, seconds = self._extrapolate(record, self.check_steps[-1])
            share = 1.0 if limit is None or seconds <= limit else limit / seconds
            ends.append((step * share, seconds * share))
        return self._average(ends, models, is_at_least=False)

    @property
    def _common_step(self) -> int:
        return min((record.step for record in self.records if not record.is_failed), default=0)

    def _is_score_reached(self, step: int, wanted: float | None) -> bool:
        scores = [check.score for record in self.records if (check := record.check_at(step)) is not None]
        return wanted is not None and bool(scores) and not self.objective.is_better(wanted, median(scores))

    def _has_crossed(self, step: int, wanted: float) -> bool:
        checks = [record.check_at(step) for record in self.records]
        try:
            found = kendall_tau([float("nan") if c is None else c.score for c in checks], self.scores)
        except TooFewTrialsError:
            return False
        return found is not None and found.tau >= wanted - ROUNDING

    def _extrapolate_seconds(self, step: int) -> float:
        return median(self._extrapolate(record, step)[1] for record in self.records if record.checks)

    def _extrapolate(self, record: TrialRecord, step: int) -> tuple[float, float]:
        """Compute steps and seconds up to a step, extrapolated beyond the last check unless the trial failed."""
        within = [check for check in record.checks if 0 < check.step <= step]
        if not within:
            return 0.0, 0.0
        last = within[-1]
        longer = 1.0 if record.reached(step) or record.is_failed else step / last.step
        return last.step * longer, last.train_seconds * longer

    def _average(self, ends: Sequence[tuple[float, float]], models: int, *, is_at_least: bool) -> Effort:
        steps, seconds = (fmean(values) for values in zip(*ends, strict=True))
        return Effort(models * steps / self.full_steps, models * seconds * self.devices, is_at_least)


def _list_look_steps(records: Sequence[TrialRecord], check_steps: Sequence[int]) -> tuple[int, ...]:
    """List the common steps of the trainings, and the requested steps that they have not reached."""
    settled = min((record.step for record in records if not record.is_failed), default=0)
    later = [step for step in check_steps if step > settled]
    return tuple(sorted({*list_common_steps(records), *later, check_steps[-1]}))


def _read_target(results: StudyResults) -> float | None:
    return next((read_target(task) for task in results.tasks.values() if task.judged_by == results.judged_by), None)


def _make_effort(cost: Cost, full_steps: int) -> Effort:
    return Effort(cost.steps / full_steps, cost.train_seconds)


def _add_up(efforts: Iterator[Effort | None]) -> Effort:
    return sum((effort for effort in efforts if effort is not None), Effort(0.0, 0.0))
