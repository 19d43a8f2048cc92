"""Studies that were never trained: taus of models with normal scores, at a true tau, look after look."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MOST_PAIRS = 1_000_000
"""Pairs of models, over all studies, that one look may take."""


def count_studies(models: int, *, least: int = 1_000, most: int = 5_000) -> int:
    """How many studies to simulate of so many models: fewer of larger ones, which take longer.

    >>> studies_of(10), studies_of(30)
    (5000, 2298)
    """
    pairs = models * (models - 1) // 2
    return min(most, max(least, MOST_PAIRS // pairs))


def simulate_taus(
    tau: float,
    fractions: Sequence[float],
    sizes: Sequence[int],
    *,
    noise_share: float,
    studies: int,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Simulate what studies see of a proxy task whose true tau is the same at every look.

    Full-training scores and proxy scores are normal. What keeps a proxy score from the full one has two parts: one that
    wanes as training goes on, correlated f_i / f_j between fractions f_i < f_j of training, and the check's own noise.

    Args:
        tau: The true tau, in (-1, 1).
        fractions: Fraction of training at each look, shape (looks,), rising.
        sizes: Numbers of models to judge on, rising; each set holds the ones before it.
        noise_share: Share of the variance that is a check's own noise, in [0, 1].
        studies: How many studies.
        seed: Which ones.

    Returns:
        Tau, shape (sizes, studies, looks).

    Source: for normal scores tau = 2/pi asin(r), Greiner (1909).
    """
    random = np.random.default_rng(seed)
    shape = (studies, sizes[-1])
    first, second, ends = _nested_pairs(sizes)
    correlation = math.sin(math.pi / 2 * tau)
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
        proxy = correlation * reference + math.sqrt(1 - correlation**2) * apart
        agree = np.sign(proxy[:, first] - proxy[:, second]).astype(np.int8) * signs
        parts = np.add.reduceat(agree, np.concatenate([[0], ends[:-1]]), axis=1, dtype=np.int32)
        taus[:, :, look] = (np.cumsum(parts, axis=1) / ends).T
    return taus


def _nested_pairs(sizes: Sequence[int]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """All pairs of models, those among the first `sizes[0]` first, and where the pairs of each size end."""
    second, first = np.tril_indices(sizes[-1], -1)  # row after row: the pairs of a set stand before all others
    models = np.array(sizes)
    return first, second, models * (models - 1) // 2
