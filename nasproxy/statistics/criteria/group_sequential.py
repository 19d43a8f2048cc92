"""The default: a stated error over all checks and proxy tasks, with an allowance for checks that hang together."""

import math
from functools import lru_cache

import numpy as np
from scipy import stats

from nasproxy.statistics.acceptance import Evidence, Verdict, check_target, decide
from nasproxy.statistics.criteria.alpha_spending import check_error, tau_above
from nasproxy.statistics.deviation import tau_lower_limit
from nasproxy.statistics.missing import Floats

STEP = 0.05
GRID = np.arange(-6.0, 6.0 + STEP / 2, STEP)
"""Standard scores at which densities are kept; the error of a boundary is of the order of the step's square."""


class GroupSequential:
    """Accept where a group-sequential test of `true tau is at most target - 0.10` rejects.

    Were tau exactly target - 0.10 from the first check to the last, the worst case, a proxy task would be accepted
    at any check with probability `alpha` divided by the proxy tasks and by the sizes that the reference set may have:
    so over all of them it is `alpha` at most. It is spent in proportion to training: early checks, of which there are
    many and which rank badly, may spend little. Neighbouring checks show the same models, so their deviations are
    taken to be correlated, exp(-|ln f_i - ln f_j|) at fractions f of training; the more checks there are, the more
    alike they are, and the less a further one costs.

    Holds for random reference models, and for scores whose ranks are related as those of normal variables.

    Args:
        target: Tau that a good proxy task reaches, in (0.1, 1].
        alpha: Error over all checks and proxy tasks, in (0, 0.5).

    Raises:
        ConfigError: A number is out of range.

    Source: boundaries by recursive integration after Armitage, McPherson and Rowe (1969); spending after Lan and
        DeMets (1983).
    """

    def __init__(self, *, target: float = 0.65, alpha: float = 0.1) -> None:
        check_target(target)
        check_error(target, alpha)
        self.target = target
        self.alpha = alpha

    def judge(self, evidence: Evidence) -> Verdict:
        """Hold tau against the boundary at this check."""
        correlation = evidence.correlation
        limit = None if correlation is None else tau_lower_limit(correlation.tau, correlation.n)
        share = self.alpha / (evidence.tasks_planned * evidence.sizes_planned)
        quantile = boundary(tuple(evidence.fractions.tolist()), share)
        return decide(evidence, lambda n: tau_above(self.target, n, quantile), target=self.target, lower_limit=limit)


def boundary(fractions: tuple[float, ...], alpha: float) -> float:
    """The standard score that the last check must reach, so that the errors spent so far add up as planned.

    Args:
        fractions: Fraction of training at each check, increasing in (0, 1].
        alpha: Error that is spent by the end of training, in proportion to it.

    >>> round(boundary((1.0,), 0.05), 2)
    1.64
    """
    for looks in range(1, len(fractions)):
        _look(fractions[:looks], alpha)  # one after the other: a recursion of hundreds of looks would be too deep
    return _look(fractions, alpha)[0]


@lru_cache(maxsize=4096)
def _look(fractions: tuple[float, ...], alpha: float) -> tuple[float, Floats]:
    """The boundary of the last check, and the density on the grid of the scores that have not crossed by then."""
    if len(fractions) == 1:
        density, spent = stats.norm.pdf(GRID), fractions[0]
    else:
        before = fractions[-2]
        correlation = before / fractions[-1]  # exp(-|ln f_i - ln f_j|)
        deviation = math.sqrt(1 - correlation**2)
        reach = (GRID[:, None] - correlation * GRID[None, :]) / deviation
        moves = np.exp(-0.5 * reach**2) / (deviation * math.sqrt(2 * math.pi))
        density = STEP * moves @ _look(fractions[:-1], alpha)[1]
        spent = fractions[-1] - before
    edges = GRID - STEP / 2
    tail = STEP * np.cumsum(density[::-1])[::-1]
    limit = float(np.interp(-alpha * spent, -tail, edges))
    return limit, density * np.clip((limit - edges) / STEP, 0.0, 1.0)
