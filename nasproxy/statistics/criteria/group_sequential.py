"""The default: a stated error over all checks, proxy tasks and added models, on taus smoothed over near checks."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import stats

from nasproxy.statistics.acceptance import (
    MARGIN,
    Evidence,
    LookPlan,
    Verdict,
    check_error,
    check_target,
    decide_acceptance,
)
from nasproxy.statistics.concordance import kendall_taus
from nasproxy.statistics.deviation import MIN_MODELS, atanh_deviation, tau_lower_limit
from nasproxy.statistics.fisher import fisher_z
from nasproxy.statistics.missing import Floats
from nasproxy.statistics.simulation import count_studies, simulate_taus
from nasproxy.statistics.tau_smoothing import select_apart, select_recent, smooth

NOISE_SHARES = (0.0, 1.0)
"""How much of a check's deviation is its own noise: nothing, all of it. The boundary holds for both."""
LOOKS_APART = 1.12
"""Looks that are nearer together than this are simulated as one: they show the same, smoothed."""
FEW_MODELS = 10
"""On so many models, or fewer, the whole error is spent."""
STRICTER_WHILE_FEW = 0.25
"""Power of its deviation by which the boundary of a smaller set lies further out: more models are near at hand."""
SIMULATED_MODELS = 60
"""Larger sets are simulated at this size, smaller ones of one plan in proportion: by then tau is all but normal."""
LEAST_ACCEPTED = 20
"""Simulated studies that must be accepted for their share to be believed; rarer errors are extrapolated."""
HALVINGS = 12
HIGHEST = 8.0
"""No boundary lies so many deviations out."""


class GroupSequential:
    """Accept where a group-sequential test of `true tau is at most target - 0.10` rejects.

    The test looks at the mean of Fisher's z over the last check and its neighbours before it, for one check alone is
    noisy, and the more checks there are, the likelier is one that is lucky. It rejects where this mean lies so many
    deviations above the floor, the same number at every check, and a few more on a set that may still grow. The number
    is simulated: were the true tau target - 0.10 from the first check to the last, the worst case, a proxy task would
    be accepted at any check, on any number of models that may be added, with probability `alpha` divided by the proxy
    tasks; so over all proxy tasks of one grid it is `alpha` at most. What models beyond ten give goes partly into a
    smaller error, by the cube root of their number, and partly into earlier stops.

    Holds for random reference models, and for scores whose ranks are related as those of normal variables.

    Args:
        target: Tau that a good proxy task reaches, in (0.1, 1].
        alpha: Error over all checks and proxy tasks, in (0, 0.5).

    Raises:
        ConfigError: A number is out of range.

    Source: a boundary that is constant over looks, after Pocock (1977), and falls over sizes, after Wang and Tsiatis
        (1987); calibrated by simulation.
    """

    min_models = MIN_MODELS

    def __init__(self, *, target: float = 0.65, alpha: float = 0.2) -> None:
        check_target(target)
        check_error(target, alpha)
        self.target = target
        self.alpha = alpha

    def judge(self, evidence: Evidence) -> Verdict:
        """Hold the smoothed tau against the boundary."""
        correlation = evidence.correlation
        limit = None if correlation is None else tau_lower_limit(correlation.tau, correlation.n)
        before, floor = keep_earlier_z(evidence), math.atanh(self.target - MARGIN)
        quantile = calibrate_boundary(evidence.plan, self.target, self.error_spent(evidence.plan))

        def needed(n: int) -> float | None:
            limit = raise_to_floor(n, evidence.plan.sizes[-1], quantile)
            if limit is None:
                return None
            z = (before.size + 1) * (floor + limit) - float(before.sum())
            return max(self.target, math.tanh(z)) if z <= fisher_z(1.0, n) else None

        return decide_acceptance(evidence, needed, target=self.target, lower_limit=limit)

    def error_spent(self, plan: LookPlan) -> float:
        """The error that one proxy task may spend on sets of reference models of these sizes."""
        models = sum(plan.sizes) / len(plan.sizes)
        return self.alpha / plan.tasks * min(1.0, math.pow(FEW_MODELS / models, 1 / 3))


def raise_to_floor(n: int, most: int, quantile: float) -> float | None:
    """How far above the floor the smoothed z of n models must lie; None where they are too few for any.

    Args:
        n: Models.
        most: Models that there may be in the end.
        quantile: Deviations that it takes on the most of them.
    """
    deviation, least = atanh_deviation(n), atanh_deviation(max(n, most))
    if deviation is None or least is None:
        return None
    return quantile * deviation * math.pow(deviation / least, STRICTER_WHILE_FEW)


def keep_earlier_z(evidence: Evidence) -> Floats:
    """Fisher's z of the checks shortly before the last one, where tau is defined."""
    if not len(evidence.proxy):
        return np.zeros(0)
    rows = evidence.proxy[select_recent(evidence.fractions)][:-1]
    counts = (~np.isnan(rows) & ~np.isnan(evidence.reference)).sum(axis=1)
    taus = kendall_taus(rows, evidence.reference)
    return fisher_z(taus, np.maximum(counts, 2))[~np.isnan(taus)]


@lru_cache(maxsize=256)
def calibrate_boundary(plan: LookPlan, target: float, alpha: float) -> float:
    """How many deviations above the floor the smoothed z must lie.

    Args:
        plan: The checks and the sizes of the reference set; its tasks do not count here.
        target: Tau that a good proxy task reaches.
        alpha: Probability that a proxy task whose true tau is target - 0.10 throughout crosses it at any check.

    Returns:
        The lowest boundary that at most so many simulated studies cross, however noisy their single checks are.
    """
    fractions = [plan.fractions[place] for place in select_apart(plan.fractions, LOOKS_APART)]
    simulated = [_Studies(fractions, choose_sizes(plan.sizes), target, share) for share in NOISE_SHARES]
    told_apart = max(alpha, LEAST_ACCEPTED / min(studies.number for studies in simulated))
    low, high = 0.0, HIGHEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if max(studies.accepted(middle) for studies in simulated) <= told_apart:
            high = middle
        else:
            low = middle
    return high if told_apart == alpha else _further_out(high, told_apart, alpha)


def _further_out(quantile: float, known: float, alpha: float) -> float:
    """The boundary of a rarer error: as many independent looks as cross the known one so often would cross it."""
    looks = max(1.0, known / float(stats.norm.sf(quantile)))
    return max(quantile, float(stats.norm.isf(alpha / looks)))


def choose_sizes(sizes: Sequence[int]) -> list[int]:
    """The sizes that are simulated for a plan.

    >>> simulated_sizes((10, 15, 20)), simulated_sizes((100, 200)), simulated_sizes((5, 6))
    ([10, 15, 20], [30, 60], [8])
    """
    share = min(1.0, SIMULATED_MODELS / sizes[-1])
    return sorted({max(MIN_MODELS, round(size * share)) for size in sizes})


class _Studies:
    """Simulated studies of a proxy task whose true tau lies on the floor."""

    def __init__(
        self, fractions: Sequence[float], sizes: Sequence[int], target: float, noise_share: float, seed: int = 0
    ) -> None:
        floor, number = target - MARGIN, count_studies(sizes[-1])
        taus = simulate_taus(floor, fractions, sizes, noise_share=noise_share, studies=number, seed=seed)
        models = np.array(sizes)[:, None, None]
        above = smooth(fisher_z(taus, models), fractions) - math.atanh(floor)
        self._above = np.where(taus >= target - 1e-6, above, -np.inf)  # float32 taus
        self._units = np.array([raise_to_floor(size, sizes[-1], 1.0) or np.inf for size in sizes])

    @property
    def number(self) -> int:
        """How many there are."""
        return int(self._above.shape[1])

    def accepted(self, quantile: float) -> float:
        """Share that is accepted at any look; undecided ones add models as long as the most of them might decide."""
        _, studies, looks = self._above.shape
        size = np.zeros(studies, dtype=np.intp)
        is_open = np.ones(studies, dtype=np.bool_)
        limits = quantile * self._units
        for look in range(looks):
            for place, limit in enumerate(limits):
                asked = np.flatnonzero(is_open & (size == place))
                above = self._above[place, asked, look]
                is_open[asked[above >= limit]] = False
                grows = (above < limit) & (above >= limits[-1]) & (place + 1 < len(limits))
                size[asked[grows]] = place + 1
        return 1.0 - float(is_open.mean())
