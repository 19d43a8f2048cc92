"""Lower confidence bound of a true tau that was selected: at any look, any number of models, of any proxy task.

An ordinary lower limit holds for a tau that nobody chose. The accepted tau was chosen for being high, among the looks
of several proxy tasks on one draw of models. The bound here holds for all looks, numbers of models and tasks at once,
so it holds for the chosen one, whatever rule chose it.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from nasproxy.statistics.acceptance import Evidence, LookPlan
from nasproxy.statistics.boundary import (
    LEAST_CROSSING,
    NOISE_SHARES,
    choose_sizes,
    extrapolate_boundary,
    list_units,
    raise_to_floor,
    simulate_z,
)
from nasproxy.statistics.look_spacing import WINDOW, LookSpacing, measure_spacing
from nasproxy.statistics.missing import Floats

ERROR = 0.05
"""Probability that the bound of any proxy task of a grid lies above the true tau at any look."""
TRUE_TAUS = (0.4, 0.6, 0.8, 0.9)
"""True taus that boundaries are calibrated at: few models raise z further by chance where the true tau is higher."""
STUDIES = 1500
"""Number of simulated studies; the error that a boundary is calibrated at has a standard error of 0.6 %."""


@dataclass(frozen=True)
class SelectionMargin:
    """How far chance can raise Fisher's z of a selected tau above the true one.

    Attributes:
        boundaries: Boundary at each of `TRUE_TAUS`, in standard deviations, not decreasing.
        most: Largest planned number of models.
    """

    boundaries: tuple[float, ...]
    most: int

    def bound_tau(self, z: float, n: int) -> float | None:
        """Compute the lower confidence bound: the lowest true tau that is not rejected at its own boundary.

        Boundaries between the calibrated ones are interpolated over z.

        Args:
            z: Fisher's z of the observed tau, or its mean over near checks.
            n: Number of models.

        Returns:
            The bound; None for fewer than 8 models.
        """
        unit = raise_to_floor(n, self.most, 1.0)
        if unit is None:
            return None
        reaches = np.array(self.boundaries) * unit
        return math.tanh(z - float(np.interp(z, np.arctanh(TRUE_TAUS) + reaches, reaches)))


def measure_margin(fractions: Floats, plan: LookPlan) -> SelectionMargin:
    """Measure how far chance can raise a tau that is selected at the last of the looks so far.

    Args:
        fractions: Training fraction of each look so far, shape (looks,), increasing, at least one look.
        plan: Number of proxy tasks, and sizes of the reference set.
    """
    spacings, error = measure_spacing(fractions), ERROR / plan.tasks
    found = [max(_calibrate(each, plan.sizes, tau, error) for each in spacings) for tau in TRUE_TAUS]
    return SelectionMargin(tuple(np.maximum.accumulate(found).tolist()), plan.sizes[-1])


def bound_selected_tau(evidence: Evidence) -> float | None:
    """Compute the lower confidence bound of the true tau at the last check, which any rule may have selected.

    Args:
        evidence: Scores at the looks so far, of random reference models: the bound does not hold for others.

    Returns:
        The bound, at most the observed tau; None if tau is undefined, or with fewer than 8 models.

    Source: a repeated confidence interval, Jennison and Turnbull (1989), with a boundary calibrated by simulation.
    """
    correlation, z = evidence.correlation, evidence.smoothed_z
    if correlation is None or z is None:
        return None
    bound = measure_margin(evidence.fractions, evidence.plan).bound_tau(z, correlation.n)
    return None if bound is None else min(bound, correlation.tau)


@lru_cache(maxsize=1024)
def _calibrate(spacing: LookSpacing, sizes: tuple[int, ...], true_tau: float, error: float) -> float:
    """Calibrate the boundary that the smoothed z crosses at any look and size with probability `error` at most.

    Smoothing removes independent noise: of looks near enough to be smoothed, those with slowly decaying deviations
    cross more often; of looks farther apart, those with independent ones.
    """
    models = choose_sizes(sizes)
    share = min(NOISE_SHARES) if spacing.apart < WINDOW else max(NOISE_SHARES)
    _, z = simulate_z(true_tau, spacing.fractions, models, share, studies=STUDIES)
    highest = ((z - math.atanh(true_tau)) / list_units(models)[:, None, None]).max(axis=(0, 2))
    told_apart = max(error, LEAST_CROSSING / STUDIES)
    boundary = float(np.quantile(highest, 1 - told_apart, method="higher"))
    return boundary if told_apart == error else extrapolate_boundary(boundary, told_apart, error)
