"""Fisher's z of tau: atanh(tau) is nearly normal, with a variance that depends on the number of models only."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from nasproxy.errors import TooFewTrialsError
from nasproxy.statistics.missing import Floats


@dataclass(frozen=True)
class ZVariance:
    """Variance of atanh(tau) of n models: factor / (n - offset).

    Attributes:
        factor: Numerator of the variance.
        offset: Number of models that is subtracted in the denominator.
    """

    factor: float
    offset: int

    def sd(self, n: int) -> float:
        """Compute the standard deviation of atanh(tau) of n models.

        Raises:
            TooFewTrialsError: `n` is not above the offset.
        """
        if n <= self.offset:
            raise TooFewTrialsError(f"the variance of tau needs {self.offset + 1} models, got {n}: add models")
        return math.sqrt(self.factor / (n - self.offset))


FIELLER = ZVariance(factor=0.437, offset=4)
"""Fieller, Hartley and Pearson (1957): holds for normal scores and tau up to 0.8."""
WIDE = ZVariance(factor=0.48, offset=6)
"""Fitted to published learning curves of 10 to 40 models, whose scores are not normal; for lower bounds."""


def fisher_z(taus: ArrayLike, n: ArrayLike) -> Floats:
    """Compute Fisher's z of taus, clipping |tau| to half a discordant pair below 1, where atanh is infinite.

    Args:
        taus: Taus, any shape; NaN stays NaN.
        n: Number of models of each tau, at least 2, broadcastable.
    """
    models = np.asarray(n, dtype=np.float64)
    farthest = 1.0 - 2.0 / (models * (models - 1.0))
    return np.arctanh(np.clip(np.asarray(taus, dtype=np.float64), -farthest, farthest))
