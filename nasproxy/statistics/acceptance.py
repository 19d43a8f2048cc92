"""When a proxy task ranks well enough: what is known, what is decided, and the interface of the rules."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Protocol

import numpy as np

from nasproxy.errors import ConfigError, TooFewTrialsError
from nasproxy.statistics.missing import Floats
from nasproxy.statistics.rank_correlation import RankCorrelation, kendall_tau

ROUNDING = 1e-12
"""Tau is a ratio of counts, computed through square roots: 27/45 may come out just below 0.6."""


class VerdictKind(str, Enum):
    """What is decided about a proxy task."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNDECIDED = "undecided"


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known about one proxy task so far.

    Attributes:
        reference: Full-training scores, shape (n_models,); NaN where missing.
        proxy: Scores under the proxy task, shape (checks, n_models), same order; NaN where missing.
        fractions: Fraction of the training at each check, shape (checks,), in (0, 1], increasing.
        looks_planned: Checks that there will be at most.
        tasks_planned: Proxy tasks that are judged on these reference models.
        models_max: Reference models that the set may grow to; None where it may not grow.
        sizes_planned: Sizes of the set at which one check may be judged: 1 where it may not grow.

    Raises:
        ValueError: Shapes do not fit, fractions are not increasing in (0, 1], or a plan is below 1.
    """

    reference: Floats
    proxy: Floats
    fractions: Floats
    looks_planned: int
    tasks_planned: int
    models_max: int | None = None
    sizes_planned: int = 1

    def __post_init__(self) -> None:
        expected = (*self.fractions.shape, *self.reference.shape)
        if len(expected) != 2 or self.proxy.shape != expected:
            raise ValueError(
                f"proxy must have shape (checks, models), got {self.proxy.shape} with fractions of shape "
                f"{self.fractions.shape} and reference of shape {self.reference.shape}: set NaN where missing"
            )
        bounds = np.concatenate([[0.0], self.fractions])
        if not ((np.diff(bounds) > 0).all() and bounds[-1] <= 1):
            raise ValueError(
                f"fractions must increase within (0, 1], got {self.fractions.tolist()}: give steps over total steps"
            )
        if min(self.looks_planned, self.tasks_planned, self.sizes_planned) < 1:
            raise ValueError(
                f"looks_planned, tasks_planned and sizes_planned must be at least 1, got {self.looks_planned}, "
                f"{self.tasks_planned} and {self.sizes_planned}: count the present ones too"
            )

    @property
    def is_last_look(self) -> bool:
        """Whether no further check will come."""
        return len(self.fractions) >= self.looks_planned

    @cached_property
    def correlation(self) -> RankCorrelation | None:
        """The rank correlation at the last check; None where it is undefined, or fewer than 5 models have scores."""
        try:
            return kendall_tau(self.proxy[-1], self.reference) if len(self.proxy) else None
        except TooFewTrialsError:
            return None


@dataclass(frozen=True)
class Verdict:
    """The decision on a proxy task at its last check.

    Attributes:
        kind: Accepted, rejected (no further check, and more models would not help) or undecided.
        correlation: Rank correlation there; None where undefined.
        reason: The decision in words.
        models_needed: Reference models to add before asking again; None where these would not help.
        needed: The tau that was needed; None where no tau would have been enough.
        lower_limit: One-sided 95 % lower limit of the true tau, of this check alone; None where the rule has none.
    """

    kind: VerdictKind
    correlation: RankCorrelation | None
    reason: str
    models_needed: int | None = None
    needed: float | None = None
    lower_limit: float | None = None


class Criterion(Protocol):
    """A rule of decision on a proxy task: pure and deterministic, so that a resumed study decides the same.

    Attributes:
        target: The tau that a good proxy task reaches.
    """

    target: float

    def judge(self, evidence: Evidence) -> Verdict:
        """Decide at the last check; it is asked after every check, and again where models were added."""
        ...


def check_target(target: float) -> None:
    """Refuse a target that is no tau.

    Raises:
        ConfigError: It lies outside (0, 1].
    """
    if not 0 < target <= 1:
        raise ConfigError(f"criterion.target must lie in (0, 1], got {target}: give a tau, such as 0.65")


def decide(
    evidence: Evidence,
    needed: Callable[[int], float | None],
    *,
    target: float,
    lower_limit: float | None = None,
) -> Verdict:
    """Hold the last check's tau against the one that is needed.

    Args:
        evidence: What is known.
        needed: The tau that is needed on so many models; None where no tau would be enough.
        target: The tau that a good proxy task reaches: below it, more models are of no use.
        lower_limit: Of the true tau, for the record.
    """
    correlation = evidence.correlation
    where = f"after {100 * evidence.fractions[-1]:.3g} % of training" if len(evidence.fractions) else "yet"
    pending = VerdictKind.REJECTED if evidence.is_last_look else VerdictKind.UNDECIDED
    if correlation is None:
        return Verdict(pending, None, f"tau is not defined {where}")
    tau, n = correlation.tau, correlation.n
    limit = needed(n)
    if limit is not None and tau >= limit - ROUNDING:
        reason = f"tau is {tau:.3f} on {n} models {where}, and {limit:.3f} is needed"
        return Verdict(VerdictKind.ACCEPTED, correlation, reason, needed=limit, lower_limit=lower_limit)
    more = _models_needed(evidence, n, tau, needed) if tau >= target - ROUNDING else None
    wanted = f"no tau is enough on {n} models" if limit is None else f"{limit:.3f} is needed on {n} models"
    reason = f"tau is {tau:.3f} {where}, and {wanted}" + ("" if more is None else f": {more} more models might do")
    kind = pending if more is None else VerdictKind.UNDECIDED
    return Verdict(kind, correlation, reason, models_needed=more, needed=limit, lower_limit=lower_limit)


def models_to_add(verdict: Verdict, models: int, *, step: int, maximum: int) -> int:
    """How many reference models an undecided verdict calls for now.

    Args:
        verdict: What the criterion said.
        models: Reference models that it was judged on.
        step: Models that are added at a time.
        maximum: Models that there may be.
    """
    return 0 if verdict.models_needed is None else max(0, min(step, maximum - models))


def _models_needed(evidence: Evidence, n: int, tau: float, needed: Callable[[int], float | None]) -> int | None:
    """The fewest models to add at which this tau would be enough."""
    room = (evidence.models_max or 0) - len(evidence.reference)
    for more in range(1, room + 1):
        limit = needed(n + more)
        if limit is not None and tau >= limit - ROUNDING:
            return more
    return None
