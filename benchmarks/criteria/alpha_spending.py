"""A criterion with alpha spending: a fixed error rate, divided over the checks by training fraction."""

import math

import numpy as np
from scipy import stats

from nasproxy.statistics.acceptance import MARGIN, Evidence, Verdict, check_error, check_target, decide_acceptance
from nasproxy.statistics.deviation import MIN_MODELS, tau_lower_limit
from nasproxy.statistics.score_test import arcsine_deviation


class AlphaSpending:
    """Accepts if a test rejects H0: true tau <= target - 0.10, at the significance level spent on the check.

    The error is spent in proportion to the training fraction, and divided by the numbers of proxy tasks and of sizes of
    the reference set. By the Bonferroni inequality, the total error rate holds for any correlation of the checks.

    Args:
        target: Tau of a good proxy task, in (0.1, 1].
        alpha: Error rate over all checks and proxy tasks, in (0, 0.5).

    Raises:
        ConfigError: A number is out of range.

    Source: Lan and DeMets (1983), with linear spending; the score test of `nasproxy.statistics.score_test`.
    """

    min_models = MIN_MODELS

    def __init__(self, *, target: float = 0.65, alpha: float = 0.2) -> None:
        check_target(target)
        check_error(target, alpha)
        self.target = target
        self.alpha = alpha

    def judge(self, evidence: Evidence) -> Verdict:
        """Compare tau with the threshold of the last check."""
        correlation = evidence.correlation
        limit = None if correlation is None else tau_lower_limit(correlation.tau, correlation.n)
        share = self.alpha / (evidence.plan.tasks * len(evidence.plan.sizes))
        spent = float(np.diff(share * evidence.fractions, prepend=0.0)[-1])

        def needed(n: int) -> float | None:
            tau = find_critical_tau(self.target - MARGIN, n, spent) if n >= MIN_MODELS else None
            return None if tau is None else max(self.target, tau)

        return decide_acceptance(evidence, needed, target=self.target, lower_limit=limit)


def find_critical_tau(null_tau: float, n: int, alpha: float) -> float | None:
    """Find the lowest tau at which a score test rejects H0: true tau <= null_tau.

    Args:
        null_tau: Largest true tau under H0, in (-1, 1).
        n: Number of models, at least 5.
        alpha: Significance level, in (0, 0.5].

    Returns:
        The critical tau, or None if no tau suffices.
    """
    angle = math.asin(null_tau) + float(stats.norm.isf(alpha) * arcsine_deviation(null_tau, n))
    tau = math.sin(min(angle, math.pi / 2)) + 2 / (n * (n - 1))
    return tau if tau <= 1 else None
