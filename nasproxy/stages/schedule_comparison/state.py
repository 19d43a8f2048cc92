"""State of the comparison of schedules, as it is stored."""

from dataclasses import dataclass

from nasproxy.trials.spec import Architecture


@dataclass(frozen=True)
class ScheduleCurve:
    """One training of the comparison of schedules.

    Attributes:
        schedule: How the learning rate moved.
        smoothing: How the weights were smoothed.
        key: Its trial.
        smoothness: Of its learning curve, lower is smoother; None where it is undefined, or it failed.
        score: Its last score; None where it failed.
    """

    schedule: str
    smoothing: str
    key: str
    smoothness: float | None = None
    score: float | None = None

    @property
    def name(self) -> str:
        """What tells it from the others, in words."""
        return self.schedule if self.smoothing == "none" else f"{self.schedule}, {self.smoothing}"


@dataclass(frozen=True)
class ScheduleComparisonState:
    """What is known of the comparison of schedules.

    Attributes:
        architecture: What was trained.
        curves: The trainings.
        is_measured: Whether all of them have ended.
    """

    architecture: Architecture
    curves: tuple[ScheduleCurve, ...]
    is_measured: bool = False
