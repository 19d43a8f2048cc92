"""A fixed error, spent over the checks as training goes on, as if every check were a test of its own."""

import numpy as np

from nasproxy.errors import ConfigError
from nasproxy.statistics.acceptance import Evidence, Verdict, check_target, decide_acceptance
from nasproxy.statistics.deviation import MIN_MODELS, tau_lower_limit
from nasproxy.statistics.score_test import score_critical_tau
from nasproxy.statistics.spending import linear_spending

MARGIN = 0.10
"""A proxy task is wrongly accepted where its true tau lies more than this below the target."""


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
        spent = float(np.diff(linear_spending(evidence.fractions, share), prepend=0.0)[-1])

        def needed(n: int) -> float | None:
            tau = score_critical_tau(self.target - MARGIN, n, spent) if n >= MIN_MODELS else None
            return None if tau is None else max(self.target, tau)

        return decide_acceptance(evidence, needed, target=self.target, lower_limit=limit)


def check_error(target: float, alpha: float) -> None:
    """Refuse a target whose floor is no tau to test against, or an error that is none.

    Raises:
        ConfigError: A number is out of range.
    """
    if target <= MARGIN:
        raise ConfigError(f"criterion.target must lie above {MARGIN:g} for this rule, got {target:g}")
    if not 0 < alpha < 0.5:
        raise ConfigError(f"criterion.alpha must lie in (0, 0.5), got {alpha:g}: give an error such as 0.1")
