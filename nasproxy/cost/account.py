"""Account of a study: what it cost, what a proxy task saves, and the break-even number of searched models.

Two measures, never mixed: `sum_train_seconds` is training time alone; `wall_seconds` is all time that trials occupied
the machine, including validation, start-up and lost work. Both are sums over trials and over the devices of each trial,
so that trials that run at the same time all count.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from nasproxy.stages.proxy_search.state import TaskState
from nasproxy.stages.study_results import StudyResults, Trial, rank_purpose
from nasproxy.trials.records import TrialRecord


@dataclass(frozen=True)
class Cost:
    """Total cost of some trials.

    Attributes:
        trials: Number of trials.
        steps: Optimizer steps up to their last checks.
        train_seconds: Training time up to their last checks, in device seconds.
        wall_seconds: Wall time of all their ended workers, in device seconds.
        failed: Number of trials that failed without a retry.
        causes: Number of these trials by cause, the most frequent one first.
    """

    trials: int
    steps: int
    train_seconds: float
    wall_seconds: float
    failed: int
    causes: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, trials: Sequence[Trial]) -> "Cost":
        """Add up the costs of trials, including those of failed trials that have retries."""
        failed = [trial.alone for trial in trials if trial.alone.is_failed and not trial.alone.retries]
        causes = Counter("unknown" if r.status.cause is None else r.status.cause.value for r in failed)
        return cls(
            trials=len(trials),
            steps=sum(trial.alone.step for trial in trials),
            train_seconds=sum(trial.spec.devices * sum_train_seconds(trial.alone) for trial in trials),
            wall_seconds=sum(trial.spec.devices * trial.alone.status.wall_seconds for trial in trials),
            failed=len(failed),
            causes=tuple(causes.most_common()),
        )


@dataclass(frozen=True)
class Saving:
    """Cost of a model under a proxy task, up to its final step, and under full training.

    Attributes:
        full_seconds: Median time of a full training of a reference model, in device seconds.
        proxy_seconds: Median time of a proxy training up to the final step, in device seconds.
    """

    full_seconds: float
    proxy_seconds: float

    @property
    def ratio(self) -> float:
        """Factor by which the proxy task is cheaper."""
        return self.full_seconds / self.proxy_seconds

    def break_even(self, study_seconds: float) -> int | None:
        """Compute the break-even: searched models whose savings equal the study's cost; None without savings."""
        saved = self.full_seconds - self.proxy_seconds
        return math.ceil(study_seconds / saved) if saved > 0 else None


def sum_train_seconds(record: TrialRecord) -> float:
    """Return the training time of a trial up to its last check, in seconds, not multiplied by its devices."""
    return record.checks[-1].train_seconds if record.checks else 0.0


def count_stage_costs(results: StudyResults) -> dict[tuple[str, str | None], Cost]:
    """Compute the cost by stage and proxy task; a trial counts for what it was created for."""
    grouped: dict[tuple[str, str | None], list[Trial]] = {}
    for trial in results.trials.values():
        grouped.setdefault((trial.purpose, trial.task), []).append(trial)
    stages = sorted(grouped, key=lambda stage: (rank_purpose(stage[0]), stage[1] or ""))
    return {stage: Cost.of(grouped[stage]) for stage in stages}


def measure_train_saving(results: StudyResults, task: TaskState) -> Saving | None:
    """Measure the saving in training time; None before the task is decided or the references are trained."""
    if not results.references or not task.final_train_seconds:
        return None
    return Saving(median(reference.train_seconds for reference in results.references), task.final_train_seconds)


def measure_wall_saving(results: StudyResults, task: TaskState) -> Saving | None:
    """Measure the saving in wall time; None if unknown, or if trainers reported more seconds than passed.

    If a trial trained beyond the task's final step, its training time beyond it is left out, but all its other time
    (start-up, pauses, validation, lost work) counts, so that the saving is underestimated rather than overestimated.
    """
    if task.final_step is None:
        return None
    full = _compute_median_wall_seconds(results, (reference.key for reference in results.references), None)
    proxy = _compute_median_wall_seconds(results, task.keys, task.final_step)
    return None if full is None or proxy is None else Saving(full, proxy)


def _compute_median_wall_seconds(results: StudyResults, keys: Iterable[str], step: int | None) -> float | None:
    trials = [results.trials[key] for key in keys if key in results.trials]
    seconds = [
        trial.spec.devices * (trial.record.status.wall_seconds - _compute_seconds_beyond(trial.record, step))
        for trial in trials
        if trial.record.reached(step or 1) and trial.record.status.wall_seconds > sum_train_seconds(trial.record)
    ]
    return median(seconds) if seconds else None


def _compute_seconds_beyond(record: TrialRecord, step: int | None) -> float:
    check = None if step is None else record.check_at(step)
    return 0.0 if check is None else sum_train_seconds(record) - check.train_seconds
