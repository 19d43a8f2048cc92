"""Boundaries of the smoothed z of tau: how far chance can raise it, at any look and any number of models.

The criterion and the bound after selection share the unit of a boundary, the simulated studies that it is calibrated
on, and the extrapolation to small errors.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from nasproxy.statistics.deviation import MIN_MODELS, atanh_deviation
from nasproxy.statistics.fisher import fisher_z
from nasproxy.statistics.missing import Floats
from nasproxy.statistics.simulation import count_studies, simulate_taus
from nasproxy.statistics.tau_smoothing import smooth

NOISE_SHARES = (0.0, 1.0)
"""Shares of a check's variance that are independent noise; a boundary holds at both extremes."""
STRICTER_WHILE_FEW = 0.25
"""Exponent of the standard deviation that raises the boundary of smaller sets, to which models can be added."""
SIMULATED_MODELS = 60
"""Largest simulated set; larger plans are scaled down in proportion, since tau is nearly normal by then."""
LEAST_CROSSING = 20
"""Minimum number of simulated studies beyond a boundary for a reliable share; smaller errors are extrapolated."""


def raise_to_floor(n: int, most: int, quantile: float) -> float | None:
    """Compute how far the smoothed z of n models must exceed a true z; None if there are too few models.

    Args:
        n: Number of models.
        most: Largest planned number of models.
        quantile: Boundary at the largest number of models, in standard deviations.
    """
    deviation, least = atanh_deviation(n), atanh_deviation(max(n, most))
    if deviation is None or least is None:
        return None
    return quantile * deviation * math.pow(deviation / least, STRICTER_WHILE_FEW)


def list_units(sizes: Sequence[int]) -> Floats:
    """List one standard deviation of a boundary for each planned number of models, in units of z, shape (sizes,)."""
    return np.array([raise_to_floor(size, sizes[-1], 1.0) or np.inf for size in sizes])


def choose_sizes(sizes: Sequence[int]) -> list[int]:
    """Choose the sizes that are simulated for a plan.

    >>> choose_sizes((10, 15, 20)), choose_sizes((100, 200)), choose_sizes((5, 6))
    ([10, 15, 20], [30, 60], [8])
    """
    share = min(1.0, SIMULATED_MODELS / sizes[-1])
    return sorted({max(MIN_MODELS, round(size * share)) for size in sizes})


def simulate_z(
    true_tau: float | Floats,
    fractions: Sequence[float],
    sizes: Sequence[int],
    noise_share: float,
    *,
    studies: int | None = None,
    seed: int = 0,
) -> tuple[NDArray[np.float32], Floats]:
    """Simulate tau and the smoothed z of studies.

    Args:
        true_tau: True tau, in (-1, 1): the same at every look, or of shape (studies, looks).
        fractions: Fraction of training at each look, increasing.
        sizes: Possible sizes of the reference set, increasing.
        noise_share: Share of the variance that is independent noise of each look, in [0, 1].
        studies: Number of studies; None to choose it by the number of models.
        seed: Seed of the simulation.

    Returns:
        Taus and smoothed z, both of shape (sizes, studies, looks).
    """
    number = studies or count_studies(sizes[-1])
    taus = simulate_taus(true_tau, fractions, sizes, noise_share=noise_share, studies=number, seed=seed)
    models = np.array(sizes)[:, None, None]
    return taus, smooth(fisher_z(taus, models), fractions)


def extrapolate_boundary(quantile: float, known: float, error: float) -> float:
    """Extrapolate a boundary to a smaller error, with the number of independent looks that fits the known one."""
    looks = max(1.0, known / float(stats.norm.sf(quantile)))
    return max(quantile, float(stats.norm.isf(error / looks)))
