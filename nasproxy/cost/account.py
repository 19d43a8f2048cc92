"""What a study cost, what a proxy task saves, and after how many models the one has paid for the other.

Two prices, never mixed: `sum_train_seconds` is training alone; `wall_seconds` is all that trials took from the machine,
validation, start-up and lost work included. Both add up over trials and over the devices of each: of what runs side by
side, each counts in full.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from nasproxy.stages.proxy_search.state import TaskState
from nasproxy.stages.study_results import Purpose, StudyResults, Trial
from nasproxy.trials.records import TrialRecord


@dataclass(frozen=True)
class Cost:
    """What trials cost together.

    Attributes:
        trials: How many.
        steps: Optimizer steps up to their last checks.
        train_seconds: Training time up to there.
        wall_seconds: Time of all their workers that ended.
        failed: Trials that failed for good.
        causes: How many of these failed for which cause, most frequent first.
    """

    trials: int
    steps: int
    train_seconds: float
    wall_seconds: float
    failed: int
    causes: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, trials: Sequence[Trial]) -> "Cost":
        """Add up trials, those among them that others stand in for."""
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
    """What a model costs under a proxy task at its last step, against full training.

    Attributes:
        full_seconds: Full training of a reference model, median, of all its devices together.
        proxy_seconds: A proxy training up to the step, likewise.
    """

    full_seconds: float
    proxy_seconds: float

    @property
    def ratio(self) -> float:
        """How many times cheaper the proxy task is."""
        return self.full_seconds / self.proxy_seconds

    def break_even(self, study_seconds: float) -> int | None:
        """Models to search until the study has paid for itself; None where the proxy task saves nothing."""
        saved = self.full_seconds - self.proxy_seconds
        return math.ceil(study_seconds / saved) if saved > 0 else None


def sum_train_seconds(record: TrialRecord) -> float:
    """Training time of a trial up to its last check, however many devices it was spread over."""
    return record.checks[-1].train_seconds if record.checks else 0.0


def count_stage_costs(results: StudyResults) -> dict[tuple[Purpose, str | None], Cost]:
    """Cost of each stage, and of each proxy task apart; a trial counts where it was used first."""
    grouped: dict[tuple[Purpose, str | None], list[Trial]] = {}
    for trial in results.trials.values():
        grouped.setdefault((trial.stage, trial.task), []).append(trial)
    order = list(Purpose)
    stages = sorted(grouped, key=lambda stage: (order.index(stage[0]), stage[1] or ""))
    return {stage: Cost.of(grouped[stage]) for stage in stages}


def measure_train_saving(results: StudyResults, task: TaskState) -> Saving | None:
    """What is saved of training time; None before the task has ended or the references are trained."""
    if not results.references or not task.final_train_seconds:
        return None
    return Saving(median(reference.train_seconds for reference in results.references), task.final_train_seconds)


def measure_wall_saving(results: StudyResults, task: TaskState) -> Saving | None:
    """What is saved with all costs counted; None where these are not known, or trainers made up their seconds.

    Of a trial that went on beyond the task's last step the training beyond it is left out; what it spent beside
    training (start-up, pauses, validation, lost work) counts whole: the saving is rather under- than overstated.
    """
    if task.final_step is None:
        return None
    full = _median_wall_seconds(results, (reference.key for reference in results.references), None)
    proxy = _median_wall_seconds(results, task.keys, task.final_step)
    return None if full is None or proxy is None else Saving(full, proxy)


def _median_wall_seconds(results: StudyResults, keys: Iterable[str], step: int | None) -> float | None:
    trials = [results.trials[key] for key in keys if key in results.trials]
    seconds = [
        trial.spec.devices * (trial.record.status.wall_seconds - _seconds_beyond(trial.record, step))
        for trial in trials
        if trial.record.reached(step or 1) and trial.record.status.wall_seconds > sum_train_seconds(trial.record)
    ]
    return median(seconds) if seconds else None


def _seconds_beyond(record: TrialRecord, step: int | None) -> float:
    check = None if step is None else record.check_at(step)
    return 0.0 if check is None else sum_train_seconds(record) - check.train_seconds
