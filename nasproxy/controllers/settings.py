"""What can be chosen about each stage; every constant of a stage is here and in `conf/config.yaml`."""

from dataclasses import dataclass
from typing import Any, Protocol

from nasproxy.controllers.base import Controller
from nasproxy.controllers.states import SelectionState
from nasproxy.errors import ConfigError

GATES = ("stop", "warn")
POLICIES = ("race", "sequential")


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


class Selection(Protocol):
    """A way to select the reference models, with its settings.

    Attributes:
        is_random: Whether they are a random sample of the search space, so that random ones may be added to them.
    """

    is_random: bool

    @property
    def candidates(self) -> int:
        """Candidates that it draws on."""
        ...

    @property
    def models(self) -> int:
        """Reference models that it ends with."""
        ...

    @property
    def base(self) -> dict[str, Any]:
        """What must stay as it is while a study lasts."""
        ...

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigError: A number is out of range.
        """
        ...

    def controller(self, **context: Any) -> Controller[SelectionState]:
        """The controller that selects so.

        Args:
            **context: `recipe`, `candidates`, `baseline`, `seed` and `folder`.
        """
        ...


@dataclass
class ReferencesSettings:
    """How far an undecided verdict may add reference models.

    Attributes:
        max: Reference models that a proxy task may be judged on; that of the selection or less adds none.
        step: Models that are added at a time.
    """

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
        if self.rung_growth <= 1:
            raise ConfigError(f"proxy_search.rung_growth must be above 1, got {self.rung_growth:g}")
        if self.min_models < 5:
            raise ConfigError(
                f"proxy_search.min_models must be at least 5, got {self.min_models}: fewer models tell nothing"
            )
