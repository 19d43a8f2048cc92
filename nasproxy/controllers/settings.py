"""What can be chosen about each stage; every constant of a stage is here and in `conf/config.yaml`."""

from dataclasses import dataclass

from nasproxy.errors import ConfigError

GATES = ("stop", "warn")
POLICIES = ("sequential",)


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


@dataclass
class SelectionSettings:
    """How to select the reference models.

    Attributes:
        start_models: Random candidates to begin with.
        final_models: Reference models to end with.
        remove_per_iteration: Candidates dropped in each iteration.
        max_failure_ratio: Share of the candidates that may fail before the stage stops.
    """

    start_models: int = 30
    final_models: int = 10
    remove_per_iteration: int = 5
    max_failure_ratio: float = 0.2

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigError: A number is out of range.
        """
        if not 2 <= self.final_models <= self.start_models:
            raise ConfigError(
                f"selection needs 2 <= final_models <= start_models, got final_models {self.final_models} and "
                f"start_models {self.start_models}"
            )
        if self.remove_per_iteration < 1:
            raise ConfigError(f"selection.remove_per_iteration must be at least 1, got {self.remove_per_iteration}")
        if not 0 <= self.max_failure_ratio <= 1:
            raise ConfigError(f"selection.max_failure_ratio must lie in [0, 1], got {self.max_failure_ratio:g}")


@dataclass
class ProxySearchSettings:
    """How to search.

    Attributes:
        policy: `sequential`: one proxy task after the other, in the grid's order.
        early_stop_if_not_best: Stop a task that can no longer be cheaper than the best one.
        desired_score: Accept a task whose median score reaches this as well; None for correlation only.
        train_seconds_limit: Stop a task whose models have trained so long; None for no limit.
        time_tolerance: A task must be cheaper than the best by more than this share to replace it.
        advance_fraction: Share of training that the models go on by between looks, where slots are too few for
            all of them at once.
        min_models: Fewest models with a score.
        min_valid_ratio: Smallest share of the reference models with a score.
    """

    policy: str = "sequential"
    early_stop_if_not_best: bool = True
    desired_score: float | None = None
    train_seconds_limit: float | None = None
    time_tolerance: float = 0.05
    advance_fraction: float = 0.1
    min_models: int = 5
    min_valid_ratio: float = 0.7

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigError: A number is out of range.
        """
        if self.policy not in POLICIES:
            raise ConfigError(f"proxy_search.policy must be one of {POLICIES}, got {self.policy!r}")
        for name in ("time_tolerance", "min_valid_ratio", "advance_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"proxy_search.{name} must lie in [0, 1], got {getattr(self, name):g}")
        if self.train_seconds_limit is not None and not self.train_seconds_limit > 0:
            raise ConfigError(
                f"proxy_search.train_seconds_limit must be above 0, got {self.train_seconds_limit:g}: "
                f"give null for no limit"
            )
        if self.min_models < 5:
            raise ConfigError(
                f"proxy_search.min_models must be at least 5, got {self.min_models}: fewer models tell nothing"
            )
