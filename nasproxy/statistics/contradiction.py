"""Test of a confirmation run against a proxy task's verdict, and the power of the test."""

import math
from dataclasses import dataclass

from numpy.typing import ArrayLike

from nasproxy.statistics.fisher import FIELLER, fisher_z
from nasproxy.statistics.power import ContradictionTest
from nasproxy.statistics.rank_correlation import Z_95, RankCorrelation, kendall_tau

HIGHEST_TAU = 0.85
"""Largest tau tested: the variance of atanh(tau) is unknown above (5 % tests at 0.95 rejected up to 15 %)."""
POWER = 0.8
"""Power of the test at the noticeable tau."""


@dataclass(frozen=True)
class PooledTau:
    """Combined tau of two trainings of the same models; optimistically biased if one was selected by its tau.

    Attributes:
        tau: Mean of both taus on the scale of atanh(tau).
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
    """

    tau: float
    low: float
    high: float


@dataclass(frozen=True)
class Confirmation:
    """Result of comparing confirmation runs with a verdict.

    Attributes:
        stated_tau: True tau that the verdict states and the test uses; None if it states none.
        alpha: Significance level: probability of contradicting a verdict whose true tau equals the stated one.
        correlation: Rank correlation of the confirmation runs; None if undefined.
        pooled: Combined tau of both trainings; None if there is only one, or one is undefined.
        p_value: One-sided p-value (H0: the true tau is the stated one); None without a test.
        noticeable_tau: True tau that the test detects with 80 % power; None without a test.
        bound: One-sided 95 % lower confidence bound of the true tau, which holds after the selection of the proxy task;
            None with too few models, or if the reference models are not random. That of confirmation runs follows from
            the margin of the selection and is not stored.
    """

    stated_tau: float | None
    alpha: float
    correlation: RankCorrelation | None
    pooled: PooledTau | None = None
    p_value: float | None = None
    noticeable_tau: float | None = None
    bound: float | None = None

    @property
    def is_contradicted(self) -> bool:
        """Whether the confirmation runs contradict the verdict: their tau is significantly too low or undefined."""
        if self.stated_tau is None:
            return False
        return self.p_value is None or self.p_value <= self.alpha


def compare_retraining(
    proxy: ArrayLike,
    reference: ArrayLike,
    *,
    stated_tau: float | None,
    alpha: float = 0.05,
    truncated: RankCorrelation | None = None,
) -> Confirmation:
    """Test whether the scores of confirmation runs contradict the tau that a verdict states.

    The test uses the confirmation runs only. The tau of the verdict was selected for exceeding the target, so it would
    count as the target; and since both taus come from the same models, their mean does not have a standard deviation
    smaller by the square root of 2.

    Args:
        proxy: Scores of the confirmation runs, shape (n_models,), higher is better; NaN if missing.
        reference: Full-training scores, same shape and order.
        stated_tau: True tau that the verdict states, in (0, 1], tested as 0.85 at most; None if it states none.
        alpha: Significance level, in (0, 1).
        truncated: Rank correlation that the verdict is based on, of the same models.

    Raises:
        TooFewTrialsError: Fewer than 5 models have both scores.
        ValueError: The shapes differ, a score is infinite, or a number is out of range.
    """
    found = kendall_tau(proxy, reference)
    if found is None:
        return Confirmation(stated_tau, alpha, None)
    pooled = None if truncated is None else _pool(truncated, found)
    if stated_tau is None:
        return Confirmation(None, alpha, found, pooled)
    held_to = min(stated_tau, HIGHEST_TAU)
    test = ContradictionTest(held_to, found.n, alpha)
    return Confirmation(held_to, alpha, found, pooled, test.p_value(found.tau), test.noticeable_tau(POWER))


def _pool(first: RankCorrelation, second: RankCorrelation) -> PooledTau:
    """Combine two taus, assuming fully correlated errors: the correlation of taus of the same models is unknown."""
    centre = (float(fisher_z(first.tau, first.n)) + float(fisher_z(second.tau, second.n))) / 2
    reach = Z_95 * FIELLER.sd(min(first.n, second.n))
    return PooledTau(math.tanh(centre), math.tanh(centre - reach), math.tanh(centre + reach))
