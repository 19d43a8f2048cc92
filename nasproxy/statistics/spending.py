"""How much of the error may be spent by which look: spending functions of information.

Each takes fractions of the planned information, any shape, in [0, 1], and the error in all, alpha in (0, 1), and
gives the error spent up to there, 0 at 0 and alpha at 1, never falling. A look may spend what its fraction adds.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from nasproxy.statistics.missing import Floats

SpendingFunction = Callable[[ArrayLike, float], Floats]


def linear_spending(fractions: ArrayLike, alpha: float) -> Floats:
    """Spend evenly.

    Raises:
        ValueError: A fraction or alpha is out of range.

    Source: Lan and DeMets (1983).

    >>> linear_spending([0.5, 1.0], 0.05).tolist()
    [0.025, 0.05]
    """
    return alpha * _checked(fractions, alpha)


def pocock_spending(fractions: ArrayLike, alpha: float) -> Floats:
    """Spend a little more early on: bounds nearly the same at evenly spaced looks, as Pocock's.

    Raises:
        ValueError: A fraction or alpha is out of range.

    Source: Lan and DeMets (1983).

    >>> pocock_spending([0.5, 1.0], 0.05).round(4).tolist()
    [0.031, 0.05]
    """
    return alpha * np.log1p((np.e - 1) * _checked(fractions, alpha))


def obrien_fleming_spending(fractions: ArrayLike, alpha: float) -> Floats:
    """Spend almost nothing early on, for the last look to keep nearly all: bounds as O'Brien and Fleming's.

    Raises:
        ValueError: A fraction or alpha is out of range.

    Source: Lan and DeMets (1983), for a one-sided alpha.

    >>> obrien_fleming_spending([0.5, 1.0], 0.05).round(4).tolist()
    [0.0056, 0.05]
    """
    information = _checked(fractions, alpha)
    quantile = stats.norm.isf(alpha / 2)
    with np.errstate(divide="ignore"):  # before any information the bound is infinite and nothing is spent
        return np.asarray(2 * stats.norm.sf(quantile / np.sqrt(information)), dtype=np.float64)


def _checked(fractions: ArrayLike, alpha: float) -> Floats:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie in (0, 1), got {alpha}: give 0.05 for 5 %")
    information = np.asarray(fractions, dtype=np.float64)
    if not ((information >= 0) & (information <= 1)).all():
        raise ValueError(f"fractions must lie in [0, 1], got {information.tolist()}: give looks over planned looks")
    return information
