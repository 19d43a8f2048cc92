"""Spacing of the looks at a proxy task in the logarithm of the training fraction."""

import math
from dataclasses import dataclass

import numpy as np

from nasproxy.statistics.missing import Floats
from nasproxy.statistics.tau_smoothing import STRETCH, select_apart

WINDOW = 6
"""Length of the smoothing window in cells, the unit of distance here."""
CLOSEST = 2
"""Smallest distance in cells between looks that are counted; closer ones are nearly identical after smoothing."""
CELL = math.log(STRETCH) / WINDOW
ROUNDING = 1e-6


@dataclass(frozen=True)
class LookSpacing:
    """Looks that are equally far apart in the logarithm of the training fraction.

    Attributes:
        cells: Distance from the first look to the end of the training, in cells.
        apart: Distance between the looks, in cells.
    """

    cells: int
    apart: int

    @property
    def fractions(self) -> list[float]:
        """Training fraction of each look, increasing, from the first look to 1."""
        places = range(0, max(self.cells, self.apart) + 1, self.apart) if self.cells else [0]
        return [math.exp(-CELL * place) for place in reversed(places)]


def measure_spacing(fractions: Floats) -> set[LookSpacing]:
    """Find the equally spaced looks whose boundaries the last look has to reach.

    The distance is the mean one of the looks in the smoothing window, from the last look before the window. A look
    closer than `CLOSEST` to an earlier one is not counted, and has to reach the boundary of looks that are `CLOSEST`,
    too. Only looks so far are used, so later ones may lie anywhere. Distances are rounded so that error rates do not
    increase: the distance between looks down, that to the end of the training up, to a multiple of the window.

    Args:
        fractions: Training fraction of each look so far, shape (looks,), increasing, at least one look.

    >>> measure_spacing(np.array([0.125, 0.25, 0.5]))
    {LookSpacing(cells=42, apart=12)}
    """
    places = -np.log(fractions) / CELL
    counted = places[select_apart(fractions, math.exp(CLOSEST * CELL))]
    is_near = counted < places[-1] + WINDOW - ROUNDING
    before = counted[-1] + WINDOW if is_near.all() else counted[~is_near][-1]
    apart = math.floor((before - counted[-1]) / np.count_nonzero(is_near) + ROUNDING)
    is_counted = bool(counted[-1] == places[-1])
    cells = WINDOW * math.ceil(places[0] / WINDOW - ROUNDING)
    return {LookSpacing(cells, max(CLOSEST, each)) for each in ([apart] if is_counted else [apart, CLOSEST])}
