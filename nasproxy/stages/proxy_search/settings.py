"""Settings of the proxy search, and of the architecture search that will use its result."""

from dataclasses import dataclass

from nasproxy.errors import ConfigError

POLICIES = ("race", "sequential")


@dataclass
class SearchSettings:
    """The architecture search that will use the proxy task.

    Attributes:
        trials: Number of models that it will train.
    """

    trials: int = 2000

    def check(self) -> None:
        """Check the settings.

        Raises:
            ConfigError: A value is out of range.
        """
        if self.trials < 1:
            raise ConfigError(f"search.trials must be at least 1, got {self.trials}")


@dataclass
class ProxySearchSettings:
    """Settings of the proxy search.

    Attributes:
        policy: `race`: all proxy tasks in lockstep of training time; `sequential`: one after the other, in the order
            of the grid.
        early_stop_if_not_best: Stop a task that can no longer be cheaper than the best one, or than full training.
        desired_score: Also accept a task whose median score reaches this value; None for correlation only.
        train_seconds_limit: Stop a task whose models have trained for so many seconds; None for no limit.
        time_tolerance: Share by which a task must be cheaper than the best one to replace it, and than full training to
            be of use, in [0, 1].
        rung_growth: Ratio between the ends of two successive rungs of the race, above 1.
        min_models: Minimum number of models with a score, at least 5.
        min_valid_ratio: Minimum share of the reference models with a score, in [0, 1].
    """

    policy: str = "race"
    early_stop_if_not_best: bool = True
    desired_score: float | None = None
    train_seconds_limit: float | None = None
    time_tolerance: float = 0.05
    rung_growth: float = 1.5
    min_models: int = 5
    min_valid_ratio: float = 0.7

    def check(self) -> None:
        """Check the settings.

        Raises:
            ConfigError: A value is out of range.
        """
        if self.policy not in POLICIES:
            raise ConfigError(f"proxy_search.policy must be one of {POLICIES}, got {self.policy!r}")
        for name in ("time_tolerance", "min_valid_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"proxy_search.{name} must lie in [0, 1], got {getattr(self, name):g}")
        if self.train_seconds_limit is not None and not self.train_seconds_limit > 0:
            raise ConfigError(
                f"proxy_search.train_seconds_limit must be above 0, got {self.train_seconds_limit:g}: "
                f"use null for no limit"
            )
        if not 1 < self.rung_growth <= 1000:
            raise ConfigError(f"proxy_search.rung_growth must be above 1 and at most 1000, got {self.rung_growth:g}")
        if self.min_models < 5:
            raise ConfigError(
                f"proxy_search.min_models must be at least 5, got {self.min_models}: fewer models cannot show a rank "
                f"correlation"
            )
