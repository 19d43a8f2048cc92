"""Acceptance of proxy tasks: the evidence, the verdict and the protocol of criteria."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import pairwise
from typing import Protocol

import numpy as np

from nasproxy.errors import ConfigError, TooFewTrialsError
from nasproxy.statistics.concordance import kendall_taus
from nasproxy.statistics.deviation import atanh_deviation
from nasproxy.statistics.fisher import fisher_z
from nasproxy.statistics.missing import Floats
from nasproxy.statistics.rank_correlation import RankCorrelation, kendall_tau
from nasproxy.statistics.tau_smoothing import select_recent

ROUNDING = 1e-12
"""Tolerance on tau, which is computed with square roots: 27/45 can come out just below 0.6."""
FRACTION_ROUNDING = 1e-9
"""Tolerance on the fraction of training at the last look."""
MARGIN = 0.10
"""A proxy task is wrongly accepted if its true tau is more than this below the target."""
MODERATE_MARGIN = 0.25
"""A confirmed proxy task whose bound is more than this below the target has the grade weak."""
MOST_MODELS = 200
"""Largest set of reference models that a verdict asks for; more full trainings are impractical."""


class VerdictKind(str, Enum):
    """Decision on a proxy task."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    INCONCLUSIVE = "inconclusive"


class Grade(str, Enum):
    """How far an accepted proxy task can be trusted."""

    STRONG = "strong"
    MODERATE = "moderate"
    WEAK = "weak"


@dataclass(frozen=True)
class LookPlan:
    """What a criterion divides its error over besides the looks, which need not be known beforehand.

    Attributes:
        tasks: Number of proxy tasks that are judged on the same reference models.
        sizes: Possible sizes of the set of reference models, increasing; a single one if no models are added.

    Raises:
        ValueError: Sizes do not increase, or a number is out of range.
    """

    tasks: int = 1
    sizes: tuple[int, ...] = (10,)

    def __post_init__(self) -> None:
        if self.tasks < 1 or not self.sizes or not _is_rising((0, *self.sizes)):
            raise ValueError(
                f"a plan needs a task or more and sizes that rise, got {self.tasks} and {self.sizes}: count the "
                f"present ones too"
            )


@dataclass(frozen=True, eq=False)
class Evidence:
    """The scores of one proxy task so far.

    Attributes:
        reference: Full-training scores, shape (n_models,); NaN if missing.
        proxy: Scores under the proxy task at the looks so far, shape (checks, n_models), same order; NaN if missing.
        fractions: Fraction of training at each of these looks, shape (checks,), increasing within (0, 1].
        plan: Number of proxy tasks and sizes of the reference set.

    Raises:
        ValueError: Shapes do not match, or the fractions do not increase within (0, 1].
    """

    reference: Floats
    proxy: Floats
    fractions: Floats
    plan: LookPlan

    def __post_init__(self) -> None:
        if self.reference.ndim != 1 or self.proxy.ndim != 2 or self.proxy.shape[1:] != self.reference.shape:
            raise ValueError(
                f"proxy must have shape (checks, models), got {self.proxy.shape} with a reference of shape "
                f"{self.reference.shape}: set NaN where missing"
            )
        if self.fractions.shape != self.proxy.shape[:1]:
            raise ValueError(
                f"fractions must have shape ({len(self.proxy)},), one for each check of proxy, got "
                f"{self.fractions.shape}: give the fraction of training at each check"
            )
        if not _is_rising((0.0, *self.fractions.tolist())) or self.fractions.max(initial=0.0) > 1:
            raise ValueError(
                f"fractions must increase within (0, 1], got {self.fractions.tolist()}: give steps over total steps"
            )

    @property
    def is_last_look(self) -> bool:
        """Whether the training has ended."""
        return bool(self.fractions.size) and float(self.fractions[-1]) >= 1 - FRACTION_ROUNDING

    @cached_property
    def correlation(self) -> RankCorrelation | None:
        """Rank correlation at the last check; None if undefined or if fewer than 5 models have both scores."""
        try:
            return kendall_tau(self.proxy[-1], self.reference) if len(self.proxy) else None
        except TooFewTrialsError:
            return None

    @cached_property
    def earlier_z(self) -> Floats:
        """Fisher's z of the neighbouring checks before the last one, without undefined taus."""
        if not len(self.proxy):
            return np.zeros(0)
        rows = self.proxy[select_recent(self.fractions)][:-1]
        counts = (~np.isnan(rows) & ~np.isnan(self.reference)).sum(axis=1)
        taus = kendall_taus(rows, self.reference)
        return fisher_z(taus, np.maximum(counts, 2))[~np.isnan(taus)]

    @property
    def smoothed_z(self) -> float | None:
        """Mean of Fisher's z over the last check and its neighbours before it; None if the last tau is undefined."""
        if self.correlation is None:
            return None
        last = float(fisher_z(self.correlation.tau, self.correlation.n))
        return (last + float(self.earlier_z.sum())) / (self.earlier_z.size + 1)


@dataclass(frozen=True)
class Verdict:
    """The decision on a proxy task at its last check.

    Attributes:
        kind: Accepted, rejected (at the last check, when more models would not help) or inconclusive.
        correlation: Rank correlation at the last check; None if undefined.
        reason: Text that explains the decision.
        models_needed: Number of reference models to add until this tau, or the target if tau is near it, would suffice;
            None if no number would.
        is_near_target: Whether this is the last check and tau is so close to the target that models are added up to the
            maximum, even if the present tau would not suffice there.
        needed: Acceptance threshold of tau; None if no tau would suffice.
        lower_limit: One-sided 95 % lower confidence limit of the true tau at this check alone; None if the criterion
            gives none.
    """

    kind: VerdictKind
    correlation: RankCorrelation | None
    reason: str
    models_needed: int | None = None
    needed: float | None = None
    lower_limit: float | None = None
    is_near_target: bool = False


class Criterion(Protocol):
    """Decision rule on a proxy task, pure and deterministic, so that a resumed study makes the same decisions.

    Attributes:
        target: Tau of a good proxy task.
        min_models: Minimum number of reference models for acceptance.
    """

    target: float
    min_models: int

    def judge(self, evidence: Evidence) -> Verdict:
        """Decide at the last check; called after every check, and again after models are added."""
        ...


def check_target(target: float) -> None:
    """Check that a target lies in (0, 1].

    Raises:
        ConfigError: The target is out of range.
    """
    if not 0 < target <= 1:
        raise ConfigError(f"criterion.target must lie in (0, 1], got {target}: give a tau, such as 0.65")


def check_error(target: float, alpha: float) -> None:
    """Check that the target exceeds the margin and that the error rate lies in (0, 0.5).

    Raises:
        ConfigError: A number is out of range.
    """
    if target <= MARGIN:
        raise ConfigError(f"criterion.target must lie above {MARGIN:g} for this rule, got {target:g}")
    if not 0 < alpha < 0.5:
        raise ConfigError(f"criterion.alpha must lie in (0, 0.5), got {alpha:g}: give an error such as 0.1")


def decide_acceptance(
    evidence: Evidence,
    needed: Callable[[int], float | None],
    *,
    target: float,
    lower_limit: float | None = None,
    near_target: float | None = None,
) -> Verdict:
    """Compare the last check's tau with the acceptance threshold.

    Args:
        evidence: Scores so far.
        needed: Maps a number of models to the acceptance threshold of tau; None if no tau suffices.
        target: Tau of a good proxy task; below it, no models are added before the last check.
        lower_limit: Lower confidence limit of the true tau, to be recorded in the verdict.
        near_target: Tau from which models are added at the last check; None for the rule of the other checks.
    """
    correlation = evidence.correlation
    where = f"after {100 * evidence.fractions[-1]:.3g} % of training" if len(evidence.fractions) else "before a check"
    pending = VerdictKind.REJECTED if evidence.is_last_look else VerdictKind.INCONCLUSIVE
    if correlation is None:
        return Verdict(pending, None, f"tau is undefined {where}")
    tau, n = correlation.tau, correlation.n
    limit = needed(n)
    if limit is not None and tau >= limit - ROUNDING:
        reason = f"tau {tau:.3f} on {n} models {where} reaches the acceptance threshold {limit:.3f}"
        return Verdict(VerdictKind.ACCEPTED, correlation, reason, needed=limit, lower_limit=lower_limit)
    is_near = near_target is not None and evidence.is_last_look and tau >= near_target - ROUNDING
    assumed = max(tau, target) if is_near else tau
    more = _models_needed(n, assumed, needed) if assumed >= target - ROUNDING else None
    too_few = "; too few models for acceptance at any tau"
    shortfall = too_few if limit is None else f" is below the acceptance threshold {limit:.3f}"
    suffice = "" if more is None else f"; {more} more model{'s' if more > 1 else ''} might suffice"
    reason = f"tau {tau:.3f} on {n} models {where}{shortfall}{suffice}"
    kind = pending if more is None and not is_near else VerdictKind.INCONCLUSIVE
    return Verdict(
        kind, correlation, reason, models_needed=more, needed=limit, lower_limit=lower_limit, is_near_target=is_near
    )


def grade_acceptance(bound: float | None, target: float | None, *, is_confirmed: bool) -> Grade:
    """Grade an accepted proxy task.

    Args:
        bound: Lower confidence bound of the true tau after selection; None if unknown.
        target: Tau of a good proxy task; None if unknown.
        is_confirmed: Whether confirmation runs were judged and do not contradict the verdict.

    >>> grade_acceptance(0.55, 0.65, is_confirmed=True), grade_acceptance(0.9, 0.65, is_confirmed=False)
    (<Grade.STRONG: 'strong'>, <Grade.WEAK: 'weak'>)
    """
    if bound is None or target is None or not is_confirmed:
        return Grade.WEAK
    if bound >= target - MARGIN - ROUNDING:
        return Grade.STRONG
    return Grade.MODERATE if bound >= target - MODERATE_MARGIN - ROUNDING else Grade.WEAK


def count_models_to_add(verdict: Verdict, models: int, *, step: int, maximum: int) -> int:
    """Compute the number of reference models to add now; 0 if even the maximum could not lead to acceptance.

    Args:
        verdict: Verdict of the criterion.
        models: Number of reference models that the verdict is based on.
        step: Number of models to add at a time.
        maximum: Maximum number of reference models.
    """
    suffices = verdict.models_needed is not None and models + verdict.models_needed <= maximum
    return max(0, min(step, maximum - models)) if suffices or verdict.is_near_target else 0


def find_near_target(target: float, n: int) -> float | None:
    """Find the tau from which models are added at the last check: a standard deviation of z below the target.

    Args:
        target: Tau of a good proxy task.
        n: Number of models.

    Returns:
        The tau, or None for fewer than 8 models.

    >>> round(find_near_target(0.65, 10), 2), round(find_near_target(0.65, 30), 2)
    (0.41, 0.56)
    """
    deviation = atanh_deviation(n)
    return None if deviation is None else math.tanh(float(fisher_z(target, n)) - deviation)


def _models_needed(n: int, tau: float, needed: Callable[[int], float | None]) -> int | None:
    """Find the smallest number of models to add at which this tau would suffice; None if there is none."""
    for more in range(1, MOST_MODELS - n + 1):
        limit = needed(n + more)
        if limit is not None and tau >= limit - ROUNDING:
            return more
    return None


def _is_rising(values: Sequence[float]) -> bool:
    return all(before < after for before, after in pairwise(values))
