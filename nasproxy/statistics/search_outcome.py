"""Expected result of a search with a proxy task: the rank of the best model that is then trained fully."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from nasproxy.statistics.missing import Floats

NODES, WEIGHTS = np.polynomial.legendre.leggauss(200)
"""Quadrature over the proxy scores of models outside the top; 400 nodes give the same result."""
FARTHEST = 8.0
"""Standard score beyond which the normal density is negligible."""


@dataclass(frozen=True)
class SearchOutcome:
    """Expected result of a search over random models.

    Attributes:
        trials: Number of models that are ranked by their proxy scores.
        top: Number of best models that are then trained fully.
        best_rank: Mean rank by full training, among all trials, of the best model in the top; 1 is the best.
    """

    trials: int
    top: int
    best_rank: float


def predict_outcome(tau: float, trials: int, *, top: int = 10, draws: int = 2000, seed: int = 0) -> SearchOutcome:
    """Simulate searches with a proxy task of a given tau.

    Proxy and reference scores are bivariate normal with correlation sin(pi tau / 2), which corresponds to this tau,
    and all models are random: a search algorithm that adapts finds better models, which are harder to rank.

    Only the scores of the top are drawn, as order statistics; the number of other models that are better than the
    best of the top is an integral, so that the cost does not depend on the number of trials.

    Args:
        tau: Kendall's tau of the proxy task, in [-1, 1].
        trials: Number of models that the search trains, at least 1.
        top: Number of best models that are trained fully, at least 1; at most `trials` are.
        draws: Number of simulated searches.
        seed: Seed of the simulation.

    Raises:
        ValueError: A number is out of range.

    Source: Kruskal (1958) for the correlation; Renyi (1953) for the largest of many.

    >>> predict_outcome(1.0, 2000).best_rank
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
    """Compute the mean rank, among `trials` random models, of the best of `trained` models chosen at random.

    Args:
        trials: Number of models.
        trained: Number of models that are trained fully, at least 1.

    Raises:
        ValueError: `trained` is below 1.

    >>> expect_random_rank(2000, 2000)
    1.0
    """
    if trained < 1:
        raise ValueError(f"trained must be at least 1, got {trained}: of no model there is no best")
    return (trials + 1) / (min(trained, trials) + 1)


def _smallest_uniforms(random: np.random.Generator, trials: int, top: int, draws: int) -> Floats:
    """Draw the `top` smallest of `trials` uniform numbers, shape (draws, top), as ratios of sums of exponentials."""
    sums = np.cumsum(random.standard_exponential((draws, top)), axis=1)
    others = random.standard_gamma(trials + 1 - top, size=(draws, 1))
    smallest: Floats = sums / (sums[:, -1:] + others)
    return smallest


def _share_better(
    best: Floats,
    edge: Floats,
    correlation: float,
) -> Floats:
    """Compute, for each draw, the probability that a model outside the top is better than the best of the top."""
    low = -FARTHEST
    half = (edge - low) / 2
    scores = low + half[:, None] * (NODES + 1)
    density = np.exp(-(scores**2) / 2) / math.sqrt(2 * math.pi)
    # At a correlation of 1 the quotient is infinite, and ndtr gives the correct 0 or 1.
    with np.errstate(divide="ignore"):
        reach = (correlation * scores - best[:, None]) / np.sqrt(1 - correlation**2)
    mass = half * ((density * special.ndtr(reach)) @ WEIGHTS)
    shares: Floats = mass / special.ndtr(edge)
    return shares
