"""How far the tau of a few models strays from the true one, on the scale of atanh(tau)."""

from nasproxy.statistics.fisher import WIDE
from nasproxy.statistics.score_test import score_lower_limits

MIN_MODELS = 8
"""Below this a tau says next to nothing: its deviation grows without bound towards 6 models."""


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
    """One-sided 95 % lower limit of the true tau, by the score test; None on fewer than 8 models.

    Args:
        tau: Observed tau-b.
        n: Models.
    """
    return float(score_lower_limits(tau, n)) if n >= MIN_MODELS else None
