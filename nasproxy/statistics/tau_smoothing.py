"""Smoothing of tau over neighbouring checks, which reduces the independent noise of each check."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nasproxy.statistics.missing import Floats

STRETCH = 1.4
"""Largest ratio of training fractions between neighbours: 2 of 16 geometrically spaced checks, 3 of 40."""
ROUNDING = 1e-9


def select_recent(fractions: ArrayLike) -> slice:
    """Select the last check and its neighbours before it.

    Args:
        fractions: Fraction of training at each check, increasing, at least one check.

    >>> select_recent([0.1, 0.25, 0.5, 0.6])
    slice(2, 4, None)
    """
    places = np.asarray(fractions, dtype=np.float64)
    return slice(int(np.searchsorted(places, places[-1] / STRETCH * (1 + ROUNDING))), places.size)


def smooth(values: Floats, fractions: ArrayLike) -> Floats:
    """Average each check's value with its neighbours before it.

    Args:
        values: Shape (..., checks).
        fractions: Fraction of training at each check, shape (checks,), increasing.
    """
    places = np.asarray(fractions, dtype=np.float64)
    stretches = [select_recent(places[: look + 1]) for look in range(places.size)]
    return np.stack([values[..., stretch].mean(axis=-1) for stretch in stretches], axis=-1)


def select_apart(fractions: ArrayLike, ratio: float) -> NDArray[np.intp]:
    """Select checks, starting with the first, whose fractions increase by at least a factor from one to the next.

    Args:
        fractions: Fraction of training at each check, increasing.
        ratio: Smallest factor, at least 1.

    Returns:
        Indices of the selected checks.

    >>> select_apart([0.1, 0.11, 0.2, 0.5], 1.5).tolist()
    [0, 2, 3]
    """
    places = np.asarray(fractions, dtype=np.float64)
    taken: list[int] = []
    for place, fraction in enumerate(places):
        if not taken or fraction >= places[taken[-1]] * ratio * (1 - ROUNDING):
            taken.append(place)
    return np.array(taken, dtype=np.intp)
