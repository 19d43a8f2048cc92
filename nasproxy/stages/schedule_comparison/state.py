"""Stored state of the schedule comparison."""

from dataclasses import dataclass

from nasproxy.storage.study_stores import StudyStore
from nasproxy.trials.spec import Architecture

STATE = "schedule_comparison/state"
"""Name of the state in a study."""


@dataclass(frozen=True)
class ScheduleCurve:
    """Training of the model under one schedule and smoothing.

    Attributes:
        schedule: Name of the learning-rate schedule.
        smoothing: Name of the weight smoothing.
        key: Key of the trial.
        roughness: Roughness of the learning curve, lower is smoother; None if undefined or the trial failed.
        score: Last score; None if the trial failed.
    """

    schedule: str
    smoothing: str
    key: str
    roughness: float | None = None
    score: float | None = None

    @property
    def name(self) -> str:
        """Name of the combination, as text."""
        return self.schedule if self.smoothing == "none" else f"{self.schedule}, {self.smoothing}"


@dataclass(frozen=True)
class ScheduleComparisonState:
    """Decisions of the schedule comparison.

    Attributes:
        architecture: The trained architecture.
        curves: The trainings, one per pair of schedule and smoothing.
        is_measured: Whether all of them have ended and were measured.
    """

    architecture: Architecture
    curves: tuple[ScheduleCurve, ...]
    is_measured: bool = False


def read_comparison(study: StudyStore) -> ScheduleComparisonState | None:
    """Read the state of a study's schedule comparison; None before it."""
    return study.read(STATE, ScheduleComparisonState)
