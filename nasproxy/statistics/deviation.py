"""How far the tau of a few models strays from the true one, on the scale of atanh(tau)."""

import math

from nasproxy.statistics.fisher import WIDE, fisher_z

MIN_MODELS = 8
"""Below this a tau says next to nothing: its deviation grows without bound towards 6 models."""
Z_ONE_SIDED_95 = 1.6448536269514722
"""Standard normal quantile of a one-sided 95 % limit."""


def atanh_deviation(n: int) -> float | None:
    """Standard deviation of atanh(tau) that its upper tail has on `n` random models.

    The textbook's sqrt(0.437 / (n - 4)) is right in the middle, but the tail of few models is longer: on normal
    scores of 10 models 2 % of tau lie 2.05 times 0.34 above the truth, where the textbook says 0.27.

    Args:
        n: Models.

    Returns:
        The deviation, or None on fewer than 8 models.

    Source: 0.48 / (n - 6) after published learning curves; holds up to a tau of 0.8.
    """
    return WIDE.sd(n) if n >= MIN_MODELS else None


def tau_lower_limit(tau: float, n: int) -> float | None:
    """One-sided 95 % lower limit of the true tau; None on fewer than 8 models.

    Args:
        tau: Observed tau-b.
        n: Models.
    """
    deviation = atanh_deviation(n)
    return None if deviation is None else math.tanh(float(fisher_z(tau, n)) - Z_ONE_SIDED_95 * deviation)
