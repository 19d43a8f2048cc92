"""Test of a verdict against new scores, and its power."""

import math
from dataclasses import dataclass
from statistics import NormalDist

from nasproxy.statistics.fisher import FIELLER, fisher_z

NORMAL = NormalDist()


@dataclass(frozen=True)
class ContradictionTest:
    """One-sided test of a verdict against new scores (H0: true tau >= null_tau).

    With Fieller's variance, the error rate holds for normal scores from 5 models on, since tau of few models is
    biased upwards if at all.

    Attributes:
        null_tau: Lowest true tau under H0, as stated by the verdict, in (-1, 1).
        n: Number of models with new scores.
        alpha: Significance level, in (0, 1).

    Raises:
        ValueError: `null_tau` or `alpha` is out of range.
        TooFewTrialsError: There are too few models for the variance.
    """

    null_tau: float
    n: int
    alpha: float = 0.05

    def __post_init__(self) -> None:
        if not -1 < self.null_tau < 1:
            raise ValueError(
                f"null_tau must lie in (-1, 1), got {self.null_tau}: no number of models can show a tau of 1"
            )
        _quantile("alpha", self.alpha)
        FIELLER.sd(self.n)

    def p_value(self, tau: float) -> float:
        """Compute the one-sided p-value of an observed tau."""
        return NORMAL.cdf((float(fisher_z(tau, self.n)) - self._null_z) / self._sd)

    def noticeable_tau(self, power: float = 0.8) -> float:
        """Compute the true tau that the test detects with the given power.

        Raises:
            ValueError: `power` does not lie in (0, 1).
        """
        return math.tanh(self._null_z - self._sd * (self._critical + _quantile("power", power)))

    @property
    def _null_z(self) -> float:
        return math.atanh(self.null_tau)

    @property
    def _sd(self) -> float:
        return FIELLER.sd(self.n)

    @property
    def _critical(self) -> float:
        return -_quantile("alpha", self.alpha)


def _quantile(name: str, probability: float) -> float:
    if not 0 < probability < 1:
        raise ValueError(f"{name} must lie in (0, 1), got {probability}: give 0.05 for 5 %")
    return NORMAL.inv_cdf(probability)
