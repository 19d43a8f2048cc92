"""How many models a comparison of taus needs, and what a test on few models can notice."""

import math
from dataclasses import dataclass
from statistics import NormalDist

from nasproxy.statistics.fisher import FIELLER, ZVariance, fisher_z

NORMAL = NormalDist()
ROUNDING = 1e-9
"""A number of models just above a whole one is that whole one."""


def models_needed(
    null_tau: float, true_tau: float, *, alpha: float = 0.05, power: float = 0.9, variance: ZVariance = FIELLER
) -> int:
    """Models with which one look tells a true tau from the one that must be ruled out.

    With Fieller's variance, 0.437 / (n - 4), telling 0.55 from 0.70 at 3 % error and 90 % power takes 75 models,
    and from 0.80 23; with the wider 0.48 / (n - 6) it takes 84 and 27.

    Args:
        null_tau: Tau to rule out, in (-1, 1).
        true_tau: Tau of the proxy task, in (-1, 1).
        alpha: One-sided probability of ruling out the null tau where it is true.
        power: Probability of ruling it out where the true tau holds.
        variance: Variance of atanh(tau) by the number of models.

    Raises:
        ValueError: The taus are equal or out of range, or a probability does not lie in (0, 1).

    Source: normal test of Fisher's z; variance after Fieller, Hartley and Pearson (1957).

    >>> models_needed(0.55, 0.70, alpha=0.03), models_needed(0.55, 0.80, alpha=0.03)
    (75, 23)
    """
    _check_tau("null_tau", null_tau)
    _check_tau("true_tau", true_tau)
    if null_tau == true_tau:
        raise ValueError(f"null_tau and true_tau must differ, got {null_tau} twice: no number of models is enough")
    distance = math.atanh(true_tau) - math.atanh(null_tau)
    reach = max(0.0, _quantile("power", power) - _quantile("alpha", alpha))
    counting = variance.factor * (reach / distance) ** 2
    return variance.offset + max(1, math.ceil(counting - ROUNDING))


@dataclass(frozen=True)
class ContradictionTest:
    """One-sided test whether new scores contradict a verdict: is the true tau below the one it states?

    Fieller's variance holds its error for normal scores from 5 models on, since tau of few models lies, if
    anything, high.

    Attributes:
        null_tau: Tau that the verdict states at least, in (-1, 1).
        n: Models of the new scores.
        alpha: Probability of contradicting a verdict that is just true.
        variance: Variance of atanh(tau) by the number of models.

    Raises:
        ValueError: The tau or alpha is out of range.
        TooFewTrialsError: Too few models for the variance.
    """

    null_tau: float
    n: int
    alpha: float = 0.05
    variance: ZVariance = FIELLER

    def __post_init__(self) -> None:
        _check_tau("null_tau", self.null_tau)
        _quantile("alpha", self.alpha)
        self.variance.sd(self.n)

    def p_value(self, tau: float) -> float:
        """Probability of a tau at most as high as the observed one, were the true one the stated one."""
        return NORMAL.cdf((float(fisher_z(tau, self.n)) - self._null_z) / self._sd)

    def contradicts(self, tau: float) -> bool:
        """Whether the observed tau is too low for the verdict."""
        return self.p_value(tau) <= self.alpha

    def power(self, true_tau: float) -> float:
        """Probability of contradicting the verdict if this is the true tau.

        Raises:
            ValueError: The tau does not lie in (-1, 1).
        """
        _check_tau("true_tau", true_tau)
        return NORMAL.cdf((self._null_z - math.atanh(true_tau)) / self._sd - self._critical)

    def noticeable_tau(self, power: float = 0.8) -> float:
        """The true tau at which the verdict would be contradicted with this probability.

        Raises:
            ValueError: The power does not lie in (0, 1).
        """
        return math.tanh(self._null_z - self._sd * (self._critical + _quantile("power", power)))

    @property
    def _null_z(self) -> float:
        return math.atanh(self.null_tau)

    @property
    def _sd(self) -> float:
        return self.variance.sd(self.n)

    @property
    def _critical(self) -> float:
        return -_quantile("alpha", self.alpha)


def _quantile(name: str, probability: float) -> float:
    if not 0 < probability < 1:
        raise ValueError(f"{name} must lie in (0, 1), got {probability}: give 0.05 for 5 %")
    return NORMAL.inv_cdf(probability)


def _check_tau(name: str, tau: float) -> None:
    if not -1 < tau < 1:
        raise ValueError(f"{name} must lie in (-1, 1), got {tau}: no number of models can show a tau of 1")
