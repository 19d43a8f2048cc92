"""Settings of the variance measurement."""

from dataclasses import dataclass
from typing import Any

from nasproxy.errors import ConfigError

ON_FAILURE = ("stop", "warn")
MOST_SEEDS = 1000


@dataclass
class VarianceSettings:
    """Settings of the variance measurement.

    Attributes:
        enabled: Whether to measure the variance.
        architectures: Architectures to measure, those of other stages first; None for the candidates of other stages.
        seeds: Trainings of the trainable model, each with its own seed.
        min_seeds: Minimum number of trainings that must end without failure.
        max_tries: Maximum number of candidates to try in the search for a trainable model.
        trainable_fraction: Fraction of the training that a candidate must reach to count as trainable, in (0, 1].
        total_steps: Optimizer steps of the trainings; None for those of full training.
        max_variation: Maximum coefficient of variation that passes.
        max_noise_ratio: Maximum ratio of the standard deviation over seeds to that between reference models that
            passes; tested once the study has references.
        max_roughness: Maximum mean roughness without advice; 0 is a curve that never falls. It stops no study.
        on_failure: Consequence of a failed verdict: `stop` the study, or `warn`.
    """

    enabled: bool = True
    architectures: list[dict[str, Any]] | None = None
    seeds: int = 5
    min_seeds: int = 3
    max_tries: int = 10
    trainable_fraction: float = 0.01
    total_steps: int | None = None
    max_variation: float = 0.4
    max_noise_ratio: float = 1.0
    max_roughness: float = 0.5
    on_failure: str = "stop"

    def check(self) -> None:
        """Check the settings.

        Raises:
            ConfigError: A value is out of range.
        """
        if not 2 <= self.min_seeds <= self.seeds:
            raise ConfigError(
                f"variance needs 2 <= min_seeds <= seeds, got min_seeds {self.min_seeds} and seeds "
                f"{self.seeds}: one seed has no variance"
            )
        if not 0 < self.trainable_fraction <= 1:
            raise ConfigError(f"variance.trainable_fraction must lie in (0, 1], got {self.trainable_fraction:g}")
        if self.seeds > MOST_SEEDS:
            raise ConfigError(f"variance.seeds must be at most {MOST_SEEDS}, got {self.seeds}: 5 to 10 are enough")
        for name in ("max_variation", "max_noise_ratio", "max_roughness"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"variance.{name} must be above 0, got {getattr(self, name):g}")
        if self.architectures == []:
            raise ConfigError(
                "variance.architectures must list at least one architecture, got none: add one, such as "
                "variance.architectures=[{CHOICE: VALUE}], or use null for the candidates of the other stages"
            )
        if self.max_tries < 1:
            raise ConfigError(f"variance.max_tries must be at least 1, got {self.max_tries}")
        if self.on_failure not in ON_FAILURE:
            raise ConfigError(f"variance.on_failure must be one of {ON_FAILURE}, got {self.on_failure!r}")
