"""What each strategy of a search is expected to find, and what it costs in total: is the study's proxy task worth it?

Ranks are shares of all models that are better than the best model found. They are predicted for populations that rank
like the reference models (`nasproxy.statistics.copula`), so they include what is not known from so few models.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from nasproxy.statistics.copula import normal_scores, resample
from nasproxy.statistics.missing import Floats
from nasproxy.statistics.strategies import (
    ZERO_COST,
    Candidates,
    Place,
    Rung,
    Strategy,
    Threshold,
    find_top,
    run_strategy,
    scale_cost,
    set_top,
)

LEVEL = 0.95
"""Level of the intervals."""
WORST = 0.05
"""Share of simulated populations, those in which a strategy misses most, that decide beside the mean."""
POPULATIONS = 400
"""Number of simulated populations for the planned number of candidates."""
ADJUSTED_POPULATIONS = 100
"""Number of simulated populations for strategies that are adjusted to a total cost."""
WITHIN = 1.05
"""Predicted cost over the allowed one up to which an adjusted strategy counts as within it."""
ROUNDING = 1e-9
LEAST_COST = 10
"""Smallest total cost of the curves, in full trainings."""
CURVE_POINTS = 7
MOST_CANDIDATES = 5_000
"""Largest simulated search; a larger one finds at least as good a model."""
TOLERANCE = 0.001
"""Share of all models by which two strategies may differ and count as equally good."""
RELATIVE_TOLERANCE = 0.2
SCALES = (1.0, 0.25, 0.35, 0.5, 0.7, 1.5, 2.0, 3.0)
"""Numbers of candidates that a recommended search may start with, over the planned number, which comes first."""
TOPS = (10, 30, 100)
"""Numbers of models that a strategy with a fixed number trains fully, when it is adjusted to a cost."""


@dataclass(frozen=True)
class Prospect:
    """What a strategy is expected to find.

    Attributes:
        strategy: Name of the strategy.
        candidates: Number of models that it starts with.
        top: Number of models that it trains fully, where it is fixed.
        cost: Expected total cost in full trainings, the study included where it needs one.
        cost_from_here: The same without the study, which is paid.
        rank: Expected share of all models that are better than the best one found, in [0, 1].
        low: Lower end of the 95 % prediction interval of this share.
        high: Upper end.
        missed: Expected share of models between the best candidate and the best one found, in the worst 5 % of
            simulated populations.
    """

    strategy: str
    candidates: int
    top: int | None
    cost: float
    cost_from_here: float
    rank: float
    low: float
    high: float
    missed: float


@dataclass(frozen=True)
class Worth:
    """Comparison of strategies.

    Attributes:
        planned: Each strategy with the planned number of candidates.
        at_proxy_cost: The best setting of each strategy within the total cost of the proxy task; empty without one.
        at_recommended_cost: The same within the total cost of the recommended strategy.
        curves: The same within several total costs.
        recommended: Recommended strategy and number of candidates.
        from_here: The same by the cost that is left to pay, now that the study is paid.
    """

    planned: tuple[Prospect, ...]
    at_proxy_cost: tuple[Prospect, ...]
    at_recommended_cost: tuple[Prospect, ...]
    curves: tuple[Prospect, ...]
    recommended: Prospect
    from_here: Prospect


class SearchSimulation:
    """Searches of populations that rank like the reference models.

    Args:
        references: The reference models: scores at the places that strategies use, and after full training.
        study_cost: Cost of the study, in full trainings.
        attenuation: Factor in [0, 1] of the correlation of a place's scores with all others, for places whose scores
            were selected for their correlation; 1 for the others.
        populations: Number of simulated populations.
        seed: Seed of the simulation.
    """

    def __init__(
        self,
        references: Candidates,
        study_cost: float,
        *,
        attenuation: Mapping[Place, float] | None = None,
        populations: int = POPULATIONS,
        seed: int = 0,
    ) -> None:
        self._references = references
        self._study_cost = study_cost
        self._attenuation = attenuation or {}
        self._populations = populations
        self._seed = seed

    def predict(
        self, strategies: Sequence[Strategy], counts: Sequence[int], *, populations: int | None = None
    ) -> list[Prospect]:
        """Predict what strategies find among so many candidates each.

        Args:
            strategies: The strategies.
            counts: Number of candidates of each.
            populations: Number of simulated populations; None for that of the simulation.
        """
        places = list(dict.fromkeys(rung.place for strategy in strategies for rung in strategy.rungs))
        observed = [self._references.scores[place] for place in places]
        scores = normal_scores(np.column_stack([*observed, self._references.finals]))
        searches = [_in_normal_scores(strategy, self._references) for strategy in strategies]
        sizes = [min(count, MOST_CANDIDATES) for count in counts]
        random = np.random.default_rng(self._seed)
        number_simulated = populations or self._populations
        costs, shares = np.zeros((2, number_simulated, len(searches)))
        lowest = {size: np.zeros(number_simulated) for size in sizes}
        for number in range(number_simulated):
            population = resample(scores, random)
            pool = self._draw(population.draw(max(sizes), random), places, random)
            found = [run_strategy(search, pool.first(size)) for search, size in zip(searches, sizes, strict=True)]
            costs[number] = [result.cost for result in found]
            shares[number] = population.share_above(np.array([result.best for result in found]), -1)
            best = population.share_above(np.array([pool.finals[:size].max() for size in lowest]), -1)
            for size, share_of_best in zip(lowest, best.tolist(), strict=True):
                lowest[size][number] = share_of_best
        summarized = zip(strategies, counts, sizes, costs.T, shares.T, strict=True)
        return [
            self._summarize(strategy, count, size, float(cost.mean()), share, share - lowest[size])
            for strategy, count, size, cost, share in summarized
        ]

    def _summarize(
        self, strategy: Strategy, count: int, size: int, cost: float, shares: Floats, missed: Floats
    ) -> Prospect:
        """Summarize the searches of all populations.

        Args:
            strategy: The strategy.
            count: Number of candidates.
            size: Number of simulated candidates.
            cost: Mean cost of the simulated searches.
            shares: Share of better models in each population.
            missed: The same less that of the best candidate, whose expectation is known, 1 / (size + 1).
        """
        tail, number_worst = (1 - LEVEL) / 2, max(1, round(WORST * shares.size))
        low, high = np.quantile(shares, [tail, 1 - tail])
        of_search = scale_cost(strategy, self._references.costs, cost, size, count)
        return Prospect(
            strategy=strategy.name,
            candidates=count,
            top=find_top(strategy),
            cost=of_search + self._study_cost * strategy.needs_study,
            cost_from_here=of_search,
            rank=1 / (size + 1) + float(missed.mean()),
            low=float(low),
            high=float(high),
            missed=float(np.sort(missed)[-number_worst:].mean()),
        )

    def predict_within(
        self, planned: Sequence[Prospect], strategies: Sequence[Strategy], costs: Sequence[float]
    ) -> list[list[Prospect]]:
        """Predict what each strategy finds within total costs, with the best number of fully trained models.

        Args:
            planned: Prospects of the strategies with their planned numbers of candidates.
            strategies: The strategies, in the same order.
            costs: Total costs, in full trainings.

        Returns:
            For each cost, one prospect for each strategy that can train a model within it.
        """
        settings = [
            (number, varied, count)
            for number, cost in enumerate(costs)
            for prospect, strategy in zip(planned, strategies, strict=True)
            for varied in vary_top(strategy)
            if (count := self._count_within(prospect, varied, cost)) >= max(1, find_top(varied) or 1)
        ]
        adjusted, counts = [each[1] for each in settings], [each[2] for each in settings]
        populations = min(self._populations, ADJUSTED_POPULATIONS)
        found = self.predict(adjusted, counts, populations=populations) if settings else []
        best: list[dict[str, Prospect]] = [{} for _ in costs]
        for (number, _, _), prospect in zip(settings, found, strict=True):
            before = best[number].get(prospect.strategy)
            if prospect.cost > WITHIN * costs[number]:
                continue
            if before is None or prospect.rank < before.rank:
                best[number][prospect.strategy] = prospect
        return [list(each.values()) for each in best]

    def _draw(self, scores: Floats, places: Sequence[Place], random: np.random.Generator) -> Candidates:
        for column, place in enumerate(places):
            kept = self._attenuation.get(place, 1.0)
            if kept < 1:
                noise = random.standard_normal(len(scores))
                scores[:, column] = kept * scores[:, column] + math.sqrt(1 - kept**2) * noise
        columns = {place: scores[:, column] for column, place in enumerate(places)}
        return Candidates(columns, self._references.costs, scores[:, -1])

    def _count_within(self, planned: Prospect, strategy: Strategy, cost: float) -> int:
        """Compute how many candidates a strategy can start with within a total cost."""
        study, top = self._study_cost * strategy.needs_study, find_top(strategy)
        if top is None:
            return math.floor((cost - study) * planned.candidates / planned.cost_from_here)
        first = self._references.costs[strategy.rungs[0].place]
        trained = min(planned.top or 1, planned.candidates)
        rest = 1.0 if planned.top is None else (planned.cost_from_here - first * planned.candidates) / trained
        left = cost - study - top * rest
        return MOST_CANDIDATES if first == 0 and left >= 0 else math.floor(left / first) if first else 0


def compare_strategies(
    strategies: Sequence[Strategy], trials: int, simulation: SearchSimulation, *, proxy: str | None = None
) -> Worth:
    """Compare strategies for a search and recommend one.

    The recommended search is the cheapest, study included, that is nearly as good as the best strategy with the planned
    number of candidates: its expected share of better models is at most 0.1 % of all models, or 20 %, above the
    smallest one. Since few reference models may rank well by luck, a strategy without a certificate must also find
    nearly the best of its candidates in the worst 5 % of the simulated populations: what it misses is at most 0.1 % of
    all models, or 20 % of the share above the best candidate in the worst 5 % of draws of candidates. It may start with
    a quarter to three times as many candidates as planned. A zero-cost score is compared and not recommended: reference
    models tell least of it where it matters, at the top.

    Args:
        strategies: The strategies, full training of random models among them.
        trials: Number of models of the search.
        simulation: Predicts what they find.
        proxy: Name of the strategy that uses the accepted proxy task; None if none is accepted.
    """
    found = _predict_scaled(strategies, trials, simulation)
    planned = [prospect for prospect in found if prospect.candidates == trials]
    rank = _tolerate(min(prospect.rank for prospect in planned))
    missed = max(TOLERANCE, RELATIVE_TOLERANCE * (1 - math.log(WORST)) / (trials + 1))
    certified = {strategy.name for strategy in strategies if strategy.is_certified}
    good = [
        prospect
        for prospect in found
        if prospect.rank <= rank
        and (prospect.missed <= missed or prospect.strategy in certified)
        and prospect.strategy != ZERO_COST
    ]
    recommended = min(good, key=lambda prospect: prospect.cost)
    from_here = min(good, key=lambda prospect: prospect.cost_from_here)
    of_proxy = next((prospect for prospect in planned if prospect.strategy == proxy), None)
    proxy_cost = recommended.cost if of_proxy is None else of_proxy.cost
    shown = np.geomspace(LEAST_COST, max(LEAST_COST, trials), CURVE_POINTS).tolist()
    within_proxy, within_recommended, *curves = simulation.predict_within(
        planned, strategies, [proxy_cost, recommended.cost, *shown]
    )
    return Worth(
        tuple(planned),
        () if of_proxy is None else tuple(within_proxy),
        tuple(within_recommended),
        tuple(prospect for each in curves for prospect in each),
        recommended,
        from_here,
    )


def _predict_scaled(strategies: Sequence[Strategy], trials: int, simulation: SearchSimulation) -> list[Prospect]:
    """Predict all strategies with the planned number of candidates and, where they can be told apart, with others."""
    scaled = [max(1, round(scale * trials)) for scale in SCALES]
    counts = [count for count in dict.fromkeys(scaled) if count == trials or max(count, trials) <= MOST_CANDIDATES]
    return simulation.predict([each for each in strategies for _ in counts], counts * len(strategies))


def score_of_share(finals: Floats, share: float) -> float | None:
    """Find the score that a share of all models exceeds, from scores of random models.

    Args:
        finals: Scores of random models, shape (n_models,), higher is better.
        share: Share of better models, in [0, 1].

    Returns:
        The score; None if it lies above the best of the random models.
    """
    ascending = np.sort(finals)
    places = 1 - (np.arange(ascending.size) + 0.5) / ascending.size
    return None if share < places[-1] - ROUNDING else float(np.interp(1 - share, 1 - places, ascending))


def _tolerate(share: float) -> float:
    """Return the largest share that counts as equally good."""
    return share + max(TOLERANCE, RELATIVE_TOLERANCE * share)


def vary_top(strategy: Strategy) -> list[Strategy]:
    """List the settings of a strategy with several numbers of fully trained models."""
    return [strategy] if find_top(strategy) is None else [set_top(strategy, top) for top in TOPS]


def _in_normal_scores(strategy: Strategy, references: Candidates) -> Strategy:
    """Express the thresholds of a strategy on the scale of normal scores."""
    rungs = tuple(_convert_rung(rung, references.scores[rung.place]) for rung in strategy.rungs)
    return replace(strategy, rungs=rungs)


def _convert_rung(rung: Rung, scores: Floats) -> Rung:
    if not isinstance(rung.rule, Threshold):
        return rung
    below = np.count_nonzero(scores < rung.rule.score) / scores.size
    return Rung(rung.place, replace(rung.rule, score=float(stats.norm.ppf(below))))
