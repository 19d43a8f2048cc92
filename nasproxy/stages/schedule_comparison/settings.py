"""Settings of the schedule comparison."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nasproxy.errors import ConfigError


@dataclass
class CompareSchedulesSettings:
    """Learning-rate schedules and weight smoothings to compare, in all combinations.

    Attributes:
        schedule: Values of `trainer.schedule`.
        smoothing: Values of `trainer.smoothing`.
    """

    schedule: list[str] = field(default_factory=lambda: ["constant", "step", "cosine"])
    smoothing: list[str] = field(default_factory=lambda: ["none", "ema"])

    def check_trainer(self, trainer: Mapping[str, Any]) -> None:
        """Check the settings against the study's trainer.

        Args:
            trainer: Configuration of the trainer; must have the arguments `schedule` and `smoothing`.

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
