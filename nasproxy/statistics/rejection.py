"""Upper limits of the true tau that hold for all proxy tasks of a study, and the number of models that would decide."""

import numpy as np

from nasproxy.statistics.acceptance import MOST_MODELS
from nasproxy.statistics.fisher import FIELLER, fisher_z
from nasproxy.statistics.score_test import MIN_MODELS, score_upper_limits

ALPHA = 0.05
"""Probability that any of the limits lies below its true tau."""
GROWTH = 2
"""Divisor of the error for models that are added after the last check: a set that grows has several chances."""
POWER_QUANTILE = 0.84
"""Normal quantile of the probability that the counted models suffice, 80 %."""


def limit_true_tau(tau: float, n: int, tasks: int) -> float | None:
    """Compute an upper confidence limit of a proxy task's true tau that holds for all tasks at once with 95 %.

    Args:
        tau: Observed tau-b at the task's last check.
        n: Number of models.
        tasks: Number of proxy tasks whose limits hold together.

    Returns:
        The limit, or None for fewer than 5 models.

    Source: score test at an error of 0.05 / (2 tasks), Bonferroni over tasks. Simulated at a true tau of 0.55, 0.65 and
        0.75, with models added after the last check while tau is near the target, a limit fails in less than twice this
        error for each task.

    >>> round(limit_true_tau(0.1, 20, tasks=3), 2)
    0.5
    """
    return float(score_upper_limits(tau, n, alpha=ALPHA / (GROWTH * tasks))) if n >= MIN_MODELS else None


def count_models_to_reject(tau: float, n: int, *, target: float, tasks: int) -> int | None:
    """Count the models to add until the upper limit of a task probably falls below the target.

    The number suffices in four of five samples of models if the true tau is the observed one.

    Args:
        tau: Observed tau-b, taken as the true one.
        n: Number of models now.
        target: Tau of a good proxy task.
        tasks: Number of proxy tasks whose limits hold together.

    Returns:
        The number of models to add; None if even the most that a verdict asks for would not suffice.
    """
    sizes = np.arange(max(n, MIN_MODELS), MOST_MODELS + 1)
    deviations = np.array([FIELLER.sd(int(size)) for size in sizes])
    unlucky = np.tanh(float(fisher_z(tau, n)) + POWER_QUANTILE * deviations)
    limits = score_upper_limits(np.where(sizes == n, tau, unlucky), sizes, alpha=ALPHA / (GROWTH * tasks))
    found = sizes[limits < target]
    return int(found[0]) - n if found.size else None
