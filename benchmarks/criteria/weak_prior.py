"""A criterion with a weak prior on tau, which increases with the training fraction."""

import math

from nasproxy.statistics.acceptance import Evidence, Verdict, check_target, decide_acceptance
from nasproxy.statistics.deviation import MIN_MODELS, tau_lower_limit
from nasproxy.statistics.tau_prior import PRIOR_VARIANCE, prior_mean

FACTOR, FACTOR_ADAPTIVE = 2.0, 2.1
"""Standard deviations that tau must lie above the floor; larger if models can be added, which is a further look."""
MARGINS = ((10, 0.10), (15, 0.05), (20, 0.03), (25, 0.01))
"""Extra margin beyond target + 0.05, by maximum number of models."""


class WeakPrior:
    """Accepts if tau lies two standard deviations above the floor, given a weak prior on tau by training fraction.

    Constants were fitted to published learning curves at 16 checks and a target of 0.65; the error rate is higher with
    more checks, more proxy tasks or a higher target.

    Args:
        target: Tau of a good proxy task, in (0.1, 0.9].

    Raises:
        ConfigError: The target lies outside (0, 1].

    Source: Fitted to nine tables of published curves.
    """

    min_models = MIN_MODELS

    def __init__(self, *, target: float = 0.65) -> None:
        check_target(target)
        self.target = target

    def judge(self, evidence: Evidence) -> Verdict:
        """Compare tau with the threshold at the current fraction of training."""
        factor = FACTOR if len(evidence.plan.sizes) == 1 else FACTOR_ADAPTIVE
        fraction = float(evidence.fractions[-1])
        correlation = evidence.correlation
        limit = None if correlation is None else tau_lower_limit(correlation.tau, correlation.n)
        return decide_acceptance(
            evidence, lambda n: self._needed(n, fraction, factor), target=self.target, lower_limit=limit
        )

    def _needed(self, n: int, fraction: float, factor: float) -> float | None:
        if n < MIN_MODELS:
            return None
        variance, floor = 0.48 / (n - 6), math.atanh(self.target - 0.10)
        share = variance / PRIOR_VARIANCE
        bound = floor + factor * math.sqrt(variance * (1 + share)) - share * (prior_mean(fraction) - floor)
        margin = next((extra for models, extra in MARGINS if n <= models), 0.0)
        return max(math.tanh(bound), self.target + 0.05 + margin)
