"""Settings of the schedule comparison."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nasproxy.errors import ConfigError

LEAST_RANKED = 5
"""Models from which on tau is computed."""


@dataclass
class CompareSchedulesSettings:
    """Learning-rate schedules and weight smoothings to compare, in all combinations.

    Attributes:
        schedule: Values of `trainer.schedule`.
        smoothing: Values of `trainer.smoothing`.
        swa_start_fraction: Fraction of training after which `swa` averages, in [0, 1): the value of
            `trainer.smoothing_start_fraction` with it.
        models: Models to train under each combination: 1, or at least 5, whose ranks are compared as well.
    """

    schedule: list[str] = field(default_factory=lambda: ["constant", "step", "cosine"])
    smoothing: list[str] = field(default_factory=lambda: ["none", "ema", "swa"])
    swa_start_fraction: float = 0.75
    models: int = 1

    def check(self) -> None:
        """Check the numbers.

        Raises:
            ConfigError: A number is out of range.
        """
        if not 0 <= self.swa_start_fraction < 1:
            raise ConfigError(
                f"compare_schedules.swa_start_fraction must lie in [0, 1), got {self.swa_start_fraction:g}: give 0.75 "
                f"to average over the last quarter of training"
            )
        if self.models != 1 and self.models < LEAST_RANKED:
            raise ConfigError(
                f"compare_schedules.models must be 1, or at least {LEAST_RANKED} to compare ranks, got {self.models}"
            )

    def check_trainer(self, trainer: Mapping[str, Any]) -> None:
        """Check the settings against the study's trainer.

        Args:
            trainer: Configuration of the trainer; must have the arguments `schedule` and `smoothing`, and
                `smoothing_start_fraction` for `swa`.

        Raises:
            ConfigError: The trainer lacks an argument, or a list is empty or repeats a value.
        """
        for name in ("schedule", "smoothing"):
            values = getattr(self, name)
            if name not in trainer:
                raise ConfigError(
                    f"job=compare_schedules needs a trainer with {name!r}, got {trainer.get('_target_')} without: use "
                    f"trainer=image_classifier, or add this argument to your trainer"
                )
            if not values or len(set(values)) < len(values):
                raise ConfigError(
                    f"compare_schedules.{name} must list different values, got {values}: list each once, such as "
                    f"[{trainer[name]}]"
                )
        if "swa" in self.smoothing and "smoothing_start_fraction" not in trainer:
            raise ConfigError(
                f"compare_schedules.smoothing with swa needs a trainer with 'smoothing_start_fraction', got "
                f"{trainer.get('_target_')} without: add this argument to your trainer, or leave swa out"
            )
