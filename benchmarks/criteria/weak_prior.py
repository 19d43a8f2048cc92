"""A rule that leans on what learning curves have in common: tau rises with training."""

import math

from nasproxy.statistics.acceptance import Evidence, Verdict, check_target, decide_acceptance
from nasproxy.statistics.deviation import MIN_MODELS, tau_lower_limit
from nasproxy.statistics.tau_prior import PRIOR_VARIANCE, prior_mean

FACTOR, FACTOR_ADAPTIVE = 2.0, 2.1
"""Deviations that tau must lie above the floor; more where models may be added, since that is another look."""
MARGINS = ((10, 0.10), (15, 0.05), (20, 0.03), (25, 0.01))
"""What few models must show beyond the target and 0.05."""


class WeakPrior:
    """Accept where tau lies two deviations above the floor, after a weak prior on how tau grows.

    Its constants were fitted to published learning curves at 16 checks and a target of 0.65; more checks, proxy tasks
    or a higher target make it err more often.

    Args:
        target: Tau that a good proxy task reaches, in (0.1, 0.9].

    Raises:
        ConfigError: The target lies outside (0, 1].

    Source: measured on nine tables of published curves.
    """

    min_models = MIN_MODELS

    def __init__(self, *, target: float = 0.65) -> None:
        check_target(target)
        self.target = target

    def judge(self, evidence: Evidence) -> Verdict:
        """Hold tau against the need at this fraction of training."""
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
