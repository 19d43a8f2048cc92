"""Total cost of study and search by the number of references: `python -m benchmarks.references --table FILE`.

Each draw takes reference models from the table, judges the table's curves as a study does, and searches with what it
accepted. Costs are in full trainings: a study costs its references and their proxy trainings up to the accepted check,
the search the number of candidates times the accepted fraction of training; if nothing is accepted, all candidates are
trained fully. **Cost** is the mean total cost relative to that of the oracle, which knows the first check from which
the population tau stays at or above the target, and needs no study. A draw is **wrong** if the population tau at the
accepted check is more than 0.10 below the target. `auto` chooses the numbers of references from the number of
candidates and the curves of the first ten references; the other rows are fixed numbers, initial -> maximum.
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.population import Population, add_table_options, parse_counts, read_judged
from benchmarks.table_studies import Draw, Outcome, choose_counts, judge
from nasproxy.errors import NasproxyError
from nasproxy.statistics.acceptance import (
    MARGIN,
)
from nasproxy.statistics.criteria.group_sequential import GroupSequential
from nasproxy.statistics.reference_count import FEWEST

FIXED = ((10, 30), (30, 60), (60, 100))
AUTO = "auto"


def price(population: Population, study: Outcome, candidates: int) -> float:
    """Compute the cost of a study and its search, in full trainings."""
    fraction = float(population.fractions[-1 if study.look is None else study.look])
    return study.models * (1 + fraction) + candidates * (1.0 if study.look is None else fraction)


def summarize(population: Population, studies: Sequence[Outcome], candidates: int, target: float) -> dict[str, Any]:
    """Summarize the draws of one way to choose the numbers of references."""
    oracle = population.oracle(target)
    costs = np.array([price(population, study, candidates) for study in studies])
    accepted = [study.look for study in studies if study.look is not None]
    wrong = sum(population.taus[look] < target - MARGIN for look in accepted)
    (initial, maximum), _ = Counter((study.initial, study.maximum) for study in studies).most_common(1)[0]
    return {
        "cost_over_oracle": None if oracle is None else float(costs.mean()) / (candidates * oracle),
        "cost": float(costs.mean()),
        "wrong": wrong / len(studies),
        "none_accepted": 1 - len(accepted) / len(studies),
        "models": float(np.mean([study.models for study in studies])),
        "initial": initial,
        "maximum": maximum,
    }


def measure(population: Population, arguments: argparse.Namespace) -> dict[str, Any]:
    """Apply all ways to choose the numbers to the same draws, for each number of candidates."""
    rule = GroupSequential(target=arguments.target)
    random = np.random.default_rng(arguments.seed)
    orders = [random.permutation(population.reference.size).tolist() for _ in range(arguments.draws)]
    found: dict[str, Any] = {}
    for candidates in arguments.candidates:
        studies: dict[str, list[Outcome]] = {}
        for order in orders:
            ways = {f"{low} -> {high}": (low, high) for low, high in FIXED if low <= len(order)}
            ways[AUTO] = choose_counts(population, order, rule, candidates)
            for name, counts in ways.items():
                studies.setdefault(name, []).append(
                    judge(Draw(population, order, counts[0], min(counts[1], len(order))), rule, candidates)
                )
        found[str(candidates)] = {
            name: summarize(population, of_way, candidates, arguments.target) for name, of_way in studies.items()
        }
    return {"oracle": population.oracle(arguments.target), "candidates": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_table_options(parser, draws=200)
    parser.add_argument("--candidates", type=parse_counts, default="200,2000", help="models of the search")
    arguments = parser.parse_args()
    try:
        population = read_judged(arguments, FEWEST)
    except NasproxyError as error:
        parser.exit(2, f"{error}\n")
    found = measure(population, arguments)
    columns = ("cost_over_oracle", "cost", "wrong", "none_accepted", "models", "initial", "maximum")
    shown = Table("candidates", "references", *columns, title=f"oracle at {found['oracle']} of training")
    for candidates, ways in found["candidates"].items():
        for name, figures in ways.items():
            values = ("" if figures[each] is None else f"{figures[each]:.3g}" for each in columns)
            shown.add_row(candidates, name, *values)
    Console(width=140).print(shown)
    if arguments.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
