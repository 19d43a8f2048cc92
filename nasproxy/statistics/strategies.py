"""Strategies of a search: which candidates are trained on after each rung, and what that costs.

A strategy trains all candidates to its first rung, keeps some by their scores there, trains these to the next rung, and
so on; the models kept at the last rung are trained fully. A rung within the training before it resumes that training;
under another proxy task, survivors start anew.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from nasproxy.statistics.missing import Floats

FULL_TRAINING = "full training"
"""Name of full training among the proxy tasks, whose names have no blanks."""
ZERO_COST = "zero_cost"
"""Name of the strategy that ranks by a zero-cost score."""
TOP = 10
"""Models that are trained fully after a search with a proxy task."""
ETA = 3
"""Of so many models successive halving keeps one at each rung, which is so many times later than the one before."""
HALVINGS = 3
"""Number of rungs of successive halving."""
FIXED_FRACTION = 0.25
"""Fraction of full training after which the strategy without a study keeps the best models."""

Mask = NDArray[np.bool_]


class Place(NamedTuple):
    """Where models can be compared.

    Attributes:
        task: Name of a proxy task, of a zero-cost score, or `FULL_TRAINING`.
        step: Finished optimizer steps.
    """

    task: str
    step: int


@dataclass(frozen=True, eq=False)
class Candidates:
    """Models of a search, measured or simulated.

    Attributes:
        scores: Scores at each place, shape (models,), higher is better.
        costs: Cost of training one model from the start to each place, in full trainings.
        finals: Scores after full training, shape (models,), higher is better.
    """

    scores: Mapping[Place, Floats]
    costs: Mapping[Place, float]
    finals: Floats

    def first(self, count: int) -> "Candidates":
        """Return the first models."""
        return Candidates({place: s[:count] for place, s in self.scores.items()}, self.costs, self.finals[:count])


class Rule(Protocol):
    """Decides which models are trained on."""

    def keep(self, scores: Floats) -> Mask:
        """Return which models are kept, given their scores, shape (models,), higher is better."""
        ...


@dataclass(frozen=True)
class Threshold:
    """Keeps the models whose score is at least `score`, and always the `least` best ones."""

    score: float
    least: int = 0

    def keep(self, scores: Floats) -> Mask:
        """Return which models are kept."""
        reached = np.asarray(scores >= self.score, dtype=np.bool_)
        return reached if np.count_nonzero(reached) >= self.least else BestCount(self.least).keep(scores)


@dataclass(frozen=True)
class BestCount:
    """Keeps the `count` best models."""

    count: int

    def keep(self, scores: Floats) -> Mask:
        """Return which models are kept; of equal ones those that come first."""
        if self.count >= scores.size:
            return np.ones(scores.size, dtype=np.bool_)
        if self.count < 1:
            return np.zeros(scores.size, dtype=np.bool_)
        lowest = np.partition(scores, -self.count)[-self.count]
        kept = np.asarray(scores > lowest, dtype=np.bool_)
        equal = np.flatnonzero(scores == lowest)
        kept[equal[: self.count - np.count_nonzero(kept)]] = True
        return kept


@dataclass(frozen=True)
class BestShare:
    """Keeps the best models, a share of them in (0, 1], rounded up."""

    share: float

    def keep(self, scores: Floats) -> Mask:
        """Return which models are kept."""
        return BestCount(math.ceil(self.share * scores.size - 1e-9)).keep(scores)


@dataclass(frozen=True)
class Rung:
    """A comparison of the models that are left.

    Attributes:
        place: Where they are compared.
        rule: Which of them are trained on.
    """

    place: Place
    rule: Rule


@dataclass(frozen=True)
class Strategy:
    """A way to search.

    Attributes:
        name: Name for readers.
        rungs: Its rungs, in order; none if all candidates are trained fully.
        needs_study: Whether it needs reference models.
        is_certified: Whether it loses good candidates with a known probability, whatever the distribution of scores.
    """

    name: str
    rungs: tuple[Rung, ...]
    needs_study: bool
    is_certified: bool = False


@dataclass(frozen=True, eq=False)
class Search:
    """Result of a search.

    Attributes:
        trained: Which candidates were trained fully, shape (models,).
        cost: Cost of all trainings, in full trainings.
        best: Score of the best fully trained model.
    """

    trained: Mask
    cost: float
    best: float


def run_strategy(strategy: Strategy, candidates: Candidates) -> Search:
    """Search the candidates with a strategy.

    Args:
        strategy: The strategy; its places are among those of the candidates.
        candidates: The candidates, at least one.
    """
    left = np.arange(candidates.finals.size)
    cost, before = 0.0, None
    for rung in strategy.rungs:
        cost += left.size * cost_between(candidates.costs, before, rung.place)
        left = left[rung.rule.keep(candidates.scores[rung.place][left])]
        before = rung.place
    cost += left.size * cost_to_end(candidates.costs, before)
    trained = np.zeros(candidates.finals.size, dtype=np.bool_)
    trained[left] = True
    return Search(trained, cost, float(candidates.finals[left].max(initial=-math.inf)))


def cost_between(costs: Mapping[Place, float], before: Place | None, place: Place) -> float:
    """Compute the cost of training one model from the place before, or from the start under another task."""
    is_resumed = before is not None and before.task == place.task and before.step <= place.step
    return costs[place] - (costs[before] if before is not None and is_resumed else 0.0)


def cost_to_end(costs: Mapping[Place, float], before: Place | None) -> float:
    """Compute the cost of the rest of full training after a place, or of all of it after another task."""
    return 1.0 - (costs[before] if before is not None and before.task == FULL_TRAINING else 0.0)


def find_top(strategy: Strategy) -> int | None:
    """Return the number of models that a strategy trains fully; None if it follows from the candidates."""
    last = strategy.rungs[-1].rule if strategy.rungs else None
    return last.count if isinstance(last, BestCount) else None


def set_top(strategy: Strategy, top: int | None) -> Strategy:
    """Set the number of models that a strategy trains fully, where it is fixed; None keeps it."""
    if top is None or find_top(strategy) is None:
        return strategy
    *before, last = strategy.rungs
    return replace(strategy, rungs=(*before, Rung(last.place, BestCount(top))))


def scale_cost(strategy: Strategy, costs: Mapping[Place, float], cost: float, candidates: int, wanted: int) -> float:
    """Compute the cost of a search of `wanted` candidates from that of `candidates`."""
    if find_top(strategy) is None:
        return cost * wanted / candidates
    return cost + (wanted - candidates) * costs[strategy.rungs[0].place]


def train_all() -> Strategy:
    """Make the strategy that trains random models fully."""
    return Strategy("random", (), needs_study=False, is_certified=True)


def use_proxy(place: Place, top: int = TOP) -> Strategy:
    """Make the strategy that ranks by a proxy task and trains the best fully."""
    return Strategy("proxy", (Rung(place, BestCount(top)),), needs_study=True)


def use_zero_cost(score: str, top: int = TOP) -> Strategy:
    """Make the strategy that ranks by a zero-cost score and trains the best fully."""
    return Strategy(ZERO_COST, (Rung(Place(score, 0), BestCount(top)),), needs_study=True)


def halve(costs: Mapping[Place, float]) -> Strategy:
    """Make successive halving on the full schedule, which needs no reference models.

    Args:
        costs: Cost of one model at each place.

    Source: Jamieson and Talwalkar (2016), with eta = 3.
    """
    places = [find_nearest_place(costs, ETA**-rung) for rung in range(HALVINGS, 0, -1)]
    rungs = tuple(Rung(place, BestShare(1 / ETA)) for place in dict.fromkeys(places))
    return Strategy("halving", rungs, needs_study=False)


def use_fixed_fraction(costs: Mapping[Place, float], top: int = TOP) -> Strategy:
    """Make the strategy that trains a fixed fraction of the full schedule, and the best models to its end."""
    rung = Rung(find_nearest_place(costs, FIXED_FRACTION), BestCount(top))
    return Strategy("fixed_fraction", (rung,), needs_study=False)


def find_nearest_place(costs: Mapping[Place, float], fraction: float) -> Place:
    """Find the place on the full schedule whose cost is nearest, in ratio, to a fraction of full training."""
    places: Sequence[Place] = [place for place in costs if place.task == FULL_TRAINING and 0 < costs[place] < 1]
    return min(places, key=lambda place: abs(math.log(costs[place] / fraction)))
