"""Whether a retraining contradicts a proxy task's verdict, and how much it could have shown at all."""

import math
from dataclasses import dataclass

from numpy.typing import ArrayLike

from nasproxy.statistics.fisher import FIELLER, fisher_z
from nasproxy.statistics.power import ContradictionTest
from nasproxy.statistics.rank_correlation import Z_95, RankCorrelation, kendall_tau

HIGHEST_TAU = 0.85
"""Above it the deviation of atanh(tau) is not known: simulated, just true verdicts of 0.95 fell in up to 15 %."""
POWER = 0.8
"""Probability with which the noticeable tau is noticed."""


@dataclass(frozen=True)
class PooledTau:
    """Tau of two trainings of the same models together; flattered where one of them was chosen for its tau.

    Attributes:
        tau: Mean of both on the scale of atanh(tau).
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
    """

    tau: float
    low: float
    high: float


@dataclass(frozen=True)
class Confirmation:
    """What a retraining says of a verdict.

    Attributes:
        stated_tau: The true tau that the verdict is held to; None where it states none.
        alpha: Probability of contradicting a verdict that is just true.
        correlation: Rank correlation of the retraining; None where it is undefined.
        pooled: Tau of both trainings together; None without another, or where one is undefined.
        p_value: Probability of a tau so low, were the stated one true; None without a test.
        noticeable_tau: True tau that would have been contradicted with a probability of 80 %; None without a test.
    """

    stated_tau: float | None
    alpha: float
    correlation: RankCorrelation | None
    pooled: PooledTau | None = None
    p_value: float | None = None
    noticeable_tau: float | None = None

    @property
    def is_contradicted(self) -> bool:
        """Whether the verdict cannot stand: its tau is too low, or no ranks are left of which it could speak."""
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
    """Hold the scores of a retraining against what a verdict states.

    The test is of the retraining alone. The tau that the verdict rests on was chosen for lying above the target, so it
    is credited with the target and no more: the mean of both then says what the retraining says by itself, and its
    deviation is not smaller by the square root of 2, since both come from the same models.

    Args:
        proxy: Scores of the retraining, shape (n_models,), higher is better; NaN where a model has none.
        reference: Full-training scores, same shape and order.
        stated_tau: The true tau that the verdict states, in (0, 1], held to 0.85 at most; None where it states none.
        alpha: Probability of contradicting a verdict that is just true, in (0, 1).
        truncated: Tau that the verdict rests on, of the same models.

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
    """Both together, their errors taken to be one: of the same models these are correlated, by an unknown measure."""
    centre = (float(fisher_z(first.tau, first.n)) + float(fisher_z(second.tau, second.n))) / 2
    reach = Z_95 * FIELLER.sd(min(first.n, second.n))
    return PooledTau(math.tanh(centre), math.tanh(centre - reach), math.tanh(centre + reach))
