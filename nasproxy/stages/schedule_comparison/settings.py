"""Settings of the comparison of schedules."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nasproxy.errors import ConfigError


@dataclass
class CompareSchedulesSettings:
    """Which ways to move the learning rate and to smooth the weights are compared, each with each.

    Attributes:
        schedule: Values of `trainer.schedule`.
        smoothing: Values of `trainer.smoothing`.
    """

    schedule: list[str] = field(default_factory=lambda: ["constant", "step", "cosine"])
    smoothing: list[str] = field(default_factory=lambda: ["none", "ema"])

    def check(self, trainer: Mapping[str, Any]) -> None:
        """Refuse what cannot be compared.

        Args:
            trainer: The configured trainer, which must have both arguments.

        Raises:
            ConfigError: The trainer lacks one of them, or a list is empty or repeats a value.
        """
        for name in ("schedule", "smoothing"):
            values = getattr(self, name)
            if name not in trainer:
                raise ConfigError(
                    f"job=compare_schedules needs a trainer with {name!r}, got {trainer.get('_target_')} without: take "
                    f"trainer=image_classifier, or give yours such an argument"
                )
            if not values or len(set(values)) < len(values):
                raise ConfigError(
                    f"compare_schedules.{name} must list different values, got {values}: give each once, such as "
                    f"[{trainer[name]}]"
                )
