"""Score test of tau against a null value, with the exact standard deviation at the null; valid also near tau 1.

The test statistic is the difference of arcsines. On the scale of tau the upper tail is lighter than normal, so that a
test is conservative; on the scale of atanh(tau), Fisher's z, it is heavier. The arcsine lies between the two. Tau is
discrete with steps of 4 / (n (n - 1)); half a step is subtracted from the observed tau as a continuity correction.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from nasproxy.errors import TooFewTrialsError
from nasproxy.statistics.missing import Floats

MIN_MODELS = 5
"""Minimum number of models: with fewer, even a perfect order is too likely by chance for a normal test."""

HALVINGS = 60
"""Bisection steps until the limit is exact up to rounding."""


def tau_deviation(tau: ArrayLike, n: ArrayLike) -> Floats:
    """Compute the standard deviation of Kendall's tau over samples of n models with normal scores, without ties.

    Args:
        tau: True tau, in [-1, 1], any shape.
        n: Number of models, at least 2, broadcastable.

    Source: Esscher (1924); Kendall and Gibbons, Rank Correlation Methods.

    >>> tau_deviation(0.0, 10).round(4).tolist()
    0.2485
    """
    true, models = np.asarray(tau, dtype=np.float64), np.asarray(n, dtype=np.float64)
    half = (2 / math.pi * np.arcsin(np.sin(math.pi / 2 * true) / 2)) ** 2
    variance = 2 / (models * (models - 1)) * (1 - true**2 + 2 * (models - 2) * (1 / 9 - half))
    return np.sqrt(np.maximum(variance, 0.0))  # rounding can make it negative at tau 1


def arcsine_deviation(tau: ArrayLike, n: ArrayLike) -> Floats:
    """Compute the standard deviation of asin(tau) by the delta method, bounded below, as both factors vanish at 1."""
    true, models = np.asarray(tau, dtype=np.float64), np.asarray(n, dtype=np.float64)
    slope = np.sqrt(np.maximum(1 - true**2, 1e-12))
    return np.asarray(np.maximum(tau_deviation(true, models) / slope, np.sqrt(2 / (models * (models - 1)))))


def score_lower_limits(taus: ArrayLike, n: ArrayLike, *, alpha: float = 0.05) -> Floats:
    """Compute one-sided lower confidence limits of the true taus by inverting the score test.

    Args:
        taus: Observed taus, any shape; NaN stays NaN.
        n: Number of models of each tau, at least 5, broadcastable.
        alpha: Probability that a limit lies above the true tau, in (0, 0.5].

    Returns:
        Limits, in [-1, 1] and at most the taus, same shape.

    Raises:
        ValueError: `alpha` is out of range.
        TooFewTrialsError: There are fewer than 5 models.

    Source: Inversion of the normal score test on the arcsine of tau, standard deviation after Esscher (1924). With 10
        models tau has steps of 0.04, and at a true tau of 0.8 one step contains 6 % of samples, so that no limit based
        on tau alone has a coverage of exactly 95 %.

    >>> score_lower_limits([0.6, 1.0], 10).round(3).tolist()
    [0.213, 0.882]
    """
    if not 0 < alpha <= 0.5:
        raise ValueError(f"alpha must lie in (0, 0.5], got {alpha}: give 0.05 for 5 %")
    _check_models(n)
    observed = _reduced(taus, n)
    reach = float(stats.norm.isf(alpha))
    low, high = np.full(observed.shape, -math.pi / 2), observed.copy()
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        is_passed = observed - middle > reach * arcsine_deviation(np.sin(middle), n)
        low, high = np.where(is_passed, middle, low), np.where(is_passed, high, middle)
    return np.where(np.isnan(observed), np.nan, np.sin(low))


def score_upper_limits(taus: ArrayLike, n: ArrayLike, *, alpha: float = 0.05) -> Floats:
    """Compute one-sided upper confidence limits of the true taus; arguments and errors as for the lower ones.

    >>> score_upper_limits([0.0, 0.6], 10).round(3).tolist()
    [0.447, 0.846]
    """
    return -score_lower_limits(-np.asarray(taus, dtype=np.float64), n, alpha=alpha)


def _reduced(taus: ArrayLike, n: ArrayLike) -> Floats:
    """Compute arcsines of observed taus after the continuity correction of Yates."""
    models = np.asarray(n, dtype=np.float64)
    reduced = np.asarray(taus, dtype=np.float64) - 2 / (models * (models - 1))
    return np.asarray(np.arcsin(np.maximum(reduced, -1.0)), dtype=np.float64)


def _check_models(n: ArrayLike) -> None:
    too_few = [models for models in np.ravel(n).tolist() if models < MIN_MODELS]
    if too_few:
        raise TooFewTrialsError(f"a score test of tau needs {MIN_MODELS} models, got {min(too_few)}: add models")
