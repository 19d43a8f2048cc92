"""Noise ceiling of the reference scores, and whether their range suffices for a ranking."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from nasproxy.errors import TooFewTrialsError
from nasproxy.statistics.missing import Floats, keep_present
from nasproxy.statistics.rank_correlation import is_in_better_half
from nasproxy.statistics.variance import CONFIDENCE, SeedDeviation


@dataclass(frozen=True)
class NoiseCeiling:
    """Expected tau between a perfect proxy and reference scores with seed noise.

    Attributes:
        tau: Noise ceiling, in [0, 1].
        low: Lower end of its 95 % interval.
        high: Upper end of its 95 % interval.
        reliability: Share of the reference scores' variance that is not seed noise, in [0, 1].
    """

    tau: float
    low: float
    high: float
    reliability: float


@dataclass(frozen=True)
class RangeCheck:
    """Whether the range of the reference scores suffices for a ranking.

    Attributes:
        is_usable: Whether there are enough groups.
        distinct_groups: Number of groups of scores that can be distinguished despite seed noise.
        message: Text of the finding, with advice if the range is not usable.
    """

    is_usable: bool
    distinct_groups: int
    message: str


def compute_noise_ceiling(reference_scores: ArrayLike, seed_deviation: SeedDeviation) -> NoiseCeiling | None:
    """Estimate the tau between a perfect, noiseless proxy and reference scores of one seed each.

    A reference score is y = true score + seed noise. The share of its variance that is true is
    r = 1 - sigma_seed^2 / Var(y), its correlation with the true scores is sqrt(r), and for normal scores
    their tau is (2/pi) asin(sqrt(r)). A proxy task with seed noise reaches less.

    Interval: with s from m seeds and Var(y) from n models, both independent and normal,
    (s^2 / Var(y)) / (sigma_seed^2 / sigma_y^2) follows F(m - 1, n - 1). So sigma_seed^2 / sigma_y^2 lies
    between (s^2 / Var(y)) / F_0.975 and (s^2 / Var(y)) / F_0.025, and tau decreases with this ratio.

    Args:
        reference_scores: Full-training scores, shape (n_models,); NaN is ignored. Give NaN for failed models: an
            imputed score would count as true variance.
        seed_deviation: Standard deviation over seeds of one architecture's full-training score.

    Returns:
        The ceiling, or None if all reference scores are equal.

    Raises:
        TooFewTrialsError: Fewer than 2 scores.
        ValueError: The scores are not one-dimensional, or one is infinite.

    Source: Greiner (1909) for tau of normal scores; F interval of a variance ratio.
    """
    scores = _known_scores(reference_scores, 2)
    if scores.min() == scores.max():
        return None
    noise_share = seed_deviation.sd**2 / float(scores.var(ddof=1))
    tail = (1 - CONFIDENCE) / 2
    low_f, high_f = stats.f.ppf([tail, 1 - tail], seed_deviation.n - 1, scores.size - 1)
    return NoiseCeiling(
        tau=_perfect_tau(noise_share),
        low=_perfect_tau(noise_share / float(low_f)),
        high=_perfect_tau(noise_share / float(high_f)),
        reliability=_reliability(noise_share),
    )


def compare_spread_with_noise(scores: ArrayLike, sd: float) -> float | None:
    """Compute the ratio of the better half's standard deviation to that over seeds; near 1, ranks are mostly noise.

    Args:
        scores: Scores of different models, shape (n_models,), higher is better; NaN is ignored.
        sd: Standard deviation over seeds, in units of the score.

    Returns:
        The ratio, or None if `sd` is 0.

    Raises:
        TooFewTrialsError: Fewer than 3 scores.
        ValueError: `sd` is negative, the scores are not one-dimensional, or one is infinite.
    """
    _check_deviation(sd)
    known = _known_scores(scores, 3)
    if sd == 0:
        return None
    return float(known[is_in_better_half(known)].std(ddof=1) / sd)


def check_range(scores: ArrayLike, sd: float, *, min_groups: int = 4) -> RangeCheck:
    """Count groups of scores that can be distinguished despite seed noise, and compare with the minimum.

    From the lowest score up, a group contains the scores within 2 `sd` of its lowest member. The number of groups is
    therefore the largest number of models whose scores all differ by more than 2 `sd`. A chain of scores in small
    steps forms several groups, so that adding models never reduces the number of groups.

    Args:
        scores: Scores of different models, shape (n_models,); NaN is ignored.
        sd: Standard deviation over seeds, in units of the score.
        min_groups: Minimum number of groups for a usable range.

    Raises:
        TooFewTrialsError: There are no scores.
        ValueError: `sd` is negative, the scores are not one-dimensional, or one is infinite.

    >>> check_range([0.1, 0.11, 0.9, 0.91], sd=0.01).distinct_groups
    2
    """
    _check_deviation(sd)
    known = np.sort(_known_scores(scores, 1))
    n_groups = _count_groups(known, 2 * sd)
    finding = (
        f"{n_groups} of {known.size} scores between {known[0]:.4g} and {known[-1]:.4g} are distinguishable, more "
        f"than 2 seed SDs ({2 * sd:.2g}) apart"
    )
    if n_groups >= min_groups:
        return RangeCheck(is_usable=True, distinct_groups=n_groups, message=finding)
    remedy = (
        f"{finding}; a ranking needs {min_groups}: widen the search space, add reference models, or reduce seed noise"
    )
    return RangeCheck(is_usable=False, distinct_groups=n_groups, message=remedy)


def _known_scores(scores: ArrayLike, needed: int) -> Floats:
    known = keep_present("scores", scores)
    if known.size < needed:
        raise TooFewTrialsError(
            f"the spread of reference scores needs {needed} of them, got {known.size}: train more reference models"
        )
    return known


def _check_deviation(sd: float) -> None:
    if not sd >= 0:
        raise ValueError(f"sd must be at least 0, got {sd}: give the standard deviation over seeds")


def _reliability(noise_share: float) -> float:
    return min(max(1.0 - noise_share, 0.0), 1.0)


def _perfect_tau(noise_share: float) -> float:
    return 2.0 / math.pi * math.asin(math.sqrt(_reliability(noise_share)))


def _count_groups(sorted_scores: Floats, width: float) -> int:
    groups, start = 0, -math.inf
    for score in sorted_scores:
        if score - start > width:
            groups, start = groups + 1, score
    return groups
