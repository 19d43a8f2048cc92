"""Cost and result of searches on published learning curves: `python -m benchmarks.worth --table FILE`.

Each draw takes reference models from one half of the table, as many as `references.initial: auto` decides, judges the
proxy task as a study does, designs a ladder, and searches architectures of the other half, drawn without replacement,
with each strategy. Costs are in full trainings, of the study and its search; more candidates than half of the table's
rows count for cost only. The **oracle** searches without a study at the first check from which the population tau stays
at or above the target. The **regret** is the percentage of all architectures that are better than the best one found,
less that of training all candidates fully. **Inside** is the share of draws whose percentage lies in the predicted 95 %
interval; a table of n rows resolves percentages to 100 / n. A draw is **wrong** as in `benchmarks.verdicts`.

*At equal cost* each strategy spends what the recommended one does, study included, with the number of candidates and of
fully trained models that was predicted to be best. The **excess** is the mean regret of the recommended strategy above
that of the best one, with its 95 % interval over draws.

The *frontier* has the ladder at several risks, and, without a certificate, the ladder of `benchmarks.shares`.
**Eliminated** is the share of the good candidates, those better than all but the m best reference models, that the
ladder eliminates: at most the risk.
"""

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import shares
from benchmarks.population import Population, add_table_options, parse_counts, read_judged
from benchmarks.table_studies import MAXIMUM, Draw, Outcome, choose_counts, judge
from nasproxy.errors import DataError, NasproxyError
from nasproxy.stages.worth.settings import LadderSettings
from nasproxy.statistics.acceptance import MARGIN
from nasproxy.statistics.concordance import kendall_taus
from nasproxy.statistics.criteria.first_crossing import FirstCrossing
from nasproxy.statistics.criteria.group_sequential import GroupSequential
from nasproxy.statistics.cross_fit import find_attenuation, measure_optimism
from nasproxy.statistics.ladder import Ladder, count_best, design_ladder
from nasproxy.statistics.reference_count import FEWEST
from nasproxy.statistics.strategies import (
    FULL_TRAINING,
    TOP,
    ZERO_COST,
    Candidates,
    Place,
    Strategy,
    halve,
    run_strategy,
    scale_cost,
    set_top,
    train_all,
    use_fixed_fraction,
    use_proxy,
    use_zero_cost,
)
from nasproxy.statistics.worth import Prospect, SearchSimulation, compare_strategies

SEEDS = 4
"""Trainings that measure variance, besides that of a reference model."""
RISKS = (0.1, 0.2, 0.25, 0.34, 0.5)
"""Risks of the ladders on the frontier."""
SHARES_BEST = 3
"""Best reference models that the ladder without a certificate is designed on."""
AS_IN_A_SEARCH = "as in a search"
"""Name of the proxy task's places, whose models start anew when they are trained fully."""
STRATEGIES = ("random", "halving", "fixed_fraction", "ladder", "proxy", ZERO_COST)
SIZE = Place("seconds per step", 0)
"""The zero-cost score of a table: larger models take longer."""


@dataclass
class Figures:
    """What was seen of one strategy over the draws."""

    costs: list[float] = field(default_factory=list)
    regrets: list[float] = field(default_factory=list)
    inside: list[bool] = field(default_factory=list)
    none_accepted: int = 0
    wrong: int = 0
    good: int = 0
    eliminated: int = 0

    def summarize_regret(self) -> dict[str, float]:
        """Summarize costs and regrets."""
        return {
            "cost": float(np.mean(self.costs)),
            "regret": float(np.mean(self.regrets)),
            "regret_99": float(np.quantile(self.regrets, 0.99)),
        }


class Searches:
    """One draw: the reference models of a study, and other architectures to search."""

    def __init__(self, population: Population, order: Sequence[int], candidates: int) -> None:
        self.population = population
        size = population.reference.size
        searched = min(candidates, size // 2)
        self.for_study = list(order[: size - searched])
        fractions = dict(zip(population.looks, population.fractions.tolist(), strict=True))
        early = {look: fraction for look, fraction in fractions.items() if fraction < 1}
        self.places = [Place(FULL_TRAINING, look) for look in early]
        self.costs = {Place(FULL_TRAINING, look): fraction for look, fraction in early.items()}
        self.pool = self.take(order[-searched:])
        self.best_share = self.share_above(float(self.pool.finals.max()))

    def take(self, models: Sequence[int]) -> Candidates:
        """Return scores of models at all looks and after full training."""
        scores = {place: self.population.scores[place.step, models] for place in self.places}
        again = {Place(AS_IN_A_SEARCH, place.step): values for place, values in scores.items()}
        costs = {**self.costs, **{place: self.costs[Place(FULL_TRAINING, place.step)] for place in again}, SIZE: 0.0}
        return Candidates(
            {**scores, **again, SIZE: self.population.seconds[models]}, costs, self.population.reference[models]
        )

    def share_above(self, score: float) -> float:
        """Compute the percentage of all architectures that are better."""
        return 100 * float(np.mean(self.population.reference > score))

    def run(self, strategy: Strategy, count: int) -> tuple[float, float]:
        """Search so many candidates; returns cost and the percentage of all architectures that are better."""
        pool = self.pool.first(count)
        found = run_strategy(strategy, pool)
        cost = scale_cost(strategy, pool.costs, found.cost, pool.finals.size, count)
        return cost, self.share_above(found.best)

    def use_accepted(self, study: Outcome) -> Strategy:
        """Make the search that follows from a verdict: with the accepted proxy task, or with full training."""
        look = None if study.look is None else self.population.looks[study.look]
        place = Place(AS_IN_A_SEARCH, -1 if look is None else look)
        return use_proxy(place) if place in self.pool.costs else train_all()


def cost_study(population: Population, study: Outcome) -> float:
    """Compute the cost of a study: variance, reference models, and their proxy trainings up to the last look."""
    return SEEDS + study.models * (1 + float(population.fractions[-1 if study.look is None else study.look]))


def measure_attenuation(population: Population, study: Outcome, models: Sequence[int]) -> float:
    """Measure the factor that takes the optimism of its choice from the accepted task's correlation."""
    if study.look is None:
        return 1.0
    proxy = population.scores[np.ix_(population.looks[: study.look + 1], models)]
    reference = population.reference[models]
    tau = float(kendall_taus(proxy[-1:], reference)[0])
    return find_attenuation(tau, tau - measure_optimism(proxy, reference, level=tau))


class Benchmark:
    """Figures of all strategies over the draws of a table."""

    def __init__(self, population: Population, candidates: int, target: float, max_risk: float) -> None:
        self.population = population
        self.candidates = candidates
        self.target = target
        self.max_risk = max_risk
        self.figures: dict[str, Figures] = defaultdict(Figures)
        self.equal: dict[str, Figures] = defaultdict(Figures)
        self.frontier: dict[str, Figures] = defaultdict(Figures)
        self.recommended: dict[str, int] = defaultdict(int)
        self.models: list[int] = []

    def add(self, order: Sequence[int], seed: int) -> None:
        """Add one draw."""
        searches = Searches(self.population, order, self.candidates)
        rule, first = GroupSequential(target=self.target), FirstCrossing(target=self.target)
        counts = choose_counts(self.population, searches.for_study, rule, self.candidates, self.max_risk)
        study = judge(Draw(self.population, searches.for_study, *counts), rule, self.candidates)
        crossing = judge(Draw(self.population, searches.for_study, FEWEST, FEWEST), first)
        self._judge("default", searches, study)
        self._judge("first_crossing", searches, crossing)
        self.models.append(study.models)
        self._compare(searches, study, seed)

    def _judge(self, name: str, searches: Searches, study: Outcome) -> None:
        paid = cost_study(self.population, study)
        self._note(self.figures[name], searches, searches.use_accepted(study), self.candidates, paid)
        self.figures[name].none_accepted += study.look is None
        self.figures[name].wrong += study.look is not None and self.population.taus[study.look] < self.target - MARGIN

    def _compare(self, searches: Searches, study: Outcome, seed: int) -> None:
        models = searches.for_study[: study.models]
        references, paid = searches.take(models), cost_study(self.population, study)
        ladders = self._design_ladders(searches, references)
        ladder, proxy = ladders[self.max_risk], searches.use_accepted(study)
        strategies = [train_all(), halve(searches.costs), use_fixed_fraction(searches.costs), use_zero_cost(SIZE.task)]
        strategies += [] if ladder is None else [ladder.strategy]
        strategies += [proxy] if proxy.rungs else []
        attenuation = {rung.place: measure_attenuation(self.population, study, models) for rung in proxy.rungs}
        simulation = SearchSimulation(references, paid, attenuation=attenuation, seed=seed)
        worth = compare_strategies(strategies, self.candidates, simulation, proxy="proxy")
        inside = simulation.predict(strategies, [searches.pool.finals.size] * len(strategies))
        named = {strategy.name: strategy for strategy in strategies}
        for strategy, predicted in zip(strategies, inside, strict=True):
            own = paid * strategy.needs_study
            self._note(self.figures[strategy.name], searches, strategy, self.candidates, own, predicted)
        best, strategy = worth.recommended, named[worth.recommended.strategy]
        self.recommended[best.strategy] += 1
        own = paid * strategy.needs_study
        self._note(self.figures["recommended"], searches, strategy, best.candidates, own)
        self._spend_equally(searches, named, worth.at_recommended_cost, paid)
        self._follow_frontier(searches, references, ladders, paid)

    def _design_ladders(self, searches: Searches, references: Candidates) -> dict[float, Ladder | None]:
        """Design a ladder for each risk."""
        scores = {place: references.scores[place] for place in searches.places}
        risks = sorted({*RISKS, self.max_risk})
        return {risk: design_ladder(scores, searches.costs, references.finals, max_risk=risk) for risk in risks}

    def _spend_equally(
        self, searches: Searches, strategies: Mapping[str, Strategy], prospects: Sequence[Prospect], paid: float
    ) -> None:
        """Search with each strategy at the cost of the recommended one; one that cannot train a model finds none."""
        affordable = {prospect.strategy: prospect for prospect in prospects}
        for name in STRATEGIES:
            if name in affordable and name in strategies:
                strategy = set_top(strategies[name], affordable[name].top)
                own = paid * strategy.needs_study
                self._note(self.equal[name], searches, strategy, affordable[name].candidates, own)
            else:
                self.equal[name].regrets.append(100.0 - searches.best_share)

    def _follow_frontier(
        self, searches: Searches, references: Candidates, ladders: Mapping[float, Ladder | None], paid: float
    ) -> None:
        """Search with a ladder of each risk, and with that of shares; a ladder that is missing trains all fully."""
        scores = {place: references.scores[place] for place in searches.places}
        uncertified = shares.design_shares(scores, searches.costs, references.finals, SHARES_BEST)
        found = {
            f"{risk:g}": (None if each is None else each.strategy, count_best(risk)) for risk, each in ladders.items()
        }
        for name, (strategy, best) in {**found, shares.NAME: (uncertified, SHARES_BEST)}.items():
            used, figures = strategy or train_all(), self.frontier[name]
            self._note(figures, searches, used, self.candidates, paid)
            worst = np.sort(references.finals)[::-1][min(best, references.finals.size - 1)]
            is_good = searches.pool.finals > worst
            figures.good += int(is_good.sum())
            figures.eliminated += int((is_good & ~run_strategy(used, searches.pool).trained).sum())

    def _note(
        self,
        figures: Figures,
        searches: Searches,
        strategy: Strategy,
        count: int,
        paid: float,
        predicted: Prospect | None = None,
    ) -> None:
        cost, share = searches.run(strategy, count)
        figures.costs.append(paid + cost)
        figures.regrets.append(share - searches.best_share)
        if predicted is not None:
            finest = 100 / self.population.reference.size
            figures.inside.append(100 * predicted.low <= share + finest and share <= 100 * predicted.high)

    def summarize(self) -> dict[str, Any]:
        """Summarize the draws."""
        oracle = self.population.oracle(self.target)
        least = None if oracle is None else self.candidates * oracle + TOP
        strategies = {}
        for name, found in self.figures.items():
            is_judged, draws = name in ("default", "first_crossing"), len(found.costs)
            strategies[name] = {
                **found.summarize_regret(),
                "cost_over_oracle": None if least is None else float(np.mean(found.costs)) / least,
                "none_accepted": found.none_accepted / draws if is_judged else None,
                "wrong": found.wrong / draws if is_judged else None,
                "inside": float(np.mean(found.inside)) if found.inside else None,
            }
        frontier = {
            name: {**found.summarize_regret(), "eliminated": found.eliminated / found.good if found.good else None}
            for name, found in self.frontier.items()
        }
        return {
            "models": float(np.mean(self.models)),
            "strategies": strategies,
            "recommended": dict(self.recommended),
            "equal_cost": self._summarize_equal_cost(),
            "frontier": frontier,
        }

    def _summarize_equal_cost(self) -> dict[str, Any]:
        """Compare the recommended strategy with the best of all at its cost."""
        regrets = {name: float(np.mean(found.regrets)) for name, found in self.equal.items()}
        best = min(regrets, key=lambda name: regrets[name])
        differences = np.array(self.figures["recommended"].regrets) - np.array(self.equal[best].regrets)
        half = 1.96 * float(differences.std()) / math.sqrt(differences.size)
        excess = float(differences.mean())
        return {"regrets": regrets, "best": best, "excess": excess, "low": excess - half, "high": excess + half}


def show(found: Mapping[str, Any], candidates: int, console: Console) -> None:
    """Print the results for a number of candidates as tables."""
    titles = {
        "strategies": f"{candidates} candidates, {found['models']:.0f} reference models on average; "
        f"recommended: {found['recommended']}",
        "frontier": "ladder by risk",
    }
    for part, title in titles.items():
        shown = Table("", *next(iter(found[part].values())), title=title)
        for name, figures in found[part].items():
            shown.add_row(name, *("" if value is None else f"{value:.3g}" for value in figures.values()))
        console.print(shown)
    equal = found["equal_cost"]
    listed = ", ".join(f"{name} {regret:.2f}" for name, regret in equal["regrets"].items())
    console.print(
        f"Regret at the cost of the recommended strategy: {listed}; the recommended one exceeds the best by "
        f"{equal['excess']:.2f} ({equal['low']:.2f} to {equal['high']:.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_table_options(parser, draws=200)
    parser.add_argument("--candidates", type=parse_counts, default="200,2000", help="models of the search")
    parser.add_argument("--max-risk", type=float, default=0.25, help="risk of the ladder")
    arguments = parser.parse_args()
    try:
        LadderSettings(arguments.max_risk).check()
        population = read_judged(arguments, 2 * MAXIMUM)
        if population.fractions[0] >= 1:
            raise DataError(f"{arguments.table} needs checks before the end of training, got one at its end")
    except NasproxyError as error:
        parser.exit(2, f"{error}\n")
    console, summary = Console(width=140), {}
    for count in arguments.candidates:
        random = np.random.default_rng(arguments.seed)
        benchmark = Benchmark(population, count, arguments.target, arguments.max_risk)
        for number in range(arguments.draws):
            benchmark.add(random.permutation(population.reference.size).tolist(), number)
        found = benchmark.summarize()
        summary[str(count)] = found
        show(found, count, console)
    if arguments.json:
        print(json.dumps({"oracle": population.oracle(arguments.target), "candidates": summary}))


if __name__ == "__main__":
    main()
