"""How many reference models a study needs: the numbers that minimise the expected cost of study and search.

Costs are in full trainings. Few references are cheap, but make the criterion stop later, and every model of the search
then trains longer; the best number follows from how many models the search trains. Expectations are over simulated
studies: tau rises with the training fraction along a curve that is drawn from a prior, or from what the first
references have shown, and is observed with the sampling noise of the number of models.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from nasproxy.statistics.acceptance import MARGIN, MOST_MODELS, LookPlan, find_near_target
from nasproxy.statistics.boundary import NOISE_SHARES, list_units
from nasproxy.statistics.criteria.group_sequential import GroupSequential, SimulatedLooks, find_lowest_boundary
from nasproxy.statistics.deviation import MIN_MODELS, atanh_deviation
from nasproxy.statistics.ladder import expect_cost
from nasproxy.statistics.missing import Floats
from nasproxy.statistics.tau_curve import TauCurve
from nasproxy.statistics.tau_smoothing import smooth

FEWEST = 10
"""Fewest reference models that are chosen, and those that are trained before the number is revised."""
INITIAL = (10, 15, 20, 30, 40, 60, 80, 100, 140, MOST_MODELS)
"""Initial numbers of models to choose among."""
FACTORS = (1, 2, 4)
"""Ratios of the maximum to the initial number to choose among."""
STUDIES = 1000
MOST_LOOKS = 16
HIGHEST_TAU = 0.999
"""Tau that counts as 1, whose Fisher's z is infinite."""
NOISE_SHARE = 0.5
"""Share of a check's variance that is independent noise, between the extremes that the boundary holds at."""


@dataclass(frozen=True)
class Economy:
    """What study and search cost, in full trainings.

    Attributes:
        trials: Models that the search will train.
        proxy: Cost of a whole training under the proxy task relative to a full training.
        tasks: Proxy tasks that are judged together.
        fractions: Fraction of the proxy training at each look, increasing; at most 16 of them are simulated.
        max_risk: Risk of the certified ladder that the search uses where that is cheaper than an accepted proxy task,
            or none is accepted; None if all candidates are trained fully then.
    """

    trials: int
    proxy: float = 1.0
    tasks: int = 1
    fractions: tuple[float, ...] = tuple(float(f) for f in np.geomspace(0.01, 1.0, MOST_LOOKS))
    max_risk: float | None = None


@dataclass(frozen=True)
class ReferenceCount:
    """Numbers of reference models, and what they are expected to lead to.

    Attributes:
        initial: Models trained fully before the proxy search.
        maximum: Maximum number after inconclusive verdicts.
        cost: Expected cost of study and search, in full trainings.
        study: Expected cost of the study alone, in full trainings.
        models: Expected number of models at the end.
        accepted: Probability that a proxy task is accepted.
        fraction: Median fraction of the proxy training at which it is accepted; None if that is never expected.
    """

    initial: int
    maximum: int
    cost: float
    study: float
    models: float
    accepted: float
    fraction: float | None


@dataclass(frozen=True)
class CountChoice:
    """The chosen numbers of reference models and two alternatives.

    Attributes:
        chosen: The numbers with the lowest expected cost.
        alternatives: About half and about twice as many, where they are possible.
    """

    chosen: ReferenceCount
    alternatives: tuple[ReferenceCount, ...]


@lru_cache(maxsize=256)
def choose_references(
    economy: Economy,
    curve: TauCurve,
    *,
    target: float,
    alpha: float,
    initial: int | None = None,
    maximum: int | None = None,
    step: int = 5,
    least: int = FEWEST,
    most: int = MOST_MODELS,
) -> CountChoice:
    """Choose the numbers of reference models with the lowest expected cost of study and search.

    Pure and deterministic; cached within a process.

    Args:
        economy: What study and search cost.
        curve: What is known of how tau rises with the training fraction.
        target: Tau of a good proxy task.
        alpha: Error rate of the criterion over all looks and tasks.
        initial: Given initial number; None to choose it.
        maximum: Given maximum; None to choose it.
        step: Models that are added at a time.
        least: Fewest initial models.
        most: Largest number of models, such as the number of architectures in the search space.

    Returns:
        The chosen numbers and two alternatives.
    """
    simulation = StudySimulation(economy, curve, target, alpha, step=step)
    designs = list_designs(initial, maximum, least, most)
    counts = [simulation.expect(first, largest) for first, largest in designs]
    chosen = min(counts, key=lambda count: (count.cost, count.maximum, count.initial))
    others = [count for count in counts if count.initial != chosen.initial or count.maximum != chosen.maximum]
    return CountChoice(chosen, _choose_alternatives(chosen, others))


def list_designs(initial: int | None, maximum: int | None, least: int, most: int) -> list[tuple[int, int]]:
    """List the pairs of initial number and maximum to choose among.

    >>> list_designs(None, 20, 10, 200)
    [(10, 20), (15, 20), (20, 20)]
    >>> list_designs(10, None, 10, 200)
    [(10, 10), (10, 20), (10, 40)]
    >>> list_designs(None, 0, 10, 20), list_designs(None, 5, 10, 20)
    ([(10, 10), (15, 15), (20, 20)], [(10, 10)])
    """
    sizes = sorted({min(most, max(least, size)) for size in INITIAL})
    firsts = sizes if initial is None else [initial]
    if maximum is None:
        factors = [(first, min(factor * first, max(first, most))) for first in firsts for factor in FACTORS]
        return list(dict.fromkeys(factors))
    if not maximum:
        return [(first, first) for first in firsts]
    if maximum < firsts[0]:
        return [(firsts[0], firsts[0])]
    return [(first, maximum) for first in firsts if first <= maximum]


def _choose_alternatives(chosen: ReferenceCount, others: Sequence[ReferenceCount]) -> tuple[ReferenceCount, ...]:
    """Choose the cheapest designs with fewer models than the chosen one, and with more; two of a kind if need be."""
    size = chosen.initial + chosen.maximum
    fewer = sorted((each for each in others if each.initial + each.maximum <= 0.7 * size), key=lambda each: each.cost)
    more = sorted((each for each in others if each.initial + each.maximum >= 1.4 * size), key=lambda each: each.cost)
    rest = sorted((each for each in others if each not in (*fewer[:1], *more[:1])), key=lambda each: each.cost)
    found = [*fewer[:1], *more[:1], *rest][:2]
    return tuple(sorted(found, key=lambda each: (each.initial, each.maximum)))


class StudySimulation:
    """Simulated studies whose tau rises along drawn curves; all designs share the curves and the noise.

    Args:
        economy: What study and search cost.
        curve: What is known of how tau rises.
        target: Tau of a good proxy task.
        alpha: Error rate of the criterion over all looks and tasks.
        step: Models that are added at a time.
        studies: Number of simulated studies.
    """

    def __init__(
        self, economy: Economy, curve: TauCurve, target: float, alpha: float, *, step: int = 5, studies: int = STUDIES
    ) -> None:
        self._economy = economy
        self._target = target
        self._rule = GroupSequential(target=target, alpha=alpha)
        self._step = step
        self._studies = studies
        self._fractions = tuple(thin_out(economy.fractions).tolist())
        random = np.random.default_rng(0)
        self._true = curve.draw(np.array(self._fractions), studies, random, best_of=math.ceil(math.sqrt(economy.tasks)))

    def expect(self, initial: int, maximum: int) -> ReferenceCount:
        """Compute the expected cost of study and search for numbers of reference models."""
        sizes = (*range(initial, maximum, self._step), maximum)
        alpha = self._rule.error_spent(LookPlan(self._economy.tasks, sizes))
        boundary = calibrate_normal_boundary(self._fractions, sizes, self._target, alpha, self._studies)
        seen = simulate_looks(self._true, self._fractions, sizes, self._target, NOISE_SHARE)
        looks, places = seen.follow(boundary, self._pays(sizes))
        return self._price(initial, maximum, looks, np.array(sizes, dtype=np.float64)[places])

    def _pays(self, sizes: Sequence[int]) -> np.typing.NDArray[np.bool_]:
        """Tell at which looks and sizes added models cost less than longer trainings, shape (looks, sizes)."""
        proxy, trials = self._economy.proxy * np.array(self._fractions)[:, None], self._economy.trials
        added = np.array([*(after - before for before, after in pairwise(sizes)), 0])
        pays = added * (1 + proxy) <= trials * proxy
        pays[-1] = True
        return np.asarray(pays, dtype=np.bool_)

    def _price(self, initial: int, maximum: int, looks: np.typing.NDArray[np.intp], models: Floats) -> ReferenceCount:
        """Average the costs of simulated studies, given their looks of acceptance and numbers of models."""
        economy, is_accepted = self._economy, looks >= 0
        fraction = np.where(is_accepted, np.array(self._fractions)[looks], 1.0)
        proxy = economy.proxy * fraction
        study = models * (1 + economy.tasks * proxy)
        is_right = is_accepted & (self._true[np.arange(looks.size), looks] >= math.atanh(self._target - MARGIN))
        other = np.ones(models.size) if economy.max_risk is None else expect_cost(models, economy.max_risk)
        is_used = is_accepted & (proxy < other)
        search = economy.trials * np.where(is_used, proxy + ~is_right * other, other)
        accepted = float(is_accepted.mean())
        return ReferenceCount(
            initial=initial,
            maximum=maximum,
            cost=float((study + search).mean()),
            study=float(study.mean()),
            models=float(models.mean()),
            accepted=accepted,
            fraction=float(np.median(fraction[is_accepted])) if accepted else None,
        )


@lru_cache(maxsize=1024)
def calibrate_normal_boundary(
    fractions: tuple[float, ...], sizes: tuple[int, ...], target: float, alpha: float, studies: int
) -> float:
    """Calibrate the criterion's boundary on normal values of z, which takes a fraction of the time of simulated ranks.

    Args:
        fractions: Fraction of training at each look, increasing.
        sizes: Possible sizes of the reference set, increasing.
        target: Tau of a good proxy task.
        alpha: Error of one proxy task whose true tau is always target - 0.10.
        studies: Number of simulated studies.
    """
    floor = np.full((studies, len(fractions)), math.atanh(target - MARGIN))
    return find_lowest_boundary([simulate_looks(floor, fractions, sizes, target, each) for each in NOISE_SHARES], alpha)


def simulate_looks(
    true: Floats, fractions: Sequence[float], sizes: Sequence[int], target: float, noise_share: float
) -> SimulatedLooks:
    """Add sampling noise to true values of z, shape (studies, looks)."""
    noisy = true + draw_noise(fractions, sizes, noise_share, len(true))
    near = np.array([math.atanh(find_near_target(target, size) or HIGHEST_TAU) for size in sizes])
    above = smooth(noisy, fractions) - math.atanh(target - MARGIN)
    return SimulatedLooks(
        above=np.where(noisy >= math.atanh(min(target, HIGHEST_TAU)), above, -np.inf),
        is_near=noisy[:, :, -1] >= near[:, None],
        units=list_units(sizes),
    )


def thin_out(fractions: Sequence[float]) -> Floats:
    """Select at most 16 looks, about equally far apart in the logarithm, the first and the last among them."""
    places = np.asarray(fractions, dtype=np.float64)
    if places.size <= MOST_LOOKS:
        return places
    wanted = np.geomspace(places[0], places[-1], MOST_LOOKS)
    nearest = np.abs(places[None, :] - wanted[:, None]).argmin(axis=1)
    return np.asarray(places[np.unique(nearest)], dtype=np.float64)


def draw_noise(fractions: Sequence[float], sizes: Sequence[int], noise_share: float, studies: int) -> Floats:
    """Draw the sampling noise of Fisher's z of nested sets of models, shape (sizes, studies, looks).

    The noise has variance 0.48 / (n - 6). That of a set is the noise of the largest one plus independent parts, so that
    the covariance of two sets is the variance of the larger one, as for means. Between looks it has the correlation of
    `nasproxy.statistics.simulation.simulate_taus`.
    """
    random = np.random.default_rng(1)
    deviations = np.array([atanh_deviation(max(size, MIN_MODELS)) for size in sizes])
    variances = deviations**2
    parts = np.sqrt(variances - np.append(variances[1:], 0.0))
    noise = np.zeros((studies, len(fractions)))
    found = np.empty((len(sizes), studies, len(fractions)))
    for place in reversed(range(len(sizes))):
        noise = noise + parts[place] * _draw_looks(fractions, noise_share, studies, random)
        found[place] = noise
    return found


def _draw_looks(fractions: Sequence[float], noise_share: float, studies: int, random: np.random.Generator) -> Floats:
    """Draw standard normal deviations at looks, shape (studies, looks)."""
    waning = random.standard_normal(studies)
    found = np.empty((studies, len(fractions)))
    for look, fraction in enumerate(fractions):
        if look:
            kept = fractions[look - 1] / fraction
            waning = kept * waning + math.sqrt(1 - kept**2) * random.standard_normal(studies)
        own = random.standard_normal(studies)
        found[:, look] = math.sqrt(1 - noise_share) * waning + math.sqrt(noise_share) * own
    return found
