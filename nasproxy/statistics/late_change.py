"""How much scores and ranks change at the end of training: what ending it some checks earlier would change."""

import numpy as np
from numpy.typing import ArrayLike

from nasproxy.statistics.missing import Floats, as_vectors
from nasproxy.statistics.rank_correlation import RankCorrelation, kendall_tau

LAST_SHARE = 0.25
"""Share of training, at its end, whose checks are compared with the last one."""


def find_late_checks(steps: ArrayLike) -> list[int]:
    """Find the checks within the last quarter of training, without the last check, but at least the one before it.

    Args:
        steps: Finished optimizer steps of each check, shape (checks,), increasing; at least 2.

    Returns:
        Indices of the checks, in order.

    >>> find_late_checks([25, 50, 75, 90, 100]), find_late_checks([10, 100])
    ([2, 3], [0])
    """
    x = np.asarray(steps, dtype=np.float64)
    first = min(int(np.searchsorted(x, (1 - LAST_SHARE) * x[-1])), x.size - 2)
    return list(range(first, x.size - 1))


def largest_late_change(steps: ArrayLike, scores: ArrayLike) -> float | None:
    """Compute the largest difference between the last score and those of the last quarter of training.

    Args:
        steps: Finished optimizer steps of each check, shape (checks,), increasing.
        scores: Scores, same shape, without missing values.

    Returns:
        The difference, at least 0, in units of the score; None for fewer than 2 checks.

    Raises:
        ValueError: The shapes differ, or a value is infinite.

    >>> largest_late_change([50, 80, 100], [0.0, 0.5, 0.75])
    0.25
    """
    x, y = as_vectors(steps=steps, scores=scores)
    if x.size < 2:
        return None
    return float(np.abs(y[find_late_checks(x)] - y[-1]).max())


def lowest_late_tau(steps: ArrayLike, scores: Floats) -> RankCorrelation | None:
    """Compute the lowest tau between the final ranks and those at the checks of the last quarter of training.

    Args:
        steps: Finished optimizer steps of each check, shape (checks,), increasing; at least 2.
        scores: Scores of the models, shape (checks, n_models), higher is better; NaN if missing.

    Returns:
        The rank correlation at the check where it is lowest, or None if it is undefined at all of them.

    Raises:
        TooFewTrialsError: Fewer than 5 models have scores.
    """
    found = [kendall_tau(scores[check], scores[-1]) for check in find_late_checks(steps)]
    return min((each for each in found if each is not None), key=lambda each: each.tau, default=None)
