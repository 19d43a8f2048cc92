"""What can be chosen about each stage; every constant of a stage is here and in `conf/config.yaml`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nasproxy.errors import ConfigError

GATES = ("stop", "warn")
POLICIES = ("race", "sequential")
NAN_ARGUMENTS = {"fail": None, "lower_rate": "learning_rate", "clip": "clip_norm"}
"""What may be done about a loss that is not finite, and the trainer's argument that it changes."""
MIN_FRESH_MODELS = 5


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
class CompareSchedulesSettings:
    """Which ways to move the learning rate and to smooth the weights are compared, each with each.

    Attributes:
        schedule: Values of `trainer.schedule`.
        smoothing: Values of `trainer.smoothing`.
    """

    schedule: list[str] = field(default_factory=lambda: ["constant", "step", "cosine"])
    smoothing: list[str] = field(default_factory=lambda: ["none", "ema"])

    def check(self, trainer: Mapping[str, Any]) -> None:
        """Refuse what cannot be compared.

        Args:
            trainer: The configured trainer, which must have both arguments.

        Raises:
            ConfigError: The trainer lacks one of them, or a list is empty or repeats a value.
        """
        for name in ("schedule", "smoothing"):
            values = getattr(self, name)
            if name not in trainer:
                raise ConfigError(
                    f"job=compare_schedules needs a trainer with {name!r}, got {trainer.get('_target_')} without: take "
                    f"trainer=image_classifier, or give yours such an argument"
                )
            if not values or len(set(values)) < len(values):
                raise ConfigError(
                    f"compare_schedules.{name} must list different values, got {values}: give each once, such as "
                    f"[{trainer[name]}]"
                )


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
class FailureSettings:
    """What is done about a trial that failed by its own fault: another one may stand in for it.

    Attributes:
        oom_halvings: How often the micro-batch may be halved after running out of memory; 0 lets the trial fail.
        nan: What follows a loss that is not finite: `fail`; or once another trial with a lower learning rate
            (`lower_rate`), or with clipped gradients (`clip`).
        rate_factor: What `lower_rate` multiplies the learning rate by.
        clip_norm: Largest norm of the gradient under `clip`.
    """

    oom_halvings: int = 4
    nan: str = "fail"
    rate_factor: float = 0.5
    clip_norm: float = 1.0

    def check(self, trainer: Mapping[str, Any]) -> None:
        """Refuse what cannot work.

        Args:
            trainer: The study's trainer, which must have the argument that is to be changed.

        Raises:
            ConfigError: A number is out of range, or the trainer lacks the argument.
        """
        if self.oom_halvings < 0:
            raise ConfigError(f"failures.oom_halvings must be at least 0, got {self.oom_halvings}: 0 halves nothing")
        if self.nan not in NAN_ARGUMENTS:
            raise ConfigError(f"failures.nan must be one of {', '.join(NAN_ARGUMENTS)}, got {self.nan!r}")
        if not 0 < self.rate_factor < 1:
            raise ConfigError(f"failures.rate_factor must lie between 0 and 1, got {self.rate_factor:g}: give 0.5")
        if not 0 < self.clip_norm < math.inf:
            raise ConfigError(f"failures.clip_norm must be above 0, got {self.clip_norm:g}")
        argument = NAN_ARGUMENTS[self.nan]
        if argument is not None and argument not in trainer:
            raise ConfigError(
                f"failures.nan={self.nan} changes trainer.{argument}, which the study's trainer does not have: give it "
                f"one, or take failures.nan=fail"
            )


@dataclass
class CostSettings:
    """What a study may be told to cost.

    Attributes:
        price_per_hour: Price of an hour of one device: a GPU, or the machine where trials run on its cores; None for
            no price.
        estimate_first: Time a few steps before a new study begins, and keep what it should cost with it.
    """

    price_per_hour: float | None = None
    estimate_first: bool = True

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigError: A number is out of range.
        """
        price = self.price_per_hour
        if price is not None and not (math.isfinite(price) and price >= 0):
            raise ConfigError(f"cost.price_per_hour must be at least 0, got {price:g}: give null for no price")


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
        tasks_planned: Proxy tasks of the whole grid, where not all of them are judged by one job; None for those that
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
    tasks_planned: int | None = None

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
        if self.tasks_planned is not None and self.tasks_planned < 1:
            raise ConfigError(
                f"proxy_search.tasks_planned must be at least 1, got {self.tasks_planned}: count the grid, or give null"
            )
        if self.min_models < 5:
            raise ConfigError(
                f"proxy_search.min_models must be at least 5, got {self.min_models}: fewer models tell nothing"
            )


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
