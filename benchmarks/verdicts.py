"""Error rates of acceptance criteria on published learning curves: `python -m benchmarks.verdicts --table FILE`.

Each draw takes reference models from the table and applies each criterion at each check, as a study does. The
*population tau* at a check is that of all architectures of the table. A draw is **wrong** if the criterion accepts at a
check whose population tau is more than 0.10 below the target; shares are of all draws. The **oracle** is the first
check from which the population tau stays at or above the target; **stop** is the median ratio of the accepted check to
the oracle, over accepted draws. For a table without an oracle, no acceptance is correct. **Coverage** is the share of
accepted draws whose lower confidence bound after selection lies at or below the population tau at the accepted check;
**confirmed coverage** is the same for the bound of the confirmation runs, in a table with trainings on the compressed
schedule that ends at the accepted check, and the population tau of these trainings.
**Below** are the shares of accepted draws whose population tau at the accepted check is below the target, and more than
0.10 below it; **stated** are the probabilities of these that a report gives, under each prior of the true tau.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from benchmarks.criteria import CRITERIA
from benchmarks.population import Population, add_table_options, read_judged
from benchmarks.table_studies import (
    MAXIMUM,
    SPREAD_POOL,
    STEP,
    Draw,
    Outcome,
    choose_counts,
    judge,
    select_references,
)
from nasproxy.errors import ConfigError, NasproxyError
from nasproxy.statistics.acceptance import MARGIN, Criterion
from nasproxy.statistics.acceptance_error import estimate_crossing_errors, estimate_sequential_errors
from nasproxy.statistics.criteria.group_sequential import GroupSequential
from nasproxy.statistics.fisher import fisher_z
from nasproxy.statistics.rank_correlation import kendall_tau
from nasproxy.statistics.reference_count import FEWEST
from nasproxy.statistics.selection_bound import bound_selected_tau, measure_margin

MIN_PAIRS = 5
"""Minimum number of models for a rank correlation."""
AUTO = "auto"


@dataclass(frozen=True)
class BoundedOutcome:
    """Result of a criterion on one draw, with the lower confidence bounds of a report.

    Attributes:
        outcome: Result of the criterion.
        bound: Bound of the true tau after selection; None without acceptance, or for too few models.
        confirmed_bound: Bound of the true tau of the confirmation runs; None without such trainings in the table too.
    """

    outcome: Outcome
    bound: float | None = None
    confirmed_bound: float | None = None


def bound_outcome(draw: Draw, outcome: Outcome) -> BoundedOutcome:
    """Compute the bounds of an accepted draw."""
    if outcome.look is None:
        return BoundedOutcome(outcome)
    evidence = draw.evidence(outcome.look, outcome.models)
    return BoundedOutcome(outcome, bound_selected_tau(evidence), bound_confirmed(draw, outcome.look, outcome.models))


def bound_confirmed(draw: Draw, look: int, models: int) -> float | None:
    """Compute the bound of the confirmation runs of an accepted look, as a study does."""
    scores, chosen = draw.population.confirmed_at(look), draw.models(models)
    found = None if scores is None else kendall_tau(scores[chosen], draw.population.reference[chosen])
    if found is None:
        return None
    margin = measure_margin(draw.evidence(look, models).fractions, draw.plan)
    bound = margin.bound_tau(float(fisher_z(found.tau, found.n)), found.n)
    return None if bound is None else min(bound, found.tau)


def summarize(population: Population, judged: Sequence[BoundedOutcome], target: float) -> dict[str, Any]:
    """Summarize the outcomes; `wrong_upper95` is the one-sided 95 % upper limit of `wrong` (Clopper and Pearson)."""
    oracle, outcomes = population.oracle(target), [each.outcome for each in judged]
    accepted = [outcome.look for outcome in outcomes if outcome.look is not None]
    figures: dict[str, Any] = {"accepted": len(accepted) / len(outcomes)}
    at_acceptance = [population.taus[look] for look in accepted]
    stated = {**summarize_bounds(population, judged), **measure_below(at_acceptance, target)}
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


def summarize_bounds(population: Population, judged: Sequence[BoundedOutcome]) -> dict[str, float | None]:
    """Compute coverage and median of the bounds of accepted draws; None without a bound."""
    accepted = [(each, each.outcome.look) for each in judged if each.outcome.look is not None]
    confirmed = {look: population.confirmed_tau(look) for _, look in accepted}
    return {
        **_cover("", [(each.bound, population.taus[look]) for each, look in accepted]),
        **_cover("confirmed_", [(each.confirmed_bound, confirmed[look]) for each, look in accepted]),
    }


def _cover(prefix: str, bounds: Sequence[tuple[float | None, float | None]]) -> dict[str, float | None]:
    known = [(bound, tau) for bound, tau in bounds if bound is not None and tau is not None]
    return {
        f"{prefix}coverage": float(np.mean([bound <= tau for bound, tau in known])) if known else None,
        f"median_{prefix}bound": float(np.median([bound for bound, _ in known])) if known else None,
    }


def measure_below(taus: Sequence[float], target: float) -> dict[str, float | None]:
    """Measure the shares of accepted draws whose population tau is below the target, and below target - 0.10."""
    limits = {"below_target": target, "below_margin": target - MARGIN}
    return {name: float(np.mean([tau < limit for tau in taus])) if taus else None for name, limit in limits.items()}


def state_errors(population: Population, target: float, initial: int, maximum: int) -> dict[str, list[dict[str, Any]]]:
    """State the errors of the criteria that a study can choose, as a report does, for looks like the table's."""
    fractions, plan = tuple(population.fractions.tolist()), Draw(population, (), initial, maximum).plan
    stated = {
        "first_crossing": estimate_crossing_errors(fractions, initial, target=target),
        "group_sequential": estimate_sequential_errors(
            fractions, plan, target=target, alpha=GroupSequential(target=target).alpha
        ),
    }
    return {name: [asdict(error) for error in errors] for name, errors in stated.items()}


def take_draw(population: Population, arguments: argparse.Namespace, random: np.random.Generator) -> Draw:
    """Draw the reference models of a study, with the numbers of models that the options say."""
    models = FEWEST if arguments.models == AUTO else arguments.models
    order = select_references(population, models, arguments.references, random)
    if arguments.models == AUTO:
        rule = GroupSequential(target=arguments.target)
        return Draw(population, order, *choose_counts(population, order, rule, arguments.candidates))
    most = max(models, min(MAXIMUM, len(order))) if arguments.adaptive else models
    return Draw(population, order, models, most)


def measure(population: Population, arguments: argparse.Namespace) -> dict[str, Any]:
    """Apply all criteria to the same draws."""
    rules: dict[str, Criterion] = {name: make(arguments.target) for name, make in CRITERIA.items()}
    candidates = arguments.candidates if arguments.models == AUTO else None
    judged: dict[str, list[BoundedOutcome]] = {name: [] for name in rules}
    random, plans = np.random.default_rng(arguments.seed), Counter[tuple[int, int]]()
    for _ in range(arguments.draws):
        draw = take_draw(population, arguments, random)
        plans[draw.plan.sizes[0], draw.plan.sizes[-1]] += 1
        for name, rule in rules.items():
            judged[name].append(bound_outcome(draw, judge(draw, rule, candidates)))
    found = {name: summarize(population, of_rule, arguments.target) for name, of_rule in judged.items()}
    stated = state_errors(population, arguments.target, *plans.most_common(1)[0][0])
    return {"oracle": population.oracle(arguments.target), "rules": found, "stated": stated}


def parse_models(text: str) -> int | str:
    """Parse a number of reference models, or `auto`."""
    if text == AUTO:
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"needs a number such as 10, or {AUTO}, got {text}") from None


def format_rows(found: dict[str, Any]) -> Iterator[list[str]]:
    """Format the results as rows of a table."""
    for name, figures in found["rules"].items():
        yield [name, *("" if value is None else f"{value:.3g}" for value in figures.values())]


def _read_for_models(arguments: argparse.Namespace) -> Population:
    """Read the table, and check the number of reference models.

    Raises:
        NasproxyError: The table cannot be used, or has too few complete curves for so many models.
    """
    if arguments.models == AUTO:
        if arguments.adaptive or arguments.references == "spread":
            raise ConfigError("--models auto chooses how many random models are added: leave out --adaptive and spread")
        return read_judged(arguments, FEWEST)
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
    parser.add_argument("--models", type=parse_models, default=10, help="reference models of a study, or auto")
    parser.add_argument("--candidates", type=int, default=2000, help="models of the search, which decide on auto")
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
