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
    first, second, ends = _nested_pairs(sizes)
    correlations = np.broadcast_to(np.sin(math.pi / 2 * np.asarray(tau)), (studies, len(fractions)))
    remainders = np.sqrt(1 - correlations**2).astype(np.float32)
    correlations = correlations.astype(np.float32)
    reference = random.standard_normal(shape, dtype=np.float32)
    signs = np.sign(reference[:, first] - reference[:, second]).astype(np.int8)
    waning = random.standard_normal(shape, dtype=np.float32)
    taus = np.empty((len(sizes), studies, len(fractions)), dtype=np.float32)
    for look, fraction in enumerate(fractions):
        if look:
            kept = fractions[look - 1] / fraction
            waning = kept * waning + math.sqrt(1 - kept**2) * random.standard_normal(shape, dtype=np.float32)
        own = random.standard_normal(shape, dtype=np.float32)
        apart = math.sqrt(1 - noise_share) * waning + math.sqrt(noise_share) * own
        proxy = correlations[:, look, None] * reference + remainders[:, look, None] * apart
        agree = np.sign(proxy[:, first] - proxy[:, second]).astype(np.int8) * signs
        parts = np.add.reduceat(agree, np.concatenate([[0], ends[:-1]]), axis=1, dtype=np.int32)
        taus[:, :, look] = (np.cumsum(parts, axis=1) / ends).T
    return taus


def _nested_pairs(sizes: Sequence[int]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """List all pairs of models, pairs of smaller sets first, and the end of each set's pairs."""
    second, first = np.tril_indices(sizes[-1], -1)  # row by row: the pairs of a smaller set come first
    models = np.array(sizes)
    return first, second, models * (models - 1) // 2
