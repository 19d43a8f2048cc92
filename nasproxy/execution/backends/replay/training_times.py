"""Whether the training times of a table are cumulative, as they should be."""

from collections.abc import Iterable
from statistics import median

import numpy as np
import numpy.typing as npt

HARDLY = 0.1
"""Rise below which times are questioned: a training whose start-up takes ten times as long as the rest has it."""


def compute_rise(steps: npt.NDArray[np.int64], train_seconds: npt.NDArray[np.float64]) -> float | None:
    """Compute how fast the time of a training grows, relative to its steps.

    Args:
        steps: Steps of the checks, shape (n_checks,), increasing.
        train_seconds: Training time at each, shape (n_checks,), above 0.

    Returns:
        Growth of the time from the first to the last check, as a share of the growth of the steps: 1 for a cumulative
        time without start-up, 0 for a constant one; None with fewer than two checks.

    >>> compute_rise(np.array([1, 2, 3]), np.array([5.0, 10.0, 15.0]))
    1.0
    >>> compute_rise(np.array([1, 2, 3]), np.array([5.0, 5.0, 5.0]))
    0.0
    """
    if steps.size < 2:
        return None
    return float((train_seconds[-1] / train_seconds[0] - 1) / (steps[-1] / steps[0] - 1))


def hardly_rise(rises: Iterable[float | None]) -> bool:
    """Return whether the times of half of some trainings hardly rise."""
    known = [rise for rise in rises if rise is not None]
    return bool(known) and median(known) < HARDLY
