"""What missing scores could do to tau: its lowest and highest value over all scores that they might have had."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from nasproxy.errors import TooFewTrialsError
from nasproxy.statistics.concordance import sign_differences, sign_pairs
from nasproxy.statistics.missing import Floats, as_vectors


@dataclass(frozen=True)
class TauBounds:
    """The range of tau-b that missing scores leave open.

    Attributes:
        low: Lowest tau-b.
        high: Highest tau-b.
        lost: Models that miss a score.
    """

    low: float
    high: float
    lost: int


def worst_case_tau(proxy: ArrayLike, reference: ArrayLike) -> TauBounds | None:
    """Bound tau-b over all values that the missing scores could take, ties included.

    Both ends are reached by some completion, unless some models miss only their proxy score and others only
    their reference score: then the bounds hold, but may lie a little too far out. Give models that failed by
    their own fault their last rank first, with `rank_failed_last`: only lost ones are unknown.

    Args:
        proxy: Proxy scores, shape (n_models,); NaN where missing.
        reference: Full-training scores, same shape and order; NaN where missing.

    Returns:
        The bounds, or None where one side is constant whatever the missing scores.

    Raises:
        TooFewTrialsError: Fewer than 2 models.
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
    """The highest tau-b: the most concordance for each number of ties, over all numbers of ties.

    A model that misses both scores is best at the top of both. One that misses its proxy score and one that
    misses its reference score are taken to agree, which is what can be too good to be true.
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
    """The most concordance that models without a score on one side add, by the number of ties that they add.

    In the best completion their order is that of their other scores, since to swap two that are not costs
    nothing. So the places, from the lowest up, each take the next few of them, which tie there.

    Returns:
        Shape (ties + 1,); -inf for a number of ties that cannot be.
    """
    fixed, lost_others = side[~np.isnan(side)], np.sort(other[np.isnan(side) & ~np.isnan(other)])
    m = lost_others.size
    values, ranks, counts = np.unique(fixed, return_inverse=True, return_counts=True)
    gaps = np.repeat(np.arange(values.size + 1) - 0.5, m)  # as often as models may stand there one above another
    places = np.sort(np.concatenate([np.arange(values.size), gaps]))
    against_fixed = sign_differences(lost_others[:, None], other[~np.isnan(side)]).astype(np.float64)
    added = against_fixed @ sign_differences(places, ranks[:, None].astype(np.float64))
    among_lost = sign_differences(lost_others[:, None], lost_others).astype(np.float64)

    best = np.full((m + 1, m * fixed.size + _n_pairs(m) + 1), -np.inf)
    best[0, 0] = among_lost.clip(0).sum()
    for place, rank in enumerate(places):
        ties_each = int(counts[int(rank)]) if rank.is_integer() else 0
        for end in range(m, 0, -1):  # downwards: a place is used once
            for start in range(end):
                block = slice(start, end)
                gain = added[block, place].sum() - among_lost[block, block].clip(0).sum()
                ties = (end - start) * ties_each + _n_pairs(end - start)
                kept = best.shape[1] - ties
                np.maximum(best[end, ties:], best[start, :kept] + gain, out=best[end, ties:])
    gains: Floats = best[m]
    return gains


def _untied(side: Floats, sizes: int) -> Floats:
    """Pairs that do not tie on a side where 0, 1, ... ties are added to those of its known scores."""
    _, counts = np.unique(side[~np.isnan(side)], return_counts=True)
    ties = int((counts * (counts - 1)).sum()) // 2
    untied: Floats = np.maximum(_n_pairs(side.size) - ties - np.arange(sizes, dtype=np.float64), 0.0)
    return untied


def _n_pairs(n: int) -> int:
    return n * (n - 1) // 2
