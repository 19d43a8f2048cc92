"""When a proxy task ranks well enough: what is known, what is decided, and the interface of the rules."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import pairwise
from typing import Protocol

import numpy as np

from nasproxy.errors import ConfigError, TooFewTrialsError
from nasproxy.statistics.missing import Floats
from nasproxy.statistics.rank_correlation import RankCorrelation, kendall_tau

ROUNDING = 1e-12
"""Tau is a ratio of counts, computed through square roots: 27/45 may come out just below 0.6."""
MOST_MODELS = 200
"""Reference models beyond which a verdict asks for no more: nobody trains so many fully."""


class VerdictKind(str, Enum):
    """What is decided about a proxy task."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class LookPlan:
    """How often a criterion may be asked, which is what its error is divided over.

    Attributes:
        fractions: Fraction of training at each check of a proxy task, in (0, 1], rising.
        tasks: Proxy tasks that are judged on the same reference models.
        sizes: Sizes that the set of reference models may have, rising: one where it may not grow.

    Raises:
        ValueError: Fractions or sizes do not rise, or a number is out of range.
    """

    fractions: tuple[float, ...]
    tasks: int = 1
    sizes: tuple[int, ...] = (10,)

    def __post_init__(self) -> None:
        if not _is_rising((0.0, *self.fractions)) or self.fractions[-1] > 1:
            raise ValueError(f"fractions must rise within (0, 1], got {self.fractions}: give steps over total steps")
        if self.tasks < 1 or not _is_rising((0, *self.sizes)):
            raise ValueError(
                f"a plan needs a task or more and sizes that rise, got {self.tasks} and {self.sizes}: count the "
                f"present ones too"
            )


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known about one proxy task so far.

    Attributes:
        reference: Full-training scores, shape (n_models,); NaN where missing.
        proxy: Scores under the proxy task at the first checks, shape (checks, n_models), same order; NaN where missing.
        plan: How often it may be judged.

    Raises:
        ValueError: Shapes do not fit, or there are more checks than planned.
    """

    reference: Floats
    proxy: Floats
    plan: LookPlan

    def __post_init__(self) -> None:
        if self.reference.ndim != 1 or self.proxy.ndim != 2 or self.proxy.shape[1:] != self.reference.shape:
            raise ValueError(
                f"proxy must have shape (checks, models), got {self.proxy.shape} with a reference of shape "
                f"{self.reference.shape}: set NaN where missing"
            )
        if len(self.proxy) > len(self.plan.fractions):
            raise ValueError(
                f"proxy has {len(self.proxy)} checks, and {len(self.plan.fractions)} were planned: plan all of them"
            )

    @property
    def fractions(self) -> Floats:
        """Fraction of training at each check so far, shape (checks,)."""
        return np.array(self.plan.fractions[: len(self.proxy)])

    @property
    def is_last_look(self) -> bool:
        """Whether no further check will come."""
        return len(self.proxy) == len(self.plan.fractions)

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
        kind: Accepted, rejected (no further check, and more models would hardly help) or undecided.
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
        min_models: Reference models without which it never accepts.
    """

    target: float
    min_models: int

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


def decide_acceptance(
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
    where = f"after {100 * evidence.fractions[-1]:.3g} % of training" if len(evidence.fractions) else "before a check"
    pending = VerdictKind.REJECTED if evidence.is_last_look else VerdictKind.UNDECIDED
    if correlation is None:
        return Verdict(pending, None, f"tau is undefined {where}")
    tau, n = correlation.tau, correlation.n
    limit = needed(n)
    if limit is not None and tau >= limit - ROUNDING:
        reason = f"tau {tau:.3f} on {n} models {where} reaches the acceptance threshold {limit:.3f}"
        return Verdict(VerdictKind.ACCEPTED, correlation, reason, needed=limit, lower_limit=lower_limit)
    more = _models_needed(n, tau, needed) if tau >= target - ROUNDING else None
    too_few = "; too few models for acceptance at any tau"
    shortfall = too_few if limit is None else f" is below the acceptance threshold {limit:.3f}"
    suffice = "" if more is None else f"; {more} more model{'s' if more > 1 else ''} might suffice"
    reason = f"tau {tau:.3f} on {n} models {where}{shortfall}{suffice}"
    kind = pending if more is None else VerdictKind.UNDECIDED
    return Verdict(kind, correlation, reason, models_needed=more, needed=limit, lower_limit=lower_limit)


def count_models_to_add(verdict: Verdict, models: int, *, step: int, maximum: int) -> int:
    """How many reference models an undecided verdict calls for now; 0 where even the most allowed would not decide.

    Args:
        verdict: What the criterion said.
        models: Reference models that it was judged on.
        step: Models that are added at a time.
        maximum: Models that there may be.
    """
    if verdict.models_needed is None or models + verdict.models_needed > maximum:
        return 0
    return min(step, maximum - models)


def _models_needed(n: int, tau: float, needed: Callable[[int], float | None]) -> int | None:
    """The fewest models to add at which this tau would be enough; None where no number that can be had would do."""
    for more in range(1, MOST_MODELS - n + 1):
        limit = needed(n + more)
        if limit is not None and tau >= limit - ROUNDING:
            return more
    return None


def _is_rising(values: Sequence[float]) -> bool:
    return len(values) > 1 and all(before < after for before, after in pairwise(values))
