"""Settings of the confirmation."""

from dataclasses import dataclass

from nasproxy.errors import ConfigError

MIN_FRESH_MODELS = 5


@dataclass
class ConfirmSettings:
    """How to confirm the winner of the proxy search.

    Attributes:
        enabled: Retrain it on a schedule that ends where it was stopped.
        fresh_models: New random models to train fully and under it as well, and to judge apart; 0 trains none.
        alpha: Probability of contradicting a verdict that is just true.
    """

    enabled: bool = True
    fresh_models: int = 0
    alpha: float = 0.05

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigError: A number is out of range.
        """
        if not 0 < self.alpha < 0.5:
            raise ConfigError(f"confirm.alpha must lie in (0, 0.5), got {self.alpha:g}: give 0.05 for 5 %")
        if self.fresh_models != 0 and self.fresh_models < MIN_FRESH_MODELS:
            raise ConfigError(
                f"confirm.fresh_models must be 0 or at least {MIN_FRESH_MODELS}, got {self.fresh_models}: fewer models "
                f"tell nothing"
            )
