"""How sure tau is, by drawing the models again: intervals, and lower bounds that hold for all checks at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from nasproxy.errors import TooFewTrialsError
from nasproxy.statistics.concordance import (
    has_both_scores,
    keep_complete,
    kendall_taus,
    list_model_pairs,
    sign_pairs,
    tau_b,
)
from nasproxy.statistics.missing import Floats
from nasproxy.statistics.score_test import MIN_MODELS, score_lower_limits

RESAMPLES = 2000
DRAWS = 5_000
"""Normal deviations to take a quantile of: 5 % of them are known to 0.3 %."""


@dataclass(frozen=True, eq=False)
class TauIntervals:
    """Intervals of tau, one a check.

    Attributes:
        low: Lower ends, shape (checks,); NaN where tau is undefined.
        high: Upper ends, same shape.
    """

    low: Floats
    high: Floats


def bootstrap_taus(scores: ArrayLike, reference: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Tau-b of models drawn again with replacement, the same models at all checks.

    A model that is drawn twice ties with itself; tau-b leaves such pairs out of its denominator.

    Args:
        scores: Scores, shape (checks, n_models), higher is better; NaN where a model has none.
        reference: Full-training scores, shape (n_models,), same order; NaN where a model has none.
        resamples: Times to draw, at least 1.
        seed: Seed of the draws; the same one draws the same models.

    Returns:
        Tau-b, shape (resamples, checks); NaN where a resample leaves it undefined.

    Raises:
        TooFewTrialsError: Fewer than 5 models have a reference score.
        ValueError: The shapes do not fit, a score is infinite, or `resamples` is below 1.

    Source: Efron (1979).
    """
    table, known = keep_complete(scores, reference)
    n = known.size
    if n < MIN_MODELS:
        raise TooFewTrialsError(f"a bootstrap needs {MIN_MODELS} reference models, got {n}: train more of them")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}: give a number like {RESAMPLES}")
    copies = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
    first, second = list_model_pairs(n)
    weights = copies[:, first] * copies[:, second]
    in_scores, in_reference = sign_pairs(table), sign_pairs(known[None, :])
    return tau_b(
        weights @ (in_scores * in_reference).T,
        weights @ np.abs(in_scores).T,
        weights @ (np.abs(in_reference) * has_both_scores(table)).T,
    )


def bootstrap_intervals(
    scores: ArrayLike,
    reference: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> TauIntervals:
    """Percentile intervals of tau-b, each for its own check.

    A resample in which tau is undefined tells nothing: it counts as -1 for the lower end and as 1 for the
    upper. Where tau is 1 or -1, all resamples agree and the interval is that point: there, and generally for 10
    models or fewer, the analytic interval of `kendall_tau` is the safer one.

    Args:
        scores: Scores, shape (checks, n_models), higher is better; NaN where a model has none.
        reference: Full-training scores, shape (n_models,), same order; NaN where a model has none.
        confidence: Two-sided, in (0, 1).
        resamples: Times to draw, at least 1.
        seed: Seed of the draws.

    Raises:
        TooFewTrialsError: Fewer than 5 models have a reference score.
        ValueError: The shapes do not fit, a score is infinite, or a number is out of range.

    Source: Efron (1979).
    """
    _check_share("confidence", confidence)
    tail = (1 - confidence) / 2
    drawn = bootstrap_taus(scores, reference, resamples=resamples, seed=seed)
    low = np.quantile(np.nan_to_num(drawn, nan=-1.0), tail, axis=0)
    high = np.quantile(np.nan_to_num(drawn, nan=1.0), 1 - tail, axis=0)
    is_undefined = np.isnan(kendall_taus(scores, reference))
    low[is_undefined], high[is_undefined] = np.nan, np.nan
    return TauIntervals(low=low, high=high)


def simultaneous_lower_bounds(
    scores: ArrayLike, reference: ArrayLike, *, alpha: float = 0.05, resamples: int = RESAMPLES, seed: int = 0
) -> Floats:
    """Lower bounds of tau that hold for all checks at once, however these hang together.

    The bootstrap over models tells how far the taus of the checks go together; the largest of as many normal
    deviations that go together likewise is exceeded with probability alpha at some quantile, and each check gets
    the lower limit of a score test at that quantile. Its deviation is not that of the resamples, which is far too
    large where few models are drawn again, and 0 where all of them agree.

    Args:
        scores: Scores, shape (checks, n_models), higher is better; NaN where a model has none.
        reference: Full-training scores, shape (n_models,), same order; NaN where a model has none.
        alpha: Probability that a bound of any check lies above its true tau, in (0, 0.5].
        resamples: Times to draw, at least 1.
        seed: Seed of the draws.

    Returns:
        Bounds, shape (checks,); -1 for a check with fewer than 5 models, NaN where tau is undefined.

    Raises:
        TooFewTrialsError: Fewer than 5 models have a reference score.
        ValueError: The shapes do not fit, a score is infinite, or a number is out of range.

    Source: plug-in sup-t bands of Montiel Olea and Plagborg-Moller (2019), with a score test for the scale.
    """
    _check_share("alpha", alpha)
    drawn = bootstrap_taus(scores, reference, resamples=resamples, seed=seed)
    taus = kendall_taus(scores, reference)
    counts = np.count_nonzero(~np.isnan(keep_complete(scores, reference)[0]), axis=1)
    bounds = np.where(np.isnan(taus), np.nan, -1.0)
    is_judged = ~np.isnan(taus) & (counts >= MIN_MODELS)
    if is_judged.any():
        quantile = _sup_t_quantile(drawn[:, is_judged], alpha, seed)
        tail = float(stats.norm.sf(quantile))
        bounds[is_judged] = score_lower_limits(taus[is_judged], counts[is_judged], alpha=tail)
    return bounds


def _sup_t_quantile(drawn: Floats, alpha: float, seed: int) -> float:
    """Quantile of the largest of normal deviations that correlate as the drawn taus do.

    What is unknown counts as unrelated, which makes the quantile larger: a resample without a tau, and a check at
    which all resamples agree.
    """
    known = np.isfinite(drawn)
    centre = np.where(known, drawn, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    deviations = np.where(known, drawn - centre, 0.0)
    length = np.sqrt(np.square(deviations).sum(axis=0))
    directions = np.divide(deviations, length, out=np.zeros_like(deviations), where=length > 0)
    correlation = directions.T @ directions
    np.fill_diagonal(correlation, 1.0)
    rng = np.random.default_rng(seed)
    normal = rng.multivariate_normal(np.zeros(len(correlation)), correlation, size=DRAWS, method="eigh")
    return max(float(np.quantile(normal.max(axis=1), 1 - alpha)), float(stats.norm.isf(alpha)))


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie in (0, 1), got {value}: give a share, not a percentage")
