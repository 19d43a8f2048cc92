"""What a search gains by a proxy task: how good the best model is that its ranks bring to full training."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from nasproxy.statistics.missing import Floats

NODES, WEIGHTS = np.polynomial.legendre.leggauss(200)
"""Of the integral over the proxy scores of the models that are not in the top; with 400 the result is the same."""
FARTHEST = 8.0
"""Standard scores beyond which no normal density is left."""


@dataclass(frozen=True)
class SearchOutcome:
    """What a search of random models finds, on average.

    Attributes:
        trials: Models that are ranked by their proxy scores.
        top: Models of these that are then trained fully.
        best_rank: Rank of the best of the top among all by full training, 1 the best; a mean, so no whole number.
    """

    trials: int
    top: int
    best_rank: float


def predict_outcome(tau: float, trials: int, *, top: int = 10, draws: int = 2000, seed: int = 0) -> SearchOutcome:
    """Simulate searches whose proxy scores are related to full training by a tau.

    Both scores are taken to be normal, with the correlation sin(pi tau / 2) that gives this tau, and all models to be
    drawn at random: a search that learns as it goes meets better models, which are harder to tell apart.

    Only the top's scores are drawn, as the largest of so many; how many of the others are better than the best of
    them is then an integral, so that a search of a million costs no more than one of a hundred.

    Args:
        tau: Kendall's tau of the proxy task, in [-1, 1].
        trials: Models that the search trains, at least 1.
        top: Its best models that are trained fully, at least 1; all of them where there are no more.
        draws: Searches to simulate.
        seed: Of the draws.

    Raises:
        ValueError: A number is out of range.

    Source: Kruskal (1958) for the correlation; Renyi (1953) for the largest of many.

    >>> search_outcome(1.0, 2000).best_rank
    1.0
    """
    if not -1 <= tau <= 1 or min(trials, top, draws) < 1:
        raise ValueError(
            f"a search needs a tau in [-1, 1] and at least 1 of trials, top and draws, got {tau}, {trials}, {top} "
            f"and {draws}"
        )
    top = min(top, trials)
    if tau == 1 or top == trials:
        return SearchOutcome(trials, top, 1.0)
    random = np.random.default_rng(seed)
    correlation = max(-1 + 1e-12, math.sin(math.pi * tau / 2))
    rest = math.sqrt(1 - correlation**2)
    proxy = stats.norm.isf(_smallest_uniforms(random, trials, top, draws))
    best = (correlation * proxy + rest * random.standard_normal(proxy.shape)).max(axis=1)
    better = _share_better(best, proxy.min(axis=1), correlation)
    return SearchOutcome(trials, top, 1.0 + (trials - top) * float(better.mean()))


def expect_random_rank(trials: int, trained: float) -> float:
    """Mean rank among `trials` random models of the best of those that are trained fully, taken at random.

    Args:
        trials: Models that could be trained.
        trained: Models that are, at least 1.

    Raises:
        ValueError: `trained` is below 1.

    >>> random_best_rank(2000, 2000)
    1.0
    """
    if trained < 1:
        raise ValueError(f"trained must be at least 1, got {trained}: of no model there is no best")
    return (trials + 1) / (min(trained, trials) + 1)


def _smallest_uniforms(random: np.random.Generator, trials: int, top: int, draws: int) -> Floats:
    """The smallest of so many uniform numbers, shape (draws, top): sums of exponentials over the sum of all."""
    sums = np.cumsum(random.standard_exponential((draws, top)), axis=1)
    others = random.standard_gamma(trials + 1 - top, size=(draws, 1))
    smallest: Floats = sums / (sums[:, -1:] + others)
    return smallest


def _share_better(
    best: Floats,
    edge: Floats,
    correlation: float,
) -> Floats:
    """Probability that a model whose proxy score lies below the edge is better than the best of the top, by draw."""
    low = -FARTHEST
    half = (edge - low) / 2
    scores = low + half[:, None] * (NODES + 1)
    density = np.exp(-(scores**2) / 2) / math.sqrt(2 * math.pi)
    # At a correlation of 1 the score decides alone, and the division's infinities say so.
    with np.errstate(divide="ignore"):
        reach = (correlation * scores - best[:, None]) / np.sqrt(1 - correlation**2)
    mass = half * ((density * special.ndtr(reach)) @ WEIGHTS)
    shares: Floats = mass / special.ndtr(edge)
    return shares
