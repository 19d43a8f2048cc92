"""Settings of the reference models that an inconclusive verdict may add."""

from dataclasses import dataclass

from nasproxy.errors import ConfigError


@dataclass
class ReferencesSettings:
    """How far an undecided verdict may add reference models.

    Attributes:
        initial: Reference models that are selected and trained fully before the proxy search.
        max: Reference models that a proxy task may be judged on; that of the selection or less adds none.
        step: Models that are added at a time.
    """

    initial: int = 10
    max: int = 30
    step: int = 5

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigError: A number is out of range.
        """
        if self.step < 1 or self.max < 0:
            raise ConfigError(
                f"references needs step of at least 1 and max of at least 0, got {self.step} and {self.max}: "
                f"references.max=0 adds none"
            )
