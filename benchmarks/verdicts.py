"""Error rates of acceptance criteria on published learning curves: `python -m benchmarks.verdicts --table FILE`.

Each draw takes reference models from the table and applies each criterion at each check, as a study does. The
*population tau* at a check is that of all architectures of the table. A draw is **wrong** if the criterion accepts at a
check whose population tau is more than 0.10 below the target; shares are of all draws. The **oracle** is the first
check from which the population tau stays at or above the target; **stop** is the median ratio of the accepted check to
the oracle, over accepted draws. For a table without an oracle, no acceptance is correct. **Coverage** is the share of
accepted draws whose lower confidence bound after selection lies at or below the population tau at the accepted check.
**Below** are the shares of accepted draws whose population tau at the accepted check is below the target, and more than
0.10 below it; **stated** are the probabilities of these that a report gives, under each prior of the true tau.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from benchmarks.criteria import CRITERIA
from nasproxy.errors import ConfigError, DataError, NasproxyError
from nasproxy.execution.backends.replay.curve_table import CurveTable, TableTraining, read_table
from nasproxy.statistics.acceptance import (
    MARGIN,
    Criterion,
    Evidence,
    LookPlan,
    VerdictKind,
    check_error,
    check_target,
    count_models_to_add,
)
from nasproxy.statistics.acceptance_error import estimate_crossing_errors, estimate_sequential_errors
from nasproxy.statistics.criteria.group_sequential import GroupSequential
from nasproxy.statistics.missing import Floats
from nasproxy.statistics.rank_correlation import kendall_tau
from nasproxy.statistics.selection_bound import bound_selected_tau
from nasproxy.statistics.spread import cumulative_fractions, removal_count, remove_closest
from nasproxy.trials.objective import Objective

STEP, MAXIMUM = 5, 30
MIN_PAIRS = 5
"""Minimum number of models for a rank correlation."""
SPREAD_POOL = 30


@dataclass(frozen=True)
class Population:
    """All architectures of a table.

    Attributes:
        scores: Scores at every check of the table, shape (checks, architectures).
        reference: Full-training scores, shape (architectures,).
        steps: Steps of the checks.
        looks: Indices of the checks with a look.
        confirmed: Scores of the trainings whose compressed schedule ends at a step, by that step, shape
            (architectures,); NaN where the table has none.
        seconds: Time of full training, shape (architectures,).
    """

    scores: Floats
    reference: Floats
    steps: Sequence[int]
    looks: Sequence[int]
    confirmed: Mapping[int, Floats] = field(default_factory=dict)
    seconds: Floats = field(default_factory=lambda: np.zeros(0))

    @property
    def fractions(self) -> Floats:
        """Fraction of training at each look."""
        return np.array([self.steps[look] for look in self.looks]) / self.steps[-1]

    @cached_property
    def taus(self) -> list[float]:
        """Population tau at each look."""
        found = [kendall_tau(self.scores[look], self.reference) for look in self.looks]
        return [float("nan") if correlation is None else correlation.tau for correlation in found]

    def oracle(self, target: float) -> float | None:
        """Find the fraction of training from which the population tau stays at or above the target."""
        below = [place for place, tau in enumerate(self.taus) if not tau >= target]
        first = below[-1] + 1 if below else 0
        return None if first == len(self.looks) else float(self.fractions[first])


@dataclass(frozen=True)
class Outcome:
    """Result of a criterion on one draw.

    Attributes:
        look: The look of acceptance; None without one.
        added: Number of references added.
        bound: Lower confidence bound of the true tau after selection; None without acceptance, or for too few models.
    """

    look: int | None
    added: int
    bound: float | None = None


def read_population(table: CurveTable, looks: int, proxy: str | None, objective: Objective) -> Population:
    """Read the curves of one proxy task and of full training: `full`, or the table's only proxy task."""
    proxies = list(table.check_steps)
    full = "full" if "full" in proxies else proxies[0]
    judged = proxy or full
    steps = table.check_steps[judged]
    columns, finals, seconds, names = [], [], [], []
    for architecture in table.architectures([full, judged]):
        reference_seed = table.seeds[architecture, full][0]
        seeds = table.seeds[architecture, judged]
        seed = seeds[1] if judged == full and len(seeds) > 1 else seeds[0]
        reference_curve = table.curves[TableTraining(architecture, full, reference_seed)]
        curve = table.curves[TableTraining(architecture, judged, seed)]
        if len(curve.scores) == len(steps) and len(reference_curve.scores) == len(table.check_steps[full]):
            columns.append(curve.scores)
            finals.append(reference_curve.scores[-1])
            seconds.append(reference_curve.train_seconds[-1])
            names.append(architecture)
    orient = objective.orient
    confirmed = {step: orient(read_confirmed(table, judged, step, names)) for step in table.schedules.get(judged, ())}
    return Population(
        scores=orient(np.array(columns).reshape(-1, len(steps)).T),
        reference=orient(np.array(finals)),
        seconds=np.array(seconds),
        steps=steps,
        looks=select_geometric(steps, looks),
        confirmed=confirmed,
    )


def read_confirmed(table: CurveTable, proxy: str, schedule: int, architectures: Sequence[str]) -> Floats:
    """Return the final scores on a compressed schedule, as in the table; NaN for architectures without such a one."""
    curves = [next(iter(table.find_compressed(name, proxy, schedule)), None) for name in architectures]
    return np.array([np.nan if curve is None or curve.cause is not None else curve.scores[-1] for curve in curves])


def select_geometric(steps: Sequence[int], looks: int) -> list[int]:
    """Select distinct checks, spaced about geometrically from 1 % of training, or the first check, to 98 %."""
    wanted = np.geomspace(max(steps[0], 0.01 * steps[-1]), 0.98 * steps[-1], looks)
    places = np.abs(np.array(steps)[None, :] - wanted[:, None]).argmin(axis=1)
    return sorted(set(places.tolist()))


def select_references(population: Population, n: int, way: str, random: np.random.Generator) -> list[int]:
    """Select the reference models of a study, followed by those that it may add."""
    order = random.permutation(population.reference.size).tolist()
    if way == "random":
        return order
    pool = order[:SPREAD_POOL]
    for fraction in cumulative_fractions(SPREAD_POOL, n)[:-1]:
        wanted = fraction * population.steps[-1]
        check = min(int(np.searchsorted(population.steps, wanted - 1e-9)), len(population.steps) - 1)
        count = removal_count(len(pool), 0, final=n)
        removed = set(remove_closest(population.scores[check, pool], None, count))
        pool = [model for place, model in enumerate(pool) if place not in removed]
    return pool


def make_plan(n: int, available: int, *, is_adaptive: bool) -> LookPlan:
    """Make the plan of a study of one proxy task with `n` reference models of those available."""
    most = max(n, min(MAXIMUM, available)) if is_adaptive else n
    return LookPlan(sizes=(*range(n, most, STEP), most))


class Draw:
    """Reference models of one study, with a cache of evidence that all criteria share."""

    def __init__(self, population: Population, order: Sequence[int], n: int, *, is_adaptive: bool) -> None:
        self.plan = make_plan(n, len(order), is_adaptive=is_adaptive)
        self.looks = len(population.looks)
        self._population = population
        self._order = list(order)
        self._known: dict[tuple[int, int], Evidence] = {}

    def evidence(self, look: int, models: int) -> Evidence:
        """Return the evidence of the first models up to a look."""
        if (look, models) not in self._known:
            chosen, looks = self._order[:models], self._population.looks[: look + 1]
            proxy = self._population.scores[np.ix_(looks, chosen)]
            fractions = self._population.fractions[: look + 1]
            self._known[look, models] = Evidence(self._population.reference[chosen], proxy, fractions, self.plan)
        return self._known[look, models]


def judge(draw: Draw, rule: Criterion) -> Outcome:
    """Apply a criterion look by look, as the controller does."""
    first, most = draw.plan.sizes[0], draw.plan.sizes[-1]
    models = first
    for look in range(draw.looks):
        while True:
            evidence = draw.evidence(look, models)
            verdict = rule.judge(evidence)
            if verdict.kind is VerdictKind.ACCEPTED:
                return Outcome(look, models - first, bound_selected_tau(evidence))
            more = count_models_to_add(verdict, models, step=STEP, maximum=most)
            if not more:
                break
            models += more
    return Outcome(None, models - first)


def summarize(population: Population, outcomes: Sequence[Outcome], target: float) -> dict[str, Any]:
    """Summarize the outcomes; `wrong_upper95` is the one-sided 95 % upper limit of `wrong` (Clopper and Pearson)."""
    oracle = population.oracle(target)
    accepted = [outcome.look for outcome in outcomes if outcome.look is not None]
    figures: dict[str, Any] = {"accepted": len(accepted) / len(outcomes)}
    at_acceptance = [population.taus[look] for look in accepted]
    stated = {**summarize_bounds(population, outcomes), **measure_below(at_acceptance, target)}
    if oracle is None:
        missing = dict.fromkeys(("wrong", "wrong_upper95", "stop_over_oracle", "references_added"))
        return {**figures, **missing, **stated}
    wrong = sum(population.taus[look] < target - MARGIN for look in accepted)
    upper = 1.0 if wrong == len(outcomes) else float(stats.beta.ppf(0.95, wrong + 1, len(outcomes) - wrong))
    stops = [population.fractions[look] / oracle for look in accepted]
    return {
        **figures,
        "wrong": wrong / len(outcomes),
        "wrong_upper95": upper,
        "stop_over_oracle": float(np.median(stops)) if stops else None,
        "references_added": float(np.mean([outcome.added for outcome in outcomes])),
        **stated,
    }


def summarize_bounds(population: Population, outcomes: Sequence[Outcome]) -> dict[str, float | None]:
    """Compute coverage and median of the bounds of accepted draws; None without a bound."""
    bounds = [(outcome.bound, population.taus[outcome.look]) for outcome in outcomes if outcome.look is not None]
    known = [(bound, tau) for bound, tau in bounds if bound is not None]
    return {
        "coverage": float(np.mean([bound <= tau for bound, tau in known])) if known else None,
        "median_bound": float(np.median([bound for bound, _ in known])) if known else None,
    }


def measure_below(taus: Sequence[float], target: float) -> dict[str, float | None]:
    """Measure the shares of accepted draws whose population tau is below the target, and below target - 0.10."""
    limits = {"below_target": target, "below_margin": target - MARGIN}
    return {name: float(np.mean([tau < limit for tau in taus])) if taus else None for name, limit in limits.items()}


def state_errors(population: Population, arguments: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """State the errors of the criteria that a study can choose, as a report does, for looks like the table's."""
    target, fractions = arguments.target, tuple(population.fractions.tolist())
    plan = make_plan(arguments.models, population.reference.size, is_adaptive=arguments.adaptive)
    alpha = GroupSequential(target=target).alpha
    stated = {
        "first_crossing": estimate_crossing_errors(fractions, arguments.models, target=target),
        "group_sequential": estimate_sequential_errors(fractions, plan, target=target, alpha=alpha),
    }
    return {name: [asdict(error) for error in errors] for name, errors in stated.items()}


def measure(population: Population, arguments: argparse.Namespace) -> dict[str, Any]:
    """Apply all criteria to the same draws."""
    rules = {name: make(arguments.target) for name, make in CRITERIA.items()}
    outcomes: dict[str, list[Outcome]] = {name: [] for name in rules}
    random = np.random.default_rng(arguments.seed)
    for _ in range(arguments.draws):
        order = select_references(population, arguments.models, arguments.references, random)
        draw = Draw(population, order, arguments.models, is_adaptive=arguments.adaptive)
        for name, rule in rules.items():
            outcomes[name].append(judge(draw, rule))
    found = {name: summarize(population, of_rule, arguments.target) for name, of_rule in outcomes.items()}
    stated = state_errors(population, arguments)
    return {"oracle": population.oracle(arguments.target), "rules": found, "stated": stated}


def format_rows(found: dict[str, Any]) -> Iterator[list[str]]:
    """Format the results as rows of a table."""
    for name, figures in found["rules"].items():
        yield [name, *("" if value is None else f"{value:.3g}" for value in figures.values())]


def add_table_options(parser: argparse.ArgumentParser, *, draws: int) -> None:
    """Add the options of benchmarks on a table of learning curves."""
    parser.add_argument("--table", required=True, help="CSV or Parquet file with one check per row (docs/replay.md)")
    parser.add_argument("--target", type=float, default=0.65)
    parser.add_argument("--draws", type=int, default=draws)
    parser.add_argument("--looks", type=int, default=16)
    parser.add_argument("--mode", choices=("max", "min"), default="max", help="which scores are better")
    parser.add_argument("--proxy", help="proxy task to judge (default: `full`, or the table's only one)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")


def parse_counts(text: str) -> list[int]:
    """Parse numbers of candidates that are separated by commas."""
    counts = [int(number) for number in text.split(",")]
    if min(counts) < 1:
        raise argparse.ArgumentTypeError(f"needs numbers of at least 1, got {text}: give 200,2000")
    return counts


def read_judged(arguments: argparse.Namespace, least: int) -> Population:
    """Read the table of the options, and check that proxy tasks can be judged on it.

    Args:
        arguments: Parsed options of `add_table_options`.
        least: Minimum number of complete curves.

    Raises:
        NasproxyError: An option is out of range, or the table cannot be read, or has too few complete curves.
    """
    check_target(arguments.target)
    check_error(arguments.target, GroupSequential().alpha)
    if min(arguments.draws, arguments.looks) < 1:
        raise ConfigError(f"--draws and --looks must be at least 1, got {arguments.draws} and {arguments.looks}")
    table = read_table(arguments.table)
    if arguments.proxy is not None and arguments.proxy not in table.check_steps:
        raise ConfigError(f"--proxy must be one of {', '.join(table.check_steps)}, got {arguments.proxy}")
    population = read_population(table, arguments.looks, arguments.proxy, Objective(mode=arguments.mode))
    if population.reference.size < least:
        raise DataError(
            f"{arguments.table} needs {least} architectures with complete curves, got {population.reference.size}: "
            f"give a table with more"
        )
    if not np.isfinite(population.taus).any():
        raise DataError(f"{arguments.table} needs scores that differ between architectures, got equal ones")
    return population


def _read_for_models(arguments: argparse.Namespace) -> Population:
    """Read the table, and check the number of reference models.

    Raises:
        NasproxyError: The table cannot be used, or has too few complete curves for so many models.
    """
    population = read_judged(arguments, MIN_PAIRS)
    needed = SPREAD_POOL if arguments.references == "spread" else arguments.models
    if not MIN_PAIRS <= arguments.models <= needed <= population.reference.size:
        raise ConfigError(
            f"--models must lie between {MIN_PAIRS} and the table's complete curves, {population.reference.size} "
            f"({SPREAD_POOL} at least for --references spread), got {arguments.models}: give fewer models, or a table "
            f"with more"
        )
    return population


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_table_options(parser, draws=500)
    parser.add_argument("--models", type=int, default=10, help="reference models of a study")
    parser.add_argument("--references", choices=("random", "spread"), default="random")
    parser.add_argument("--adaptive", action="store_true", help=f"add {STEP} models at a time, up to {MAXIMUM}")
    arguments = parser.parse_args()
    try:
        if arguments.adaptive and arguments.references == "spread":
            raise ConfigError("--adaptive adds random models, so it needs --references random")
        population = _read_for_models(arguments)
    except NasproxyError as error:
        parser.exit(2, f"{error}\n")
    found = measure(population, arguments)
    if arguments.references == "spread":
        print("The bound holds for random reference models only: nasproxy states none for models selected for spread.")
    shown = Table("criterion", *next(iter(found["rules"].values())), title=f"oracle at {found['oracle']} of training")
    for row in format_rows(found):
        shown.add_row(*row)
    Console(width=120).print(shown)
    if arguments.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
