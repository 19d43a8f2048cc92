"""A fixed error, spent over the checks as training goes on, as if every check were a test of its own."""

import math

import numpy as np
from scipy import stats

from nasproxy.statistics.acceptance import MARGIN, Evidence, Verdict, check_error, check_target, decide_acceptance
from nasproxy.statistics.deviation import MIN_MODELS, tau_lower_limit
from nasproxy.statistics.score_test import arcsine_deviation


class AlphaSpending:
    """Accept where the test of `true tau is at most target - 0.10` rejects, at the error that a check may spend.

    The error is spent in proportion to training, divided by the proxy tasks and by the sizes of the reference set.
    The sum over checks bounds the whole (Bonferroni), however the checks hang together.

    Args:
        target: Tau that a good proxy task reaches, in (0.1, 1].
        alpha: Error over all checks and proxy tasks, in (0, 0.5).

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
        """Hold tau against the need of this check."""
        correlation = evidence.correlation
        limit = None if correlation is None else tau_lower_limit(correlation.tau, correlation.n)
        share = self.alpha / (evidence.plan.tasks * len(evidence.plan.sizes))
        spent = float(np.diff(share * evidence.fractions, prepend=0.0)[-1])

        def needed(n: int) -> float | None:
            tau = find_critical_tau(self.target - MARGIN, n, spent) if n >= MIN_MODELS else None
            return None if tau is None else max(self.target, tau)

        return decide_acceptance(evidence, needed, target=self.target, lower_limit=limit)


def find_critical_tau(null_tau: float, n: int, alpha: float) -> float | None:
    """Find the lowest tau at which a score test rejects that the true one is at most `null_tau`.

    Args:
        null_tau: Tau to reject, in (-1, 1).
        n: Models, at least 5.
        alpha: Probability of rejecting it where it is true, in (0, 0.5].

    Returns:
        The tau, or None where not even a tau of 1 is enough.
    """
    angle = math.asin(null_tau) + float(stats.norm.isf(alpha) * arcsine_deviation(null_tau, n))
    tau = math.sin(min(angle, math.pi / 2)) + 2 / (n * (n - 1))
    return tau if tau <= 1 else None
