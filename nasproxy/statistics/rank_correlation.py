"""Rank correlation and related measures between proxy and reference scores."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from nasproxy.errors import TooFewTrialsError
from nasproxy.statistics.fisher import FIELLER, fisher_z
from nasproxy.statistics.missing import Floats, as_vector, as_vectors

Z_95 = 1.96
"""Standard normal quantile of a two-sided 95 % interval."""


@dataclass(frozen=True)
class RankCorrelation:
    """Kendall's tau-b with its uncertainty.

    Attributes:
        tau: Tau-b, in [-1, 1].
        p_value: Two-sided p-value (H0: tau = 0).
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
        n: Number of models with both scores.
    """

    tau: float
    p_value: float
    low: float
    high: float
    n: int


def kendall_tau(proxy: ArrayLike, reference: ArrayLike, *, min_pairs: int = 5) -> RankCorrelation | None:
    """Compute Kendall's tau-b between proxy and reference scores.

    The p-value is exact for small sets without ties. The interval assumes |tau| below 0.8, and was too narrow on
    published learning curves of 10 models: do not base a decision on it alone.

    Args:
        proxy: Proxy scores, shape (n_models,), higher is better; NaN if missing.
        reference: Full-training scores, same shape and order.
        min_pairs: Minimum number of models with both scores.

    Returns:
        Tau-b with its interval, or None if one side is constant.

    Raises:
        TooFewTrialsError: Fewer than `min_pairs` models have both scores.
        ValueError: The shapes differ, or a score is infinite.

    Source: Kendall (1945); interval after Fieller (1957) and Bonett and Wright (2000).

    >>> round(kendall_tau([1, 2, 3, 5, 4], [10, 20, 30, 40, 50]).tau, 3)
    0.8
    """
    proxy, reference = _pairs(proxy, reference, min_pairs)
    if _is_constant(proxy) or _is_constant(reference):
        return None
    tau, p_value = (float(value) for value in stats.kendalltau(proxy, reference))
    low, high = _tau_interval(tau, proxy.size)
    return RankCorrelation(tau=tau, p_value=p_value, low=low, high=high, n=proxy.size)


def spearman(proxy: ArrayLike, reference: ArrayLike, *, min_pairs: int = 5) -> float | None:
    """Compute Spearman's rho between proxy and reference scores.

    Args:
        proxy: Proxy scores, shape (n_models,), higher is better; NaN if missing.
        reference: Full-training scores, same shape and order.
        min_pairs: Minimum number of models with both scores.

    Returns:
        Rho in [-1, 1], or None if one side is constant.

    Raises:
        TooFewTrialsError: Fewer than `min_pairs` models have both scores.
        ValueError: The shapes differ, or a score is infinite.

    Source: Spearman (1904).
    """
    proxy, reference = _pairs(proxy, reference, min_pairs)
    if _is_constant(proxy) or _is_constant(reference):
        return None
    return float(stats.spearmanr(proxy, reference).statistic)


def weighted_tau(proxy: ArrayLike, reference: ArrayLike, *, min_pairs: int = 5) -> float | None:
    """Compute weighted tau, in which exchanges among the best models have more weight, hyperbolically by rank.

    Args:
        proxy: Proxy scores, shape (n_models,), higher is better; NaN if missing.
        reference: Full-training scores, same shape and order.
        min_pairs: Minimum number of models with both scores.

    Returns:
        Weighted tau in [-1, 1], averaged over ranking by either side; None if one side is constant.

    Raises:
        TooFewTrialsError: Fewer than `min_pairs` models have both scores.
        ValueError: The shapes differ, or a score is infinite.

    Source: Vigna (2015).
    """
    proxy, reference = _pairs(proxy, reference, min_pairs)
    if _is_constant(proxy) or _is_constant(reference):
        return None
    return float(stats.weightedtau(proxy, reference).statistic)


def top_k_regret(proxy: ArrayLike, reference: ArrayLike, k: int = 3) -> float:
    """Compute the regret of training fully only the proxy's top `k` models.

    Ties of proxy scores at the edge of the top count against the proxy: the worse model is included.

    Args:
        proxy: Proxy scores, shape (n_models,), higher is better; NaN if missing.
        reference: Full-training scores, same shape and order.
        k: Number of models to train fully, at least 1.

    Returns:
        Best reference score minus the best among the proxy's top `k`, in units of the score; at least 0.

    Raises:
        TooFewTrialsError: Fewer than `k` models have both scores.
        ValueError: `k` is below 1, the shapes differ, or a score is infinite.

    >>> top_k_regret([4, 3, 2, 1], [0.5, 0.75, 0.25, 1.0], k=2)
    0.25
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}: give the number of models to train fully")
    proxy, reference = _pairs(proxy, reference, k)
    best_first = np.lexsort((reference, -proxy))  # ties count against the proxy
    return float(reference.max() - reference[best_first[:k]].max())


def tau_in_better_half(proxy: ArrayLike, reference: ArrayLike, *, min_pairs: int = 3) -> RankCorrelation | None:
    """Compute Kendall's tau-b among the better half of the reference models, which matter most for a search.

    Args:
        proxy: Proxy scores, shape (n_models,), higher is better; NaN if missing.
        reference: Full-training scores, same shape and order.
        min_pairs: Minimum number of models in the better half.

    Returns:
        Tau-b with its interval, or None if one side is constant.

    Raises:
        TooFewTrialsError: The better half has fewer than `min_pairs` models with both scores.
        ValueError: The shapes differ, or a score is infinite.
    """
    proxy, reference = _pairs(proxy, reference, 1)
    is_better = is_in_better_half(reference)
    return kendall_tau(proxy[is_better], reference[is_better], min_pairs=min_pairs)


def is_in_better_half(scores: Floats) -> NDArray[np.bool_]:
    """Return which scores are in the better half, including the median of an odd number and ties at the edge.

    Args:
        scores: Shape (n,), n at least 1, without missing scores.

    Returns:
        Mask of shape (n,).
    """
    return np.asarray(scores >= np.sort(scores)[scores.size // 2], dtype=np.bool_)


def rank_failed_last(scores: ArrayLike, failed_mask: ArrayLike) -> Floats:
    """Impute one score below all others for failed models (out of memory, diverged), so that they tie for last rank.

    Use the result for ranks only: the imputed score is no measurement, and would distort means and deviations.

    Args:
        scores: Shape (n_models,), higher is better; NaN if missing.
        failed_mask: Same shape and order, true for failed models.

    Returns:
        Scores, shape (n_models,): imputed for failed models, NaN if missing for other reasons.

    Raises:
        ValueError: The shapes differ, or a score is infinite.

    >>> rank_failed_last([0.5, float("nan"), 0.25], [False, True, False]).tolist()
    [0.5, -0.75, 0.25]
    """
    has_failed = np.asarray(failed_mask, dtype=np.bool_)
    ranked = as_vector("scores", scores).copy()
    if has_failed.shape != ranked.shape:
        raise ValueError(
            f"failed_mask must have the shape of scores, {ranked.shape}, got {has_failed.shape}: give one value a model"
        )
    others = ranked[~has_failed & ~np.isnan(ranked)]
    lowest = float(others.min()) if others.size else 0.0
    ranked[has_failed] = lowest - max(1.0, abs(lowest))  # relative, since 1e17 - 1 == 1e17
    return ranked


def _pairs(proxy: ArrayLike, reference: ArrayLike, min_pairs: int) -> tuple[Floats, Floats]:
    """Select the models with both scores."""
    proxies, references = as_vectors(proxy=proxy, reference=reference)
    has_both = ~(np.isnan(proxies) | np.isnan(references))
    n = int(has_both.sum())
    if n < min_pairs:
        raise TooFewTrialsError(
            f"a rank correlation needs {min_pairs} models with both a proxy and a reference score, "
            f"got {n} of {proxies.size}: add models, or see why trials have no score"
        )
    return proxies[has_both], references[has_both]


def _is_constant(scores: Floats) -> bool:
    return bool((scores == scores[:1]).all())


def _tau_interval(tau: float, n: int) -> tuple[float, float]:
    """Compute the 95 % interval of tau; [-1, 1] for 4 or fewer models.

    Fisher's z is clipped at |tau| = 1, so the interval is extended to contain tau.
    """
    if n <= FIELLER.offset:
        return -1.0, 1.0
    centre = float(fisher_z(tau, n))
    reach = Z_95 * FIELLER.sd(n)
    return min(math.tanh(centre - reach), tau), max(math.tanh(centre + reach), tau)
