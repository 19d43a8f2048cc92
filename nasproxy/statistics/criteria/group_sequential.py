"""The default criterion: a group-sequential test with a stated error rate over checks, proxy tasks and models."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nasproxy.statistics.acceptance import (
    MARGIN,
    Evidence,
    LookPlan,
    Verdict,
    check_error,
    check_target,
    decide_acceptance,
    find_near_target,
)
from nasproxy.statistics.boundary import (
    LEAST_CROSSING,
    NOISE_SHARES,
    choose_sizes,
    extrapolate_boundary,
    list_units,
    raise_to_floor,
    simulate_z,
)
from nasproxy.statistics.deviation import MIN_MODELS, tau_lower_limit
from nasproxy.statistics.fisher import fisher_z
from nasproxy.statistics.look_spacing import LookSpacing, measure_spacing
from nasproxy.statistics.missing import Floats

FEW_MODELS = 10
"""Number of models up to which the whole error is spent."""
FLOAT32_ROUNDING = 1e-6
"""Tolerance on simulated taus, which are float32."""
HALVINGS = 12
HIGHEST = 8.0
"""Upper end of the search for the boundary, in standard deviations."""


class GroupSequential:
    """Accepts if a group-sequential test rejects H0: true tau <= target - 0.10.

    The test statistic is the mean of Fisher's z over the last check and its neighbours before it, since single checks
    are noisy and the chance of a lucky one increases with their number. H0 is rejected if the statistic exceeds
    atanh(target - 0.10) by a number of standard deviations that is slightly larger for sets to which models can still
    be added. This number is calibrated by simulation: in the worst case under H0, a true tau of target - 0.10 at all
    checks, a proxy task is accepted at any check and any number of models with probability `alpha` divided by the
    number of proxy tasks. The error over all proxy tasks of one grid is therefore at most `alpha`. The information of
    models beyond ten is used partly for a smaller error, which decreases with the cube root of their number, and partly
    for earlier stops.

    Later checks need not be known: the number of standard deviations is that of checks that all lie as far apart, in
    the logarithm of the training fraction, as those near the present one, from the first check to the end of the
    training. Each stretch of training so spends an error in proportion to its length on this scale, with any checks
    that do not depend on scores.

    Assumes random reference models and scores with the ranks of bivariate normal variables (a normal copula).

    Args:
        target: Tau of a good proxy task, in (0.1, 1].
        alpha: Error rate over all checks and proxy tasks, in (0, 0.5).

    Raises:
        ConfigError: A number is out of range.

    Source: a boundary that is constant over equally spaced looks, after Pocock (1977), and falls over sizes, after
        Wang and Tsiatis (1987); calibrated by simulation.
    """

    min_models = MIN_MODELS

    def __init__(self, *, target: float = 0.65, alpha: float = 0.2) -> None:
        check_target(target)
        check_error(target, alpha)
        self.target = target
        self.alpha = alpha

    def judge(self, evidence: Evidence) -> Verdict:
        """Compare the smoothed tau with the boundary."""
        correlation = evidence.correlation
        limit = None if correlation is None else tau_lower_limit(correlation.tau, correlation.n)
        before, floor = evidence.earlier_z, math.atanh(self.target - MARGIN)
        quantile = self.find_boundary(evidence.fractions, evidence.plan) if evidence.fractions.size else math.inf

        def needed(n: int) -> float | None:
            limit = raise_to_floor(n, evidence.plan.sizes[-1], quantile)
            if limit is None:
                return None
            z = (before.size + 1) * (floor + limit) - float(before.sum())
            return max(self.target, math.tanh(z)) if z <= fisher_z(1.0, n) else None

        near = None if correlation is None else find_near_target(self.target, correlation.n)
        return decide_acceptance(evidence, needed, target=self.target, lower_limit=limit, near_target=near)

    def error_spent(self, plan: LookPlan) -> float:
        """Compute the error rate of one proxy task for the planned sizes of the reference set."""
        models = sum(plan.sizes) / len(plan.sizes)
        return self.alpha / plan.tasks * min(1.0, math.pow(FEW_MODELS / models, 1 / 3))

    def find_boundary(self, fractions: Floats, plan: LookPlan) -> float:
        """Find the boundary at the last of the looks so far, in standard deviations above atanh(target - 0.10)."""
        alpha, spacings = self.error_spent(plan), measure_spacing(fractions)
        return max(calibrate_boundary(spacing, plan.sizes, self.target, alpha) for spacing in spacings)


@lru_cache(maxsize=1024)
def calibrate_boundary(spacing: LookSpacing, sizes: tuple[int, ...], target: float, alpha: float) -> float:
    """Calibrate the boundary of the smoothed z by simulation, in standard deviations above atanh(target - 0.10).

    Args:
        spacing: Looks.
        sizes: Possible sizes of the reference set, increasing.
        target: Tau of a good proxy task.
        alpha: Probability that a proxy task whose true tau is always target - 0.10 crosses the boundary at any look.

    Returns:
        The lowest boundary that at most a share `alpha` of simulated studies crosses, at all noise shares.
    """
    models = choose_sizes(sizes)
    simulated = [SimulatedStudies(spacing.fractions, models, target, share) for share in NOISE_SHARES]
    return find_lowest_boundary(simulated, alpha)


def find_lowest_boundary(simulated: Sequence["SimulatedLooks"], alpha: float) -> float:
    """Find the lowest boundary that at most a share `alpha` of each kind of simulated studies crosses.

    Args:
        simulated: Simulated studies whose true tau is target - 0.10.
        alpha: Error of one proxy task.
    """
    told_apart = max(alpha, LEAST_CROSSING / min(studies.number for studies in simulated))
    low, high = 0.0, HIGHEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if max(studies.accepted(middle) for studies in simulated) <= told_apart:
            high = middle
        else:
            low = middle
    return high if told_apart == alpha else extrapolate_boundary(high, told_apart, alpha)


@dataclass(frozen=True, eq=False)
class SimulatedLooks:
    """Simulated looks at proxy tasks, to which the criterion is applied.

    Attributes:
        above: Smoothed z above atanh(target - 0.10), shape (sizes, studies, looks); -inf if tau is below the target.
        is_near: Whether tau at the last look is near the target or above, shape (sizes, studies).
        units: Boundary of each size for a quantile of 1, shape (sizes,).
    """

    above: Floats
    is_near: NDArray[np.bool_]
    units: Floats

    def follow(
        self, quantiles: float | Floats, may_grow: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Follow studies from look to look; inconclusive ones add models as the criterion does.

        Args:
            quantiles: Boundary of each look, shape (looks,), or of all looks, in standard deviations.
            may_grow: Whether models may be added at each look and size, shape (looks, sizes); None for always.

        Returns:
            Look of acceptance, -1 for none, and index of the last size, each of shape (studies,).
        """
        places, studies, looks = self.above.shape
        size, accepted = np.zeros(studies, dtype=np.intp), np.full(studies, -1, dtype=np.intp)
        for look, quantile in enumerate(np.broadcast_to(quantiles, looks)):
            limits = quantile * self.units
            for place, limit in enumerate(limits):
                asked = np.flatnonzero((accepted < 0) & (size == place))
                above = self.above[place, asked, look]
                is_accepted = above >= limit
                accepted[asked[is_accepted]] = look
                if place + 1 < places and (may_grow is None or may_grow[look, place]):
                    can_suffice = above >= limits[-1]
                    if look == looks - 1:
                        can_suffice |= self.is_near[place, asked]
                    size[asked[~is_accepted & can_suffice]] = place + 1
        return accepted, size

    def accepted(self, quantiles: float | Floats) -> float:
        """Compute the share accepted at any look; inconclusive studies add models as the criterion does.

        Args:
            quantiles: Boundary of each look, shape (looks,), or of all looks, in standard deviations.
        """
        return float((self.follow(quantiles)[0] >= 0).mean())

    @property
    def number(self) -> int:
        """Number of simulated studies."""
        return int(self.above.shape[1])


class SimulatedStudies(SimulatedLooks):
    """Simulated studies of a proxy task with a given true tau.

    Args:
        fractions: Fraction of training at each look, increasing.
        sizes: Possible sizes of the reference set, increasing.
        target: Tau of a good proxy task.
        noise_share: Share of the variance that is independent noise of each look, in [0, 1].
        true_tau: True tau at every look, or of shape (studies, looks); None for target - 0.10 at every look.
        seed: Seed of the simulation.
    """

    def __init__(
        self,
        fractions: Sequence[float],
        sizes: Sequence[int],
        target: float,
        noise_share: float,
        *,
        true_tau: float | Floats | None = None,
        seed: int = 0,
    ) -> None:
        floor = target - MARGIN
        tau = floor if true_tau is None else true_tau
        taus, z = simulate_z(tau, fractions, sizes, noise_share, seed=seed)
        above = z - math.atanh(floor)
        near = np.array([find_near_target(target, size) or 1.0 for size in sizes])
        super().__init__(
            above=np.where(taus >= target - FLOAT32_ROUNDING, above, -np.inf),
            is_near=taus[:, :, -1] >= near[:, None] - FLOAT32_ROUNDING,
            units=list_units(sizes),
        )
