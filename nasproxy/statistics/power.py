"""What a test on few models can notice."""

import math
from dataclasses import dataclass
from statistics import NormalDist

from nasproxy.statistics.fisher import FIELLER, fisher_z

NORMAL = NormalDist()


@dataclass(frozen=True)
class ContradictionTest:
    """One-sided test whether new scores contradict a verdict: is the true tau below the one it states?

    Fieller's variance holds its error for normal scores from 5 models on, since tau of few models lies, if
    anything, high.

    Attributes:
        null_tau: Tau that the verdict states at least, in (-1, 1).
        n: Models of the new scores.
        alpha: Probability of contradicting a verdict that is just true.

    Raises:
        ValueError: The tau or alpha is out of range.
        TooFewTrialsError: Too few models for the variance.
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
        """Probability of a tau at most as high as the observed one, were the true one the stated one."""
        return NORMAL.cdf((float(fisher_z(tau, self.n)) - self._null_z) / self._sd)

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
        return FIELLER.sd(self.n)

    @property
    def _critical(self) -> float:
        return -_quantile("alpha", self.alpha)


def _quantile(name: str, probability: float) -> float:
    if not 0 < probability < 1:
        raise ValueError(f"{name} must lie in (0, 1), got {probability}: give 0.05 for 5 %")
    return NORMAL.inv_cdf(probability)
