"""Settings of the variance measurement."""

from dataclasses import dataclass

from nasproxy.errors import ConfigError

GATES = ("stop", "warn")


@dataclass
class VarianceSettings:
    """How to measure variance.

    Attributes:
        copies: Trainings of the workable model, a seed each.
        min_copies: Copies that must end well for a verdict.
        max_tries: Candidates to try for a workable model.
        workable_fraction: Share of the training after which a candidate counts as workable.
        total_steps: The short schedule to measure on; None for the schedule of full training.
        max_variation: Largest coefficient of variation that passes.
        max_smoothness: Largest mean smoothness that passes.
        gate: What a failed verdict does: `stop` the study, or `warn`.
    """

    copies: int = 5
    min_copies: int = 3
    max_tries: int = 10
    workable_fraction: float = 0.01
    total_steps: int | None = None
    max_variation: float = 0.4
    max_smoothness: float = 10.0
    gate: str = "stop"

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigError: A number is out of range.
        """
        if not 2 <= self.min_copies <= self.copies:
            raise ConfigError(
                f"variance needs 2 <= min_copies <= copies, got min_copies {self.min_copies} and copies "
                f"{self.copies}: one copy has no variance"
            )
        if not 0 < self.workable_fraction <= 1:
            raise ConfigError(f"variance.workable_fraction must lie in (0, 1], got {self.workable_fraction:g}")
        if self.max_tries < 1:
            raise ConfigError(f"variance.max_tries must be at least 1, got {self.max_tries}")
        if self.gate not in GATES:
            raise ConfigError(f"variance.gate must be one of {GATES}, got {self.gate!r}")
