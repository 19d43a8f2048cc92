"""Settings of the confirmation."""

from dataclasses import dataclass

from nasproxy.errors import ConfigError

MIN_FRESH_MODELS = 5


@dataclass
class ConfirmSettings:
    """Settings of the confirmation of the proxy search's winner.

    Attributes:
        enabled: Whether to retrain the winner on a schedule that ends at its final step.
        fresh_models: Number of new random models to train fully and under the winner, and to judge separately.
        alpha: Probability of contradicting a winner whose true tau equals the target, in (0, 0.5).
        allow_identical: Whether all models may score exactly as in the proxy search, which otherwise voids the
            confirmation: for trainers whose schedule does not depend on the total number of steps.
    """

    enabled: bool = True
    fresh_models: int = 0
    alpha: float = 0.05
    allow_identical: bool = False

    def check(self) -> None:
        """Check the settings.

        Raises:
            ConfigError: A value is out of range.
        """
        if not 0 < self.alpha < 0.5:
            raise ConfigError(f"confirm.alpha must lie in (0, 0.5), got {self.alpha:g}: give 0.05 for 5 %")
        if self.fresh_models != 0 and self.fresh_models < MIN_FRESH_MODELS:
            raise ConfigError(
                f"confirm.fresh_models must be 0 or at least {MIN_FRESH_MODELS}, got {self.fresh_models}: fewer models "
                f"cannot show a rank correlation"
            )
