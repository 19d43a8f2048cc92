"""Error of acceptance in users' terms: the probability that an accepted proxy task's true tau lies below the target.

A criterion's error rate bounds the probability that a poor proxy task is accepted. The probability that an accepted
proxy task is poor also depends on how many poor ones there are, that is on a prior of the true tau. It is the share of
low true taus among the accepted ones of simulated studies whose true tau is drawn from the prior (Bayes).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nasproxy.statistics.acceptance import FRACTION_ROUNDING, MARGIN, LookPlan
from nasproxy.statistics.boundary import SIMULATED_MODELS, choose_sizes
from nasproxy.statistics.criteria.group_sequential import (
    FLOAT32_ROUNDING,
    GroupSequential,
    SimulatedStudies,
    calibrate_boundary,
)
from nasproxy.statistics.look_spacing import CELL, CLOSEST, measure_spacing
from nasproxy.statistics.missing import Floats
from nasproxy.statistics.simulation import count_studies, simulate_taus
from nasproxy.statistics.tau_curve import TauCurve
from nasproxy.statistics.tau_smoothing import select_apart

NOISE_SHARE = 0.5
"""Share of a check's variance that is independent noise, between the extremes that the boundary holds at."""
SEED, PRIOR_SEED = 1, 2
"""Seeds of the simulated scores and of the true taus; boundaries are calibrated with seed 0."""

FindLooks = Callable[[Floats], NDArray[np.intp]]
"""Simulates studies with true taus of shape (studies, looks); returns the look of acceptance of each, -1 for none."""


class TauPrior(str, Enum):
    """Priors of the true tau, the default first."""

    PUBLISHED = "published"
    """Rises with training as on published learning curves."""
    UNIFORM = "uniform"
    """The same at every look, spread evenly over 0 to 1."""
    HALF_HOPELESS = "half hopeless"
    """Half of the proxy tasks as published, the others the same at every look, spread evenly up to target - 0.10."""


@dataclass(frozen=True)
class AcceptanceError:
    """Error of acceptance under a prior of the true tau.

    Attributes:
        prior: The prior.
        accepted: Probability that a proxy task is accepted.
        below_target: Probability that the true tau at the accepted look lies below the target, given acceptance; None
            if no simulated proxy task is accepted.
        below_margin: The same for a true tau below target - 0.10.
    """

    prior: TauPrior
    accepted: float
    below_target: float | None
    below_margin: float | None


@lru_cache(maxsize=64)
def estimate_sequential_errors(
    fractions: tuple[float, ...], plan: LookPlan, *, target: float, alpha: float
) -> tuple[AcceptanceError, ...]:
    """Estimate the errors of the default criterion for one of the planned proxy tasks.

    The looks of the simulated studies are equally far apart, as those near the accepted one, and their boundary is the
    one that the criterion used there. Deterministic; cached within a process.

    Args:
        fractions: Fraction of training at each look up to the accepted one, increasing.
        plan: Number of proxy tasks and sizes of the reference set; of more than 60 models, 60 are simulated.
        target: Tau of a good proxy task.
        alpha: Error rate of the criterion over all looks and tasks.

    Returns:
        The error under each prior.
    """
    spacing = max(measure_spacing(np.array(fractions)), key=lambda each: each.apart)
    spent = GroupSequential(target=target, alpha=alpha).error_spent(plan)
    boundary = calibrate_boundary(spacing, plan.sizes, target, spent)
    sizes = choose_sizes(plan.sizes)

    def find_looks(true: Floats) -> NDArray[np.intp]:
        made = SimulatedStudies(spacing.fractions, sizes, target, NOISE_SHARE, true_tau=true, seed=SEED)
        return made.follow(boundary)[0]

    return _estimate_errors(np.array(spacing.fractions), count_studies(sizes[-1]), target, find_looks)


@lru_cache(maxsize=64)
def estimate_crossing_errors(
    fractions: tuple[float, ...], models: int, *, target: float
) -> tuple[AcceptanceError, ...]:
    """Estimate the errors of acceptance at the first crossing of the target.

    Deterministic; cached within a process.

    Args:
        fractions: Fraction of training at each look up to the accepted one, increasing.
        models: Number of reference models, none of which are added; of more than 60, 60 are simulated.
        target: Tau of a good proxy task.

    Returns:
        The error under each prior.
    """
    looks = continue_looks(fractions)
    models = min(models, SIMULATED_MODELS)
    studies = count_studies(models)

    def find_looks(true: Floats) -> NDArray[np.intp]:
        taus = simulate_taus(true, looks.tolist(), [models], noise_share=NOISE_SHARE, studies=studies, seed=SEED)[0]
        has_crossed = taus >= target - FLOAT32_ROUNDING
        return np.where(has_crossed.any(axis=1), has_crossed.argmax(axis=1), -1)

    return _estimate_errors(looks, studies, target, find_looks)


def continue_looks(fractions: tuple[float, ...]) -> Floats:
    """Continue looks to the end of the training at the last distance; of looks less than 12 % apart, keep the first.

    Args:
        fractions: Fraction of training at each look so far, increasing.

    >>> continue_looks((0.25, 0.5)).tolist()
    [0.25, 0.5, 0.75, 1.0]
    """
    last, before = fractions[-1], (0.0, *fractions)[-2]
    later = np.arange(1, math.floor((1 - last) / (last - before) + FRACTION_ROUNDING) + 1)
    looks = np.minimum(1.0, np.concatenate([fractions, last + (last - before) * later]))
    return np.asarray(looks[select_apart(looks, math.exp(CLOSEST * CELL))], dtype=np.float64)


def _estimate_errors(
    fractions: Floats, studies: int, target: float, find_looks: FindLooks
) -> tuple[AcceptanceError, ...]:
    """Simulate studies with rising and with constant true taus; each prior weighs them differently."""
    random = np.random.default_rng(PRIOR_SEED)
    rising = np.tanh(TauCurve().draw(fractions, studies, random))
    constant = np.broadcast_to(_spread_evenly(studies, random)[:, None], rising.shape)
    looks = np.concatenate([find_looks(rising), find_looks(constant)])
    true = np.concatenate([rising, constant])[np.arange(2 * studies), looks]
    is_rising = np.arange(2 * studies) < studies
    is_hopeless = ~is_rising & (true < target - MARGIN)
    weights = {
        TauPrior.PUBLISHED: is_rising / studies,
        TauPrior.UNIFORM: ~is_rising / studies,
        TauPrior.HALF_HOPELESS: is_rising / (2 * studies) + is_hopeless / (2 * max(1, is_hopeless.sum())),
    }
    return tuple(_weigh(prior, true, np.where(looks >= 0, each, 0.0), target) for prior, each in weights.items())


def _spread_evenly(number: int, random: np.random.Generator) -> Floats:
    """Spread true taus evenly over 0 to 1, in random order; they give a higher precision than drawn ones."""
    return np.asarray((random.permutation(number) + 0.5) / number)


def _weigh(prior: TauPrior, true: Floats, weights: Floats, target: float) -> AcceptanceError:
    """Compute an error from the true taus at the accepted look and the weights of the accepted studies."""
    accepted = float(weights.sum())
    below = [float(weights[true < limit].sum()) / accepted if accepted else None for limit in (target, target - MARGIN)]
    return AcceptanceError(prior, accepted, *below)
