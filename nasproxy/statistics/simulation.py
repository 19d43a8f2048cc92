"""Simulation of studies: taus of models with normal scores and a given true tau, at successive looks."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nasproxy.statistics.missing import Floats

MOST_PAIRS = 1_000_000
"""Maximum number of pairs of models per look, over all studies."""


def count_studies(models: int, *, least: int = 1_000, most: int = 5_000) -> int:
    """Choose the number of studies to simulate, which decreases with the number of models.

    >>> count_studies(10), count_studies(30)
    (5000, 2298)
    """
    pairs = models * (models - 1) // 2
    return min(most, max(least, MOST_PAIRS // pairs))


def simulate_taus(
    tau: float | Floats,
    fractions: Sequence[float],
    sizes: Sequence[int],
    *,
    noise_share: float,
    studies: int,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Simulate the observed taus of a proxy task with a given true tau.

    Scores are normal. A proxy score is a multiple of the full-training score plus two components: one with correlation
    f_i / f_j between fractions f_i < f_j of training, and independent noise of each check.

    Args:
        tau: True tau, in [-1, 1]: the same at every look, or of shape (studies, looks).
        fractions: Fraction of training at each look, shape (looks,), increasing.
        sizes: Numbers of models, increasing; each set contains the smaller ones.
        noise_share: Share of the variance that is independent noise of each check, in [0, 1].
        studies: Number of studies.
        seed: Seed of the simulation.

    Returns:
        Tau, shape (sizes, studies, looks).

    Source: for normal scores tau = 2/pi asin(r), Greiner (1909).
    """
    random = np.random.default_rng(seed)
    shape = (studies, sizes[-1])
    correlations = np.broadcast_to(np.sin(math.pi / 2 * np.asarray(tau)), (studies, len(fractions)))
    remainders = np.sqrt(1 - correlations**2).astype(np.float32)
    correlations = correlations.astype(np.float32)
    reference = random.standard_normal(shape, dtype=np.float32)
    order = _compare_with_earlier(reference)
    waning = random.standard_normal(shape, dtype=np.float32)
    taus = np.empty((len(sizes), studies, len(fractions)), dtype=np.float32)
    models = np.array(sizes)
    pairs = models * (models - 1) // 2
    for look, fraction in enumerate(fractions):
        if look:
            kept = fractions[look - 1] / fraction
            waning = kept * waning + math.sqrt(1 - kept**2) * random.standard_normal(shape, dtype=np.float32)
        own = random.standard_normal(shape, dtype=np.float32)
        apart = math.sqrt(1 - noise_share) * waning + math.sqrt(noise_share) * own
        proxy = correlations[:, look, None] * reference + remainders[:, look, None] * apart
        same = [np.count_nonzero(a == b, axis=0) for a, b in zip(_compare_with_earlier(proxy), order, strict=True)]
        concordant = np.cumsum(same, axis=0)[models - 2]  # each model adds its pairs with those before it
        taus[:, :, look] = 2 * concordant / pairs[:, None] - 1
    return taus


def _compare_with_earlier(scores: NDArray[np.float32]) -> list[NDArray[np.bool_]]:
    """Compare each model but the first with those before it, in studies of shape (studies, models).

    Returns:
        For each of these models, whether its score is higher, shape (earlier models, studies). Normal scores have no
        ties, but for a few in a million pairs.
    """
    by_model = np.ascontiguousarray(scores.T)
    return [by_model[model] > by_model[:model] for model in range(1, len(by_model))]
