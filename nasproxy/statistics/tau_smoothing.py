"""Taus of neighbouring checks taken together: each check has noise of its own, and several show the same models."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nasproxy.statistics.missing import Floats

STRETCH = 1.4
"""Checks count as neighbours while training is less than this many times longer: two of 16 geometric ones, 3 of 40."""
ROUNDING = 1e-9


def select_recent(fractions: ArrayLike) -> slice:
    """The last check and its neighbours before it.

    Args:
        fractions: Fraction of training at each check, rising, at least one.

    >>> recent([0.1, 0.25, 0.5, 0.6])
    slice(2, 4, None)
    """
    places = np.asarray(fractions, dtype=np.float64)
    return slice(int(np.searchsorted(places, places[-1] / STRETCH * (1 + ROUNDING))), places.size)


def smooth(values: Floats, fractions: ArrayLike) -> Floats:
    """Mean of each check's value and its neighbours' before it.

    Args:
        values: Shape (..., checks).
        fractions: Fraction of training at each check, shape (checks,), rising.
    """
    places = np.asarray(fractions, dtype=np.float64)
    stretches = [select_recent(places[: look + 1]) for look in range(places.size)]
    return np.stack([values[..., stretch].mean(axis=-1) for stretch in stretches], axis=-1)


def select_apart(fractions: ArrayLike, ratio: float) -> NDArray[np.intp]:
    """Places of checks of which each lies at least so many times further than the one before; the first is one.

    Args:
        fractions: Fraction of training at each check, rising.
        ratio: At least 1.

    >>> apart([0.1, 0.11, 0.2, 0.5], 1.5).tolist()
    [0, 2, 3]
    """
    places = np.asarray(fractions, dtype=np.float64)
    taken: list[int] = []
    for place, fraction in enumerate(places):
        if not taken or fraction >= places[taken[-1]] * ratio * (1 - ROUNDING):
            taken.append(place)
    return np.array(taken, dtype=np.intp)
