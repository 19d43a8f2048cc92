"""Tables of learning curves as populations of architectures, and the options of benchmarks on them."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from nasproxy.errors import ConfigError, DataError
from nasproxy.execution.backends.replay.curve_table import CurveTable, TableTraining, read_table
from nasproxy.statistics.acceptance import check_error, check_target
from nasproxy.statistics.criteria.group_sequential import GroupSequential
from nasproxy.statistics.missing import Floats
from nasproxy.statistics.rank_correlation import kendall_tau
from nasproxy.trials.objective import Objective


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

    def confirmed_at(self, look: int) -> Floats | None:
        """Return the scores on the compressed schedule that ends at a look, shape (architectures,), None without."""
        return self.confirmed.get(self.steps[self.looks[look]])

    def confirmed_tau(self, look: int) -> float | None:
        """Compute the population tau of the trainings on the compressed schedule that ends at a look."""
        scores = self.confirmed_at(look)
        found = None if scores is None else kendall_tau(scores, self.reference)
        return None if found is None else found.tau

    def oracle(self, target: float) -> float | None:
        """Find the fraction of training from which the population tau stays at or above the target."""
        below = [place for place, tau in enumerate(self.taus) if not tau >= target]
        first = below[-1] + 1 if below else 0
        return None if first == len(self.looks) else float(self.fractions[first])


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
