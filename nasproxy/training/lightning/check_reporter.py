"""Reporting of checks: the score of a validation and the training cycle before it."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from nasproxy.errors import ConfigError
from nasproxy.training.hooks import ModelDir, update_trial_training_accuracy_metric
from nasproxy.trials.clock import Clock, Stopwatch


class CycleReporter:
    """Reports the checks of a training and tracks the first step and the training time of the current cycle.

    Steps are counts of finished optimizer steps.
    """

    def __init__(self, model_dir: ModelDir, total_steps: int, clock: Clock | None = None) -> None:
        self._model_dir = model_dir
        self._total_steps = total_steps
        self._watch = Stopwatch(clock)
        self._begin = 0
        self._cycle: tuple[int, float] | None = None

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

    def check(self, step: int, score: float, *, write: bool = True) -> None:
        """Report the score after `step` steps.

        Args:
            step: Finished steps.
            score: Validation metric, higher is better.
            write: Whether this process writes the record.

        Raises:
            NonFiniteScoreError: The score is NaN or infinite.
        """
        seconds, begin, self._begin = self._watch.lap(), self._begin, step
        if write:
            update_trial_training_accuracy_metric(self._model_dir, score, begin, step - 1, seconds, self._total_steps)


def get_monitored_score(metrics: Mapping[str, Tensor], monitor: str, loss_sum: Tensor | None) -> float:
    """Return the monitored score of a validation; NaN if a training loss since the last one was not finite.

    Args:
        metrics: Logged metrics by name.
        monitor: Name of the score, higher is better.
        loss_sum: Sum of the training losses since the last validation; None if the module returns no losses.

    Raises:
        ConfigError: No metric of that name was logged.
    """
    if monitor not in metrics:
        logged = ", ".join(sorted(metrics)) or "nothing"
        raise ConfigError(
            f"TrialCallback needs the metric {monitor!r} after each validation, got {logged}: "
            f"call self.log({monitor!r}, ...) in the validation, or choose another metric with monitor="
        )
    if loss_sum is not None and not math.isfinite(float(loss_sum)):
        return math.nan
    return float(metrics[monitor])
