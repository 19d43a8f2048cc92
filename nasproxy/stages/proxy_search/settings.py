"""Settings of the proxy search, and of the search that it is for."""

from dataclasses import dataclass

from nasproxy.errors import ConfigError

POLICIES = ("race", "sequential")


@dataclass
class SearchSettings:
    """The search that the proxy task is for.

    Attributes:
        trials: Models that it will train.
    """

    trials: int = 2000

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigError: A number is out of range.
        """
        if self.trials < 1:
            raise ConfigError(f"search.trials must be at least 1, got {self.trials}")


@dataclass
class ProxySearchSettings:
    """How to search.

    Attributes:
        policy: `race`: all proxy tasks in lockstep of training time; `sequential`: one after the other, in the grid's
            order.
        early_stop_if_not_best: Stop a task that can no longer be cheaper than the best one.
        desired_score: Accept a task whose median score reaches this as well; None for correlation only.
        train_seconds_limit: Stop a task whose models have trained so long; None for no limit.
        time_tolerance: A task must be cheaper than the best by more than this share to replace it.
        rung_growth: How many times further each rung of the lockstep ends than the one before.
        min_models: Fewest models with a score.
        min_valid_ratio: Smallest share of the reference models with a score.
        planned_tasks: Proxy tasks of the whole grid, where not all of them are judged by one job; None for those that
            the study knows of.
    """

    policy: str = "race"
    early_stop_if_not_best: bool = True
    desired_score: float | None = None
    train_seconds_limit: float | None = None
    time_tolerance: float = 0.05
    rung_growth: float = 1.5
    min_models: int = 5
    min_valid_ratio: float = 0.7
    planned_tasks: int | None = None

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigError: A number is out of range.
        """
        if self.policy not in POLICIES:
            raise ConfigError(f"proxy_search.policy must be one of {POLICIES}, got {self.policy!r}")
        for name in ("time_tolerance", "min_valid_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"proxy_search.{name} must lie in [0, 1], got {getattr(self, name):g}")
        if self.train_seconds_limit is not None and not self.train_seconds_limit > 0:
            raise ConfigError(
                f"proxy_search.train_seconds_limit must be above 0, got {self.train_seconds_limit:g}: "
                f"give null for no limit"
            )
        if not 1 < self.rung_growth <= 1000:
            raise ConfigError(f"proxy_search.rung_growth must be above 1 and at most 1000, got {self.rung_growth:g}")
        if self.planned_tasks is not None and self.planned_tasks < 1:
            raise ConfigError(
                f"proxy_search.planned_tasks must be at least 1, got {self.planned_tasks}: count the grid, or give null"
            )
        if self.min_models < 5:
            raise ConfigError(
                f"proxy_search.min_models must be at least 5, got {self.min_models}: fewer models tell nothing"
            )
