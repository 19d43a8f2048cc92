"""Settings of what follows the failure of a trial: attempts at the same trial, and retries of a changed one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nasproxy.errors import ConfigError

NAN_ARGUMENTS = {"fail": None, "lower_rate": "learning_rate", "clip": "clip_norm"}
"""Policies for a non-finite loss, with the trainer's argument that each one changes."""


@dataclass
class RetrySettings:
    """Attempts at crashed and lost trials, and retries for out-of-memory and diverged ones.

    Attributes:
        max_attempts: Consecutive attempts of a trial that crashes or is lost without a new check; 1 repeats none.
        max_oom_retries: How often the micro-batch may be halved after running out of memory; 0 lets the trial fail.
        on_nan: Policy for a non-finite loss: `fail`, or retry once with a lower learning rate (`lower_rate`) or with
            clipped gradients (`clip`).
        learning_rate_factor: Factor on the learning rate under `lower_rate`, in (0, 1).
        clip_norm: Maximum gradient norm under `clip`, above 0.
    """

    max_attempts: int = 3
    max_oom_retries: int = 4
    on_nan: str = "fail"
    learning_rate_factor: float = 0.5
    clip_norm: float = 1.0

    def check(self, trainer: Mapping[str, Any]) -> None:
        """Check the settings against the study's trainer.

        Args:
            trainer: Configuration of the trainer; must have the argument that `on_nan` changes.

        Raises:
            ConfigError: A value is out of range, or the trainer lacks the argument.
        """
        if self.max_attempts < 1:
            raise ConfigError(f"failures.max_attempts must be at least 1, got {self.max_attempts}: 1 repeats no trial")
        if self.max_oom_retries < 0:
            raise ConfigError(
                f"failures.max_oom_retries must be at least 0, got {self.max_oom_retries}: use 0 for no retries"
            )
        if self.on_nan not in NAN_ARGUMENTS:
            raise ConfigError(f"failures.on_nan must be one of {', '.join(NAN_ARGUMENTS)}, got {self.on_nan!r}")
        if not 0 < self.learning_rate_factor < 1:
            raise ConfigError(
                f"failures.learning_rate_factor must lie between 0 and 1, got {self.learning_rate_factor:g}: give 0.5"
            )
        if not 0 < self.clip_norm < math.inf:
            raise ConfigError(f"failures.clip_norm must be above 0, got {self.clip_norm:g}")
        argument = NAN_ARGUMENTS[self.on_nan]
        if argument is not None and argument not in trainer:
            raise ConfigError(
                f"failures.on_nan={self.on_nan} changes trainer.{argument}, which the study's trainer does not "
                f"have: add it to the trainer, or use failures.on_nan=fail"
            )
