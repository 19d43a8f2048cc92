"""A prior on tau by training fraction: mean and variance of atanh(tau) over published learning curves."""

import math

PRIOR_VARIANCE = 0.5
"""Variance of atanh(tau) around `prior_mean`, over proxy tasks and fractions; that of ten models is 0.12."""


def prior_mean(fraction: float) -> float:
    """Compute the mean of atanh(tau) after a fraction of training, over published learning curves.

    >>> round(math.tanh(prior_mean(0.1)), 2)
    0.66
    """
    return 1.6 + 0.35 * math.log(fraction)
