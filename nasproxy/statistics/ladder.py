"""The certified ladder: score thresholds at rungs that a good candidate passes with a stated probability.

The *m best* of n reference models and a new candidate that is better than the other n - m are exchangeable: given the
others, each order of these m + 1 models is equally likely, and so is each order of any statistic of their curves that
treats them alike. The ladder is planned on the n - m others alone. Its statistic is a model's *largest excess*: over
all planned rungs, the ratio of its rank among the others to the rank that the plan allows. The largest excess of the m
best models is then exceeded by the candidate with probability 1 / (m + 1) at most: this is the risk, for all rungs
together, whatever the distribution of scores, and although the rungs were chosen among many. Leaving out rungs
afterwards, or lowering thresholds, can only reduce it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from nasproxy.statistics.missing import Floats
from nasproxy.statistics.strategies import Mask, Place, Rung, Strategy, Threshold, cost_between, cost_to_end

LEAST = 5
"""Models that are trained fully at least, as long as there are so many."""
RUNG_COST = 0.01
"""Cost of a rung in the plan, in full trainings: each one more lets the largest excess of a good model grow."""
RUNGS_COST, SHARE_FACTOR = 0.10, 1.4
"""A candidate is expected to cost 0.10 + 1.4 (m + 1) / (n + 1) full trainings, fitted to five published tables."""


@dataclass(frozen=True)
class LadderRung:
    """A rung of the ladder.

    Attributes:
        place: Proxy task, or full training, and step.
        threshold: Lowest score that is kept, higher is better.
        share: Expected share of all candidates that are kept up to here.
        cost: Cost of one model from the start of this training to the rung, in full trainings.
    """

    place: Place
    threshold: float
    share: float
    cost: float


@dataclass(frozen=True)
class Ladder:
    """A ladder that keeps good candidates with a stated probability.

    Attributes:
        rungs: Its rungs, in order; none if no ladder is cheaper than full training.
        models: Number n of reference models.
        best: Number m of best reference models that it is calibrated on.
        good_score: Full-training score of the best of the others: candidates that exceed it are good.
        cost: Expected cost of a candidate, in full trainings.
    """

    rungs: tuple[LadderRung, ...]
    models: int
    best: int
    good_score: float
    cost: float = 1.0

    @property
    def risk(self) -> float:
        """Largest probability that a good candidate is eliminated at any rung."""
        return 1 / (self.best + 1) if self.rungs else 0.0

    @property
    def top_share(self) -> float:
        """Share of all models that are good, on average over studies: (m + 1) / (n + 1)."""
        return (self.best + 1) / (self.models + 1)

    @property
    def strategy(self) -> Strategy:
        """The ladder as a strategy."""
        rungs = tuple(Rung(rung.place, Threshold(rung.threshold, LEAST)) for rung in self.rungs)
        return Strategy("ladder", rungs, needs_study=True, is_certified=True)


def count_best(max_risk: float) -> int:
    """Compute the number of best reference models that a ladder of a given risk needs.

    >>> count_best(0.25), count_best(0.1), count_best(0.3)
    (3, 9, 3)
    """
    return max(1, math.ceil(1 / max_risk - 1 - 1e-9))


def count_needed(max_risk: float) -> int:
    """Compute the smallest number of reference models that a ladder of a given risk can be designed on."""
    return 2 * count_best(max_risk) + 2


def suggest_references(trials: int, max_risk: float) -> int:
    """Suggest the number of reference models for a ladder: study and search together are cheapest.

    A candidate costs a + k (m + 1) / (n + 1) (`expect_cost`), so the number n that minimises n + trials times this is a
    square root.

    Args:
        trials: Number of models of the search.
        max_risk: Accepted risk of the ladder.

    >>> suggest_references(200, 0.25), suggest_references(2000, 0.25)
    (32, 105)
    """
    return max(count_needed(max_risk), round(math.sqrt(SHARE_FACTOR * (count_best(max_risk) + 1) * trials) - 1))


def expect_cost(models: Floats, max_risk: float) -> Floats:
    """Compute the cost of a candidate that a ladder is expected to have, in full trainings, before it is designed.

    Args:
        models: Numbers of reference models, any shape.
        max_risk: Accepted risk of the ladder.

    Returns:
        The costs, same shape; 1, full training, where no ladder can be designed or it would not be cheaper.

    >>> expect_cost(np.array([5.0, 30.0, 60.0]), 0.25).round(2).tolist()
    [1.0, 0.28, 0.19]
    """
    cost = RUNGS_COST + SHARE_FACTOR * (count_best(max_risk) + 1) / (models + 1)
    return np.where(models < count_needed(max_risk), 1.0, np.minimum(cost, 1.0))


def design_ladder(
    scores: Mapping[Place, Floats], costs: Mapping[Place, float], finals: Floats, *, max_risk: float
) -> Ladder | None:
    """Design the cheapest ladder of a given risk from the curves of random reference models.

    Args:
        scores: Scores of the reference models at each place, shape (n_models,), higher is better; failed models below
            all others.
        costs: Cost of training one model from the start to each place, in full trainings.
        finals: Scores after full training, same shape, higher is better.
        max_risk: Largest probability that a candidate better than all but the best reference models is eliminated, in
            (0, 0.5].

    Returns:
        The ladder; None if there are too few reference models for this risk.

    Source: split conformal prediction (Vovk et al., 2005), split by the rank after full training.
    """
    n, m = finals.size, count_best(max_risk)
    if n < count_needed(max_risk):
        return None
    order = np.argsort(-finals, kind="stable")
    best, others = order[:m], order[m:]
    useless = Ladder((), n, m, float(finals[others[0]]))
    places = list(scores)
    ranks = np.array([_rank_among(values[others], values) for values in scores.values()]).reshape(len(places), n)
    allowed: Floats = np.max(ranks[:, others[:m]], axis=1, initial=0.0)  # what the next best models needed: the plan
    planned = _plan_rungs(places, costs, allowed / (others.size + 1))
    if not planned:
        return useless
    excess = (ranks[planned] / allowed[planned, None]).max(axis=0)
    largest = float(excess[best].max())
    limits = np.floor(largest * allowed[planned] + 1e-9)
    rungs = [
        (places[place], _score_of_rank(scores[places[place]][others], int(limit)), ranks[place] <= limit)
        for place, limit in zip(planned, limits, strict=True)
    ]
    return _keep_cheapest([rung for rung in rungs if not rung[2].all()], costs, useless)


def _rank_among(others: Floats, values: Floats) -> Floats:
    """Compute the rank of each value among other values, 1 for one that none exceeds."""
    ascending = np.sort(others)
    return np.asarray(1.0 + others.size - np.searchsorted(ascending, values, side="right"), dtype=np.float64)


def _score_of_rank(others: Floats, rank: int) -> float:
    """Find the lowest score whose rank among others is at most `rank`."""
    descending = np.sort(others)[::-1]
    return float(descending[rank - 1]) if rank <= descending.size else -math.inf


def _plan_rungs(places: Sequence[Place], costs: Mapping[Place, float], shares: Floats) -> list[int]:
    """Choose the rungs of least cost, if so large a share is kept at each place; shares fall from rung to rung."""
    order = [int(place) for place in np.argsort(-shares, kind="stable") if shares[place] < 1]
    cost: dict[int, float] = {}
    before: dict[int, int | None] = {}
    for place in order:
        ways: list[tuple[float, int | None]] = [(RUNG_COST + cost_between(costs, None, places[place]), None)]
        ways += [
            (RUNG_COST + cost[other] + shares[other] * cost_between(costs, places[other], places[place]), other)
            for other in cost
            if shares[other] > shares[place] and costs[places[other]] <= costs[places[place]]
        ]
        cost[place], before[place] = min(ways, key=lambda way: way[0])
    totals = {place: cost[place] + shares[place] * cost_to_end(costs, places[place]) for place in cost}
    last = min(totals, key=lambda place: totals[place], default=None)
    if last is None or totals[last] >= 1:
        return []
    rungs = [last]
    while (earlier := before[rungs[0]]) is not None:
        rungs.insert(0, earlier)
    return rungs


def _keep_cheapest(
    rungs: Sequence[tuple[Place, float, Mask]],
    costs: Mapping[Place, float],
    useless: Ladder,
) -> Ladder:
    """Choose the subset of rungs with the least expected cost; the shares kept are those of the reference models."""
    cheapest, n = useless, useless.models
    for count in range(1, len(rungs) + 1):
        for chosen in combinations(rungs, count):
            kept, share, cost, before = np.ones(n, dtype=np.bool_), 1.0, 0.0, None
            steps = []
            for place, threshold, is_kept in chosen:
                cost += share * cost_between(costs, before, place)
                kept = kept & is_kept
                share, before = (1 + int(kept.sum())) / (n + 1), place
                steps.append(LadderRung(place, threshold, share, costs[place]))
            cost += share * cost_to_end(costs, before)
            if cost < cheapest.cost:
                cheapest = replace(useless, rungs=tuple(steps), cost=cost)
    return cheapest
