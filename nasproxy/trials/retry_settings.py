"""Settings of retries for trials that ran out of memory or diverged."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nasproxy.errors import ConfigError

NAN_ARGUMENTS = {"fail": None, "lower_rate": "learning_rate", "clip": "clip_norm"}
"""What may be done about a loss that is not finite, and the trainer's argument that it changes."""


@dataclass
class RetrySettings:
    """What is done about a trial that failed by its own fault: another one may stand in for it.

    Attributes:
        max_oom_retries: How often the micro-batch may be halved after running out of memory; 0 lets the trial fail.
        on_nan: What follows a loss that is not finite: `fail`; or once another trial with a lower learning rate
            (`lower_rate`), or with clipped gradients (`clip`).
        learning_rate_factor: What `lower_rate` multiplies the learning rate by.
        clip_norm: Largest norm of the gradient under `clip`.
    """

    max_oom_retries: int = 4
    on_nan: str = "fail"
    learning_rate_factor: float = 0.5
    clip_norm: float = 1.0

    def check(self, trainer: Mapping[str, Any]) -> None:
        """Refuse what cannot work.

        Args:
            trainer: The study's trainer, which must have the argument that is to be changed.

        Raises:
            ConfigError: A number is out of range, or the trainer lacks the argument.
        """
        if self.max_oom_retries < 0:
            raise ConfigError(
                f"failures.max_oom_retries must be at least 0, got {self.max_oom_retries}: 0 halves nothing"
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
                f"have: give it "
                f"one, or take failures.on_nan=fail"
            )
