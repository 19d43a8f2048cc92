"""The objective of a study: the metric that decisions are made on, and its direction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from nasproxy.errors import ConfigError

Mode = Literal["max", "min"]
Values = TypeVar("Values")


@dataclass(frozen=True)
class Objective:
    """The metric that decisions are made on.

    Metrics are stored and shown as they were reported; `orient` is the only place that applies a sign.

    Attributes:
        name: Name under which trainers report the metric.
        mode: Whether higher (`max`) or lower (`min`) values are better.

    Raises:
        ConfigError: The name is empty, or the mode is another one.
    """

    name: str = "accuracy"
    mode: Mode = "max"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ConfigError(f"metric.name must name a reported metric, got {self.name!r}: use metric.name=accuracy")
        if self.mode not in get_args(Mode):
            raise ConfigError(
                f"metric.mode must be max or min, got {self.mode!r}: use min if lower values are better, as for a loss"
            )

    def orient(self, values: Values) -> Values:
        """Return values, or an array of them, such that higher is better."""
        return values if self.mode == "max" else -values  # type: ignore[operator]  # numbers and arrays have a sign

    def is_better(self, value: float, other: float) -> bool:
        """Return whether a value is better than another one."""
        return self.orient(value) > self.orient(other)


LEAST_CURVES = 3
"""Curves that must all get worse before the direction of the metric is questioned."""


def has_opposite_direction(curves: Sequence[Sequence[float]], objective: Objective) -> bool:
    """Return whether all curves end worse than they began, so that the other mode is probably meant.

    Args:
        curves: Values of the metric at the checks of each training.
        objective: The metric and its direction.
    """
    known = [curve for curve in curves if len(curve) > 1]
    return len(known) >= LEAST_CURVES and all(objective.is_better(curve[0], curve[-1]) for curve in known)


def describe_opposite_direction(curves: int, objective: Objective) -> str:
    """Describe that all curves run against the mode, and what to do."""
    moves, mode = ("fall", "min") if objective.mode == "max" else ("rise", "max")
    return (
        f"all {curves} curves of {objective.name} {moves}, and metric.mode={objective.mode} prefers the opposite: set "
        f"metric.mode={mode} if {'lower' if mode == 'min' else 'higher'} values are better, and another study=NAME"
    )
