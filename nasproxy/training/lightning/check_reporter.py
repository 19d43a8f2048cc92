"""Reporting of checks: the metrics of a validation and the training time before it."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from nasproxy.errors import ConfigError
from nasproxy.training.lightning.trial import Trial
from nasproxy.trials.clock import Clock, Stopwatch


class CycleReporter:
    """Reports the checks of a training and tracks the first step and the training time of the current cycle.

    Steps are counts of finished optimizer steps.
    """

    def __init__(self, trial: Trial, clock: Clock | None = None) -> None:
        self._trial = trial
        self._watch = Stopwatch(clock)
        self._begin = 0
        self._cycle: tuple[int, float] | None = None
        self._reported_seconds = 0.0

    def start(self, step: int) -> None:
        """Start the cycle of a training that begins, or resumes from a checkpoint, after `step` steps."""
        if self._cycle is None:
            self._begin = step
        else:
            self._begin, seconds = self._cycle
            self._watch.add(seconds)
            self._cycle = None
        self._watch.start()

    def state_dict(self) -> dict[str, Any]:
        """Return the first step of the current cycle and its training seconds so far."""
        return {"begin": self._begin, "seconds": self._watch.seconds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a cycle; it continues at the next `start`."""
        self._cycle = int(state["begin"]), float(state["seconds"])

    def pause(self) -> None:
        """Stop the training time, for validation or a checkpoint."""
        self._watch.pause()

    def resume(self) -> None:
        """Resume the training time."""
        self._watch.start()

    @property
    def begin(self) -> int:
        """Step of the last check."""
        return self._begin

    def is_new(self, step: int) -> bool:
        """Return whether the model was trained after the last check."""
        return step > self._begin

    def check(self, step: int, metrics: Mapping[str, float], *, write: bool = True) -> None:
        """Report the metrics after `step` steps.

        Args:
            step: Finished steps.
            metrics: Validation metrics by name.
            write: Whether this process writes the record.

        Raises:
            NonFiniteScoreError: The study's metric is NaN or infinite.
        """
        self._reported_seconds += self._watch.lap()
        self._begin = step
        if write:
            self._trial.report(step, metrics, self._reported_seconds)


def read_metrics(metrics: Mapping[str, Tensor], monitor: str, name: str, loss_sum: Tensor | None) -> dict[str, float]:
    """Read the logged metrics of a validation.

    Args:
        metrics: Logged metrics by name.
        monitor: Name of the logged metric that the study decides on.
        name: The study's name of it.
        loss_sum: Sum of the training losses since the last validation; None if the module returns no losses.

    Returns:
        The metrics that are single numbers, with the monitored one under the study's name; this one is NaN if a
        training loss since the last validation was not finite.

    Raises:
        ConfigError: No metric of that name was logged.
    """
    if monitor not in metrics:
        logged = ", ".join(sorted(metrics)) or "nothing"
        raise ConfigError(
            f"TrialCallback needs the metric {monitor!r} after each validation, got {logged}: "
            f"call self.log({monitor!r}, ...) in the validation, or choose another metric with monitor="
        )
    values = {key: float(value) for key, value in metrics.items() if value.numel() == 1}
    has_diverged = loss_sum is not None and not math.isfinite(float(loss_sum))
    return {**values, name: math.nan if has_diverged else values[monitor]}
