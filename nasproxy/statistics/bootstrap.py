"""How sure tau is, by drawing the models again: intervals, and lower bounds that hold for all checks at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from nasproxy.errors import TooFewTrialsError
from nasproxy.statistics.concordance import (
    complete_columns,
    has_both_scores,
    kendall_taus,
    model_pairs,
    pair_signs,
    tau_b,
)
from nasproxy.statistics.fisher import WIDE, ZVariance, fisher_z
from nasproxy.statistics.missing import Floats

RESAMPLES = 2000
MIN_MODELS = 5
"""Of fewer models there are too few different resamples to speak of a distribution."""


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
    table, known = complete_columns(scores, reference)
    n = known.size
    if n < MIN_MODELS:
        raise TooFewTrialsError(f"a bootstrap needs {MIN_MODELS} reference models, got {n}: train more of them")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}: give a number like {RESAMPLES}")
    copies = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
    first, second = model_pairs(n)
    weights = copies[:, first] * copies[:, second]
    in_scores, in_reference = pair_signs(table), pair_signs(known[None, :])
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
    scores: ArrayLike,
    reference: ArrayLike,
    *,
    alpha: float = 0.05,
    variance: ZVariance = WIDE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Floats:
    """Lower bounds of tau that hold for all checks at once, however they hang together.

    On the scale of Fisher's z, the largest studentised deviation over all checks is drawn by the bootstrap over
    models; its 1 - alpha quantile, not below that of a single check, replaces the normal quantile. A check's
    standard deviation is that of its resamples, but not below the analytic one, since resamples of models that
    agree show none. Resamples that leave a tau undefined count as the highest there.

    Args:
        scores: Scores, shape (checks, n_models), higher is better; NaN where a model has none.
        reference: Full-training scores, shape (n_models,), same order; NaN where a model has none.
        alpha: Probability that a bound of any check lies above its true tau.
        variance: Least variance of atanh(tau) by the number of models; with too few of them the bound is -1.
        resamples: Times to draw, at least 1.
        seed: Seed of the draws.

    Returns:
        Bounds, shape (checks,); NaN where tau is undefined.

    Raises:
        TooFewTrialsError: Fewer than 5 models have a reference score.
        ValueError: The shapes do not fit, a score is infinite, or a number is out of range.

    Source: sup-t bands after Montiel Olea and Plagborg-Moller (2019); cluster bootstrap over models.
    """
    _check_share("alpha", alpha)
    drawn = bootstrap_taus(scores, reference, resamples=resamples, seed=seed)
    taus = kendall_taus(scores, reference)
    bounds = np.full(taus.shape, np.nan)
    is_defined = ~np.isnan(taus)
    if not is_defined.any():
        return bounds
    counts = np.count_nonzero(~np.isnan(complete_columns(scores, reference)[0]), axis=1)[is_defined]
    centre = fisher_z(taus[is_defined], counts)
    deviations = fisher_z(np.nan_to_num(drawn[:, is_defined], nan=1.0), counts) - centre
    spread = deviations.std(axis=0)
    studentised = np.divide(deviations, spread, out=np.zeros_like(deviations), where=spread > 0)
    quantile = max(float(np.quantile(studentised.max(axis=1), 1 - alpha)), float(stats.norm.ppf(1 - alpha)))
    least = np.array([variance.sd(n) if n > variance.offset else np.inf for n in counts.tolist()])
    bounds[is_defined] = np.tanh(centre - quantile * np.maximum(spread, least))
    return bounds


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie in (0, 1), got {value}: give a share, not a percentage")
