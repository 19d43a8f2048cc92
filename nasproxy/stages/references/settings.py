"""Settings of the number of reference models."""

from dataclasses import dataclass

from nasproxy.errors import ConfigError


@dataclass
class ReferencesSettings:
    """Number of reference models, initially and after inconclusive verdicts.

    Attributes:
        initial: Reference models that are selected and trained fully before the proxy search.
        max: Maximum number of reference models for a proxy task; at most `initial` adds none.
        step: Models that are added at a time.
    """

    initial: int = 10
    max: int = 30
    step: int = 5

    def check(self) -> None:
        """Check the settings.

        Raises:
            ConfigError: A value is out of range.
        """
        if self.step < 1 or self.max < 0:
            raise ConfigError(
                f"references needs step of at least 1 and max of at least 0, got {self.step} and {self.max}: "
                f"use references.max=0 to add none"
            )
