"""Worst-case bounds of tau over all possible values of missing scores."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from nasproxy.errors import TooFewTrialsError
from nasproxy.statistics.concordance import sign_differences, sign_pairs
from nasproxy.statistics.missing import Floats, as_vectors


@dataclass(frozen=True)
class TauBounds:
    """Range of tau-b over all values of the missing scores.

    Attributes:
        low: Lowest tau-b.
        high: Highest tau-b.
        lost: Number of models with a missing score.
    """

    low: float
    high: float
    lost: int


def worst_case_tau(proxy: ArrayLike, reference: ArrayLike) -> TauBounds | None:
    """Compute bounds of tau-b over all values of the missing scores, including ties.

    The bounds are sharp unless some models lack only their proxy score and others only their reference score; they
    are then valid but may be slightly too wide. Apply `rank_failed_last` first, so that models that ran out of memory
    or diverged have the last rank and only lost scores count as missing.

    Args:
        proxy: Proxy scores, shape (n_models,); NaN if missing.
        reference: Full-training scores, same shape and order; NaN if missing.

    Returns:
        The bounds, or None if one side is constant for all values of the missing scores.

    Raises:
        TooFewTrialsError: There are fewer than 2 models.
        ValueError: The shapes differ, or a score is infinite.

    >>> worst_case_tau([1, 2, 3, float("nan")], [10, 20, 30, 40])
    TauBounds(low=0.0, high=1.0, lost=1)
    """
    proxies, references = as_vectors(proxy=proxy, reference=reference)
    if proxies.size < 2:
        raise TooFewTrialsError(f"bounds of tau need 2 models, got {proxies.size}: add models")
    high, turned_low = _highest_tau(proxies, references), _highest_tau(proxies, -references)
    if high is None or turned_low is None:
        return None
    lost = int((np.isnan(proxies) | np.isnan(references)).sum())
    return TauBounds(low=0.0 - turned_low, high=high, lost=lost)


def _highest_tau(proxy: Floats, reference: Floats) -> float | None:
    """Compute the highest tau-b: the maximum concordance for each number of ties, over all numbers of ties.

    A model without both scores is best placed at the top of both sides. A model without a proxy score and one without
    a reference score are assumed to be concordant, which can make the bound too high.
    """
    n = proxy.size
    lacks_proxy, lacks_reference = np.isnan(proxy), np.isnan(reference)
    n_free = int((lacks_proxy & lacks_reference).sum())
    n_crossing = int((lacks_proxy & ~lacks_reference).sum() * (lacks_reference & ~lacks_proxy).sum())
    known = np.stack([proxy, reference])[:, ~(lacks_proxy | lacks_reference)]
    concordance = float(sign_pairs(known).prod(axis=0).sum()) + n_crossing + n_free * (n - n_free) + _n_pairs(n_free)
    most = concordance + np.add.outer(_gains(proxy, reference), _gains(reference, proxy))
    untied = np.multiply.outer(_untied(proxy, most.shape[0]), _untied(reference, most.shape[1]))
    is_possible = (untied > 0) & np.isfinite(most)
    if not is_possible.any():
        return None
    return min(1.0, float((most[is_possible] / np.sqrt(untied[is_possible])).max()))


def _gains(side: Floats, other: Floats) -> Floats:
    """Compute the maximum concordance that models without a score on one side add, by the number of added ties.

    In an optimal completion these models are in the order of their other scores, since sorting two of them never
    reduces the concordance. So each place, from the lowest up, takes the next few models, which tie there.

    Returns:
        Shape (ties + 1,); -inf for impossible numbers of ties.
    """
    fixed, lost_others = side[~np.isnan(side)], np.sort(other[np.isnan(side) & ~np.isnan(other)])
    m = lost_others.size
    values, ranks, counts = np.unique(fixed, return_inverse=True, return_counts=True)
    gaps = np.repeat(np.arange(values.size + 1) - 0.5, m)  # once for each model that can be placed there without ties
    places = np.sort(np.concatenate([np.arange(values.size), gaps]))
    against_fixed = sign_differences(lost_others[:, None], other[~np.isnan(side)]).astype(np.float64)
    added = against_fixed @ sign_differences(places, ranks[:, None].astype(np.float64))
    among_lost = sign_differences(lost_others[:, None], lost_others).astype(np.float64)

    best = np.full((m + 1, m * fixed.size + _n_pairs(m) + 1), -np.inf)
    best[0, 0] = among_lost.clip(0).sum()
    for place, rank in enumerate(places):
        ties_each = int(counts[int(rank)]) if rank.is_integer() else 0
        for end in range(m, 0, -1):  # in decreasing order, so that each place is used once
            for start in range(end):
                block = slice(start, end)
                gain = added[block, place].sum() - among_lost[block, block].clip(0).sum()
                ties = (end - start) * ties_each + _n_pairs(end - start)
                kept = best.shape[1] - ties
                np.maximum(best[end, ties:], best[start, :kept] + gain, out=best[end, ties:])
    gains: Floats = best[m]
    return gains


def _untied(side: Floats, sizes: int) -> Floats:
    """Count the untied pairs of one side after adding 0, 1, ... ties to those of its known scores."""
    _, counts = np.unique(side[~np.isnan(side)], return_counts=True)
    ties = int((counts * (counts - 1)).sum()) // 2
    untied: Floats = np.maximum(_n_pairs(side.size) - ties - np.arange(sizes, dtype=np.float64), 0.0)
    return untied


def _n_pairs(n: int) -> int:
    return n * (n - 1) // 2
