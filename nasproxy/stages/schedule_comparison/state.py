"""Stored state of the schedule comparison."""

from dataclasses import dataclass

from nasproxy.storage.study_stores import StudyStore
from nasproxy.trials.spec import Architecture

STATE = "schedule_comparison/state"
"""Name of the state in a study."""


@dataclass(frozen=True)
class ScheduleCurve:
    """Trainings under one schedule and smoothing.

    Attributes:
        schedule: Name of the learning-rate schedule.
        smoothing: Name of the weight smoothing.
        key: Key of the first model's trial.
        roughness: Mean roughness of the learning curves, lower is smoother; None if undefined or all trials failed.
        score: Mean last score; None if all trials failed.
        late_change: Mean over the models of the largest difference between the last score and those of the last
            quarter of training; None if all trials failed.
        late_tau: Lowest tau between the final ranks and those at the checks of the last quarter of training; None if
            fewer than 5 models have scores, or if it is undefined.
        further_keys: Keys of the trials of the other models.
    """

    schedule: str
    smoothing: str
    key: str
    roughness: float | None = None
    score: float | None = None
    late_change: float | None = None
    late_tau: float | None = None
    further_keys: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the combination, as text."""
        return self.schedule if self.smoothing == "none" else f"{self.schedule}, {self.smoothing}"

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all trials."""
        return (self.key, *self.further_keys)

    @property
    def is_measured(self) -> bool:
        """Whether a model trained to the end and was measured."""
        return self.late_change is not None


@dataclass(frozen=True)
class ScheduleComparisonState:
    """Decisions of the schedule comparison.

    Attributes:
        architecture: The first trained architecture.
        curves: The trainings, one entry per pair of schedule and smoothing.
        is_measured: Whether all of them have ended and were measured.
    """

    architecture: Architecture
    curves: tuple[ScheduleCurve, ...]
    is_measured: bool = False


def read_comparison(study: StudyStore) -> ScheduleComparisonState | None:
    """Read the state of a study's schedule comparison; None before it."""
    return study.read(STATE, ScheduleComparisonState)
