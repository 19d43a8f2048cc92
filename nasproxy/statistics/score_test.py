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


def score_p_values(taus: ArrayLike, null_tau: float, n: ArrayLike) -> Floats:
    """Compute one-sided p-values (H0: true tau = null_tau, against a higher one).

    In simulations with normal scores and 41 null values from 0.3 to 0.8, p was below 5 % in 1.2 to 5.5 % of samples
    of 10 models (3.6 % on average over the null values), of 20 in 3.3 to 5.1 % (4.3 %), and of 30 in 3.4 to 4.6 %
    (4.1 %); it was below 0.5 % in 0.0 to 0.7 %, 0.2 to 0.4 % and 0.1 to 0.3 %.

    Args:
        taus: Observed taus, any shape; NaN stays NaN.
        null_tau: True tau under H0, in (-1, 1).
        n: Number of models of each tau, at least 5, broadcastable.

    Raises:
        ValueError: `null_tau` is out of range.
        TooFewTrialsError: There are fewer than 5 models.

    Source: normal score test on the arcsine of tau, deviation after Esscher (1924), continuity correction of Yates.
    """
    if not -1 < null_tau < 1:
        raise ValueError(f"null_tau must lie in (-1, 1), got {null_tau}: no number of models can show a tau of 1")
    _check_models(n)
    above = _reduced(taus, n) - np.arcsin(null_tau)
    return np.asarray(stats.norm.sf(above / _arcsine_deviation(null_tau, n)), dtype=np.float64)


def score_lower_limits(taus: ArrayLike, n: ArrayLike, *, alpha: float = 0.05) -> Floats:
    """Compute one-sided lower confidence limits of the true taus by inverting `score_p_values`.

    Args:
        taus: Observed taus, any shape; NaN stays NaN.
        n: Number of models of each tau, at least 5, broadcastable.
        alpha: Probability that a limit lies above the true tau, in (0, 0.5].

    Returns:
        Limits, in [-1, 1] and at most the taus, same shape.

    Raises:
        ValueError: `alpha` is out of range.
        TooFewTrialsError: There are fewer than 5 models.

    Source: Inversion of the score test. With 10 models tau has steps of 0.04, and at a true tau of 0.8 one step
        contains 6 % of samples, so that no limit based on tau alone has a coverage of exactly 95 %.

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
        is_passed = observed - middle > reach * _arcsine_deviation(np.sin(middle), n)
        low, high = np.where(is_passed, middle, low), np.where(is_passed, high, middle)
    return np.where(np.isnan(observed), np.nan, np.sin(low))


def score_critical_tau(null_tau: float, n: int, alpha: float) -> float | None:
    """Compute the lowest tau at which the test rejects H0: true tau = null_tau.

    Args:
        null_tau: True tau under H0, in (-1, 1).
        n: Number of models, at least 5.
        alpha: Significance level, in (0, 0.5].

    Returns:
        The critical tau, or None if no tau is sufficient.

    Source: Inversion of `score_p_values`.

    >>> round(score_critical_tau(0.55, 20, 0.05), 3)
    0.728
    """
    _check_models(n)
    angle = math.asin(null_tau) + float(stats.norm.isf(alpha) * _arcsine_deviation(null_tau, n))
    tau = math.sin(min(angle, math.pi / 2)) + 2 / (n * (n - 1))
    return tau if tau <= 1 else None


def _reduced(taus: ArrayLike, n: ArrayLike) -> Floats:
    """Compute arcsines of observed taus after the continuity correction."""
    models = np.asarray(n, dtype=np.float64)
    reduced = np.asarray(taus, dtype=np.float64) - 2 / (models * (models - 1))
    return np.asarray(np.arcsin(np.maximum(reduced, -1.0)), dtype=np.float64)


def _arcsine_deviation(tau: ArrayLike, n: ArrayLike) -> Floats:
    """Compute the standard deviation of asin(tau) by the delta method, bounded below, as both factors vanish at 1."""
    true, models = np.asarray(tau, dtype=np.float64), np.asarray(n, dtype=np.float64)
    slope = np.sqrt(np.maximum(1 - true**2, 1e-12))
    return np.asarray(np.maximum(tau_deviation(true, models) / slope, np.sqrt(2 / (models * (models - 1)))))


def _check_models(n: ArrayLike) -> None:
    too_few = [models for models in np.ravel(n).tolist() if models < MIN_MODELS]
    if too_few:
        raise TooFewTrialsError(f"a score test of tau needs {MIN_MODELS} models, got {min(too_few)}: add models")
