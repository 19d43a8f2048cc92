"""Cost and result of searches on published learning curves: `python -m benchmarks.worth --table FILE`.

Each draw takes reference models from the table, judges the proxy task as a study does, designs a ladder, and searches
other architectures of the table, drawn without replacement, with each strategy. Costs are in full trainings, of the
study and its search; more candidates than half of the table's rows count for cost only. The **oracle** searches without
a study at the first check from which the population tau stays at or above the target. The **regret** is the percentage
of all architectures that are better than the best one found, less that of training all candidates fully. **Inside** is
the share of draws whose percentage lies in the predicted 95 % interval; a table of n rows resolves percentages to
100 / n. A draw is **wrong** as in `benchmarks.verdicts`.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.verdicts import (
    MAXIMUM,
    Draw,
    Outcome,
    Population,
    add_table_options,
    judge,
    parse_counts,
    read_judged,
    select_references,
)
from nasproxy.errors import NasproxyError
from nasproxy.stages.worth.settings import LadderSettings
from nasproxy.statistics.acceptance import MARGIN, Criterion
from nasproxy.statistics.criteria.first_crossing import FirstCrossing
from nasproxy.statistics.criteria.group_sequential import GroupSequential
from nasproxy.statistics.ladder import design_ladder
from nasproxy.statistics.strategies import (
    FULL_TRAINING,
    Candidates,
    Place,
    Strategy,
    halve,
    run_strategy,
    scale_cost,
    train_all,
    use_fixed_fraction,
    use_proxy,
    use_zero_cost,
)
from nasproxy.statistics.worth import Forecaster, Prospect, compare_strategies

SEEDS = 5
"""Trainings that measure variance."""
SIZE = Place("seconds per step", 0)
"""The zero-cost score of a table: larger models take longer."""
FIRST = 10
WORLDS = 50


@dataclass
class Figures:
    """What was seen of one strategy over the draws."""

    costs: list[float] = field(default_factory=list)
    regrets: list[float] = field(default_factory=list)
    inside: list[bool] = field(default_factory=list)
    none_accepted: int = 0
    wrong: int = 0


class Searches:
    """One draw: the reference models of a study, and other architectures to search."""

    def __init__(self, population: Population, order: Sequence[int], candidates: int) -> None:
        self.population = population
        self.order = list(order)
        size = population.reference.size
        fractions = dict(zip(population.looks, population.fractions.tolist(), strict=True))
        self.costs = {Place(FULL_TRAINING, look): fraction for look, fraction in fractions.items() if fraction < 1}
        self.places = list(self.costs)
        self.candidates = candidates
        self.pool = self.take(self.order[-min(candidates, size // 2) :])
        self.best_share = self.share_above(float(self.pool.finals.max()))

    def take(self, models: Sequence[int]) -> Candidates:
        """Return scores of models at all looks and after full training."""
        scores = {place: self.population.scores[place.step, models] for place in self.places}
        scores[SIZE] = self.population.seconds[models]
        return Candidates(scores, {**self.costs, SIZE: 0.0}, self.population.reference[models])

    def share_above(self, score: float) -> float:
        """Compute the percentage of all architectures that are better."""
        return 100 * float(np.mean(self.population.reference > score))

    def run(self, strategy: Strategy, count: int) -> tuple[float, float]:
        """Search so many candidates; returns cost and regret."""
        pool = self.pool.first(count)
        found = run_strategy(strategy, pool)
        cost = scale_cost(strategy, pool.costs, found.cost, pool.finals.size, count)
        return cost, self.share_above(found.best)

    def look_at(self, look: int) -> Place:
        """Return the place of a look."""
        return Place(FULL_TRAINING, self.population.looks[look])


def judge_study(searches: Searches, rule: Criterion, *, is_adaptive: bool) -> tuple[Outcome, int]:
    """Judge the proxy task on the first models of a draw; returns the outcome and the number of reference models."""
    draw = Draw(searches.population, searches.order, FIRST, is_adaptive=is_adaptive)
    outcome = judge(draw, rule)
    return outcome, FIRST + outcome.added


def use_outcome(searches: Searches, outcome: Outcome) -> Strategy:
    """Make the search that follows from a verdict: with the accepted proxy task, or with full training."""
    if outcome.look is None or searches.population.fractions[outcome.look] >= 1:
        return train_all()
    return use_proxy(searches.look_at(outcome.look))


def cost_study(searches: Searches, outcome: Outcome, models: int) -> float:
    """Compute the cost of a study: variance, reference models, and their proxy trainings up to the last look."""
    fractions = searches.population.fractions
    return SEEDS + models * (1 + float(fractions[-1 if outcome.look is None else outcome.look]))


class Benchmark:
    """Figures of all strategies over the draws of a table."""

    def __init__(self, population: Population, candidates: int, target: float, max_risk: float) -> None:
        self.population = population
        self.candidates = candidates
        self.target = target
        self.max_risk = max_risk
        self.figures: dict[str, Figures] = defaultdict(Figures)
        self.recommended: dict[str, int] = defaultdict(int)

    def add(self, order: Sequence[int], seed: int) -> None:
        """Add one draw."""
        searches = Searches(self.population, order, self.candidates)
        for name, rule, is_adaptive in (
            ("default", GroupSequential(target=self.target), True),
            ("first_crossing", FirstCrossing(target=self.target), False),
        ):
            outcome, models = judge_study(searches, rule, is_adaptive=is_adaptive)
            study = cost_study(searches, outcome, models)
            strategy = use_outcome(searches, outcome)
            self._note(name, searches, strategy, self.candidates, study, outcome)
            if name == "default":
                self._compare(searches, strategy, outcome, models, study, seed)

    def _compare(
        self, searches: Searches, proxy: Strategy, outcome: Outcome, models: int, study: float, seed: int
    ) -> None:
        chosen = searches.order[:models]
        references = searches.take(chosen)
        ladder = design_ladder(
            {place: references.scores[place] for place in searches.places},
            searches.costs,
            references.finals,
            max_risk=self.max_risk,
        )
        strategies = [train_all(), halve(searches.costs), use_fixed_fraction(searches.costs), use_zero_cost(SIZE.task)]
        strategies += [] if ladder is None else [ladder.strategy]
        strategies += [proxy] if proxy.rungs else []
        forecaster = Forecaster(references, study, worlds=WORLDS, seed=seed)
        worth = compare_strategies(strategies, self.candidates, forecaster, proxy="proxy")
        size_pool = searches.pool.finals.size
        inside = forecaster.predict(strategies, [size_pool] * len(strategies))
        for strategy, predicted in zip(strategies, inside, strict=True):
            paid = study if strategy.needs_study else 0.0
            self._note(strategy.name, searches, strategy, self.candidates, paid, outcome, predicted)
        best = worth.recommended
        self.recommended[best.strategy] += 1
        strategy = next(each for each in strategies if each.name == best.strategy)
        self._note("recommended", searches, strategy, best.candidates, study * strategy.needs_study, outcome)

    def _note(
        self,
        name: str,
        searches: Searches,
        strategy: Strategy,
        count: int,
        paid: float,
        outcome: Outcome,
        predicted: Prospect | None = None,
    ) -> None:
        figures = self.figures[name]
        cost, share = searches.run(strategy, count)
        figures.costs.append(paid + cost)
        figures.regrets.append(share - searches.best_share)
        if predicted is not None:
            finest = 100 / self.population.reference.size
            figures.inside.append(100 * predicted.low <= share + finest and share <= 100 * predicted.high)
        figures.none_accepted += outcome.look is None
        figures.wrong += outcome.look is not None and self.population.taus[outcome.look] < self.target - MARGIN

    def summarize(self) -> dict[str, Any]:
        """Summarize the draws."""
        oracle = self.population.oracle(self.target)
        least = None if oracle is None else self.candidates * oracle + 10
        return {
            name: {
                "cost": float(np.mean(found.costs)),
                "cost_over_oracle": None if least is None else float(np.mean(found.costs)) / least,
                "none_accepted": found.none_accepted / len(found.costs),
                "wrong": found.wrong / len(found.costs),
                "regret": float(np.mean(found.regrets)),
                "regret_99": float(np.quantile(found.regrets, 0.99)),
                "inside": float(np.mean(found.inside)) if found.inside else None,
            }
            for name, found in self.figures.items()
        }


def format_rows(found: Mapping[str, Any]) -> Iterator[list[str]]:
    """Format the results as rows of a table."""
    for name, figures in found.items():
        yield [name, *("" if value is None else f"{value:.3g}" for value in figures.values())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_table_options(parser, draws=200)
    parser.add_argument("--candidates", type=parse_counts, default="200,2000", help="models of the search")
    parser.add_argument("--max-risk", type=float, default=0.25, help="risk of the ladder")
    arguments = parser.parse_args()
    try:
        LadderSettings(arguments.max_risk).check()
        population = read_judged(arguments, 2 * MAXIMUM)
    except NasproxyError as error:
        parser.exit(2, f"{error}\n")
    console, summary = Console(width=140), {}
    for count in arguments.candidates:
        random = np.random.default_rng(arguments.seed)
        benchmark = Benchmark(population, count, arguments.target, arguments.max_risk)
        for number in range(arguments.draws):
            benchmark.add(select_references(population, FIRST, "random", random), number)
        found = benchmark.summarize()
        summary[str(count)] = {"strategies": found, "recommended": dict(benchmark.recommended)}
        shown = Table(
            "strategy",
            *next(iter(found.values())),
            title=f"{count} candidates; recommended: {dict(benchmark.recommended)}",
        )
        for row in format_rows(found):
            shown.add_row(*row)
        console.print(shown)
    if arguments.json:
        print(json.dumps({"oracle": population.oracle(arguments.target), "candidates": summary}))


if __name__ == "__main__":
    main()
