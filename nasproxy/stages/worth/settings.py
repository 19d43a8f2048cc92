"""Settings of the certified ladder."""

from dataclasses import dataclass

from nasproxy.errors import ConfigError


@dataclass
class LadderSettings:
    """Settings of the certified ladder.

    Attributes:
        max_risk: Largest probability that a good candidate is eliminated at any rung, in (0, 0.5].
    """

    max_risk: float = 0.25

    def check(self) -> None:
        """Check the settings.

        Raises:
            ConfigError: A value is out of range.
        """
        if not 0 < self.max_risk <= 0.5:
            raise ConfigError(
                f"ladder.max_risk must lie in (0, 0.5], got {self.max_risk:g}: give a probability, such as 0.25; a "
                f"smaller one needs more reference models"
            )
