"""Savings of racing proxy tasks: `python -m benchmarks.race --table FILE --proxies a,b,c`.

Each draw takes reference models from the table and runs the proxy search, with its own controller on the replay
backend in virtual time, under several policies: as a race; sequentially with early stopping of tasks that can no longer
be cheaper, in the best and in other orders of the grid; and sequentially without early stopping. The cost is the
training time of all trials up to their last check. The best order has the winner first. **ratio** is a policy's mean
cost relative to that of the best order; **same** is the share of draws with the verdict of the race: the same proxy
task accepted at the same step, or one whose cost differs by at most `proxy_search.time_tolerance`, or none.
"""

import argparse
import itertools
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.criteria import CRITERIA
from nasproxy.errors import NasproxyError
from nasproxy.execution.backends.backend import BackendContext
from nasproxy.execution.backends.replay.backend import ReplayBackend
from nasproxy.execution.backends.replay.curve_table import CurveTable, TableTraining, read_table
from nasproxy.execution.backends.replay.replayed_table import CHOICE, ReplayedTable
from nasproxy.execution.work_order import OrderTemplate
from nasproxy.stages import runner
from nasproxy.stages.proxy_search.settings import ProxySearchSettings
from nasproxy.stages.proxy_search.stage import ProxySearchStage
from nasproxy.stages.proxy_search.state import ProxySearchState, find_best_task
from nasproxy.stages.references.candidate_pool import CandidatePool
from nasproxy.stages.references.state import Reference
from nasproxy.statistics.acceptance import Criterion
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.storage.trial_stores import MemoryTrialStore
from nasproxy.tracking.tracker import NullTracker
from nasproxy.trials.objective import Objective
from nasproxy.trials.spec import Recipe

WAYS = ("race", "best_order", "mean_order", "worst_order", "no_early_stop")
LOOKS_PER_CHECK = 2
"""Polls of the controller per median time between two checks of a trial."""
JUDGED_BY = "the benchmark"


@dataclass(frozen=True)
class SearchResult:
    """Result of a proxy search.

    Attributes:
        winner: Accepted proxy task; None if none was accepted.
        step: Step at which it was accepted.
        seconds: Rated training time up to this step.
        trained_seconds: Training time of all trials.
        trained_steps: Training steps of all trials.
    """

    winner: str | None
    step: int | None
    seconds: float | None
    trained_seconds: float
    trained_steps: int

    def is_same_verdict(self, other: "SearchResult", tolerance: float) -> bool:
        """Return whether two searches accepted the same proxy task, or two of about equal cost."""
        if self.seconds is None or other.seconds is None:
            return self.winner == other.winner
        is_same = (self.winner, self.step) == (other.winner, other.step)
        return is_same or abs(self.seconds - other.seconds) <= tolerance * max(self.seconds, other.seconds)


@dataclass(frozen=True)
class Grid:
    """Proxy tasks of a table and the reference models that they are judged on.

    Attributes:
        table: Learning curves of full training, `full`, and of the proxy tasks.
        models: Architectures of the reference models.
        criterion: Acceptance criterion of proxy tasks.
        slots: Number of concurrent trials; None for no limit.
        objective: The metric and its direction.
    """

    table: CurveTable
    models: Sequence[str]
    criterion: Criterion
    slots: int | None = None
    objective: Objective = field(default_factory=Objective)

    def search(self, proxies: Sequence[str], **settings: Any) -> SearchResult:
        """Run the proxy search on proxy tasks in the given order."""
        store = MemoryTrialStore()
        backend = ReplayBackend(
            context=BackendContext(store), curves=self.table, proxies=list(proxies), slots=self.slots
        )
        with tempfile.TemporaryDirectory() as folder:
            stage = self._make_stage(backend.replayed, ProxySearchSettings(**settings), Path(folder))
            runtime = runner.Runtime(
                store,
                backend,
                NullTracker(study=Path(folder)),
                OrderTemplate(Path(folder), max_attempts=1),
                poll_seconds=self._compute_poll_seconds(proxies),
            )
            state = runner.run_stage(stage, runtime)
        return _make_result(state, store)

    def _make_stage(self, replayed: ReplayedTable, settings: ProxySearchSettings, folder: Path) -> ProxySearchStage:
        steps = replayed.steps
        references = [self._make_reference(number, name, replayed.reference) for number, name in enumerate(self.models)]
        return ProxySearchStage(
            settings,
            tasks={proxy: replayed.make_proxy_task(proxy) for proxy in replayed.proxies},
            criterion=self.criterion,
            judged_by=JUDGED_BY,
            references=references,
            candidate_pool=CandidatePool([], len(references), step=5, maximum=0, search_trials=1, full_seconds=1.0),
            recipe=Recipe(
                {},
                replayed.make_trainer(),
                {},
                self.table.fingerprint,
                steps[-1],
                steps[-1],
                check_at=steps,
                objective=self.objective,
            ),
            seed=1,
            study=FolderStudyStore(folder, durable=False),
        )

    def _make_reference(self, number: int, name: str, proxy: str) -> Reference:
        curve = self.table.curves[TableTraining(name, proxy, self.table.seeds[name, proxy][0])]
        last = curve.checks[-1]
        return Reference(number, {CHOICE: name}, f"{name} fully", last.score, last.train_seconds)

    def _compute_poll_seconds(self, proxies: Sequence[str]) -> float:
        keys = [(name, proxy) for name in self.models for proxy in proxies]
        curves = [self.table.curves[TableTraining(*key, self.table.seeds[key][0])] for key in keys]
        return median(curve.end_seconds / len(curve.checks) for curve in curves if curve.checks) / LOOKS_PER_CHECK


def _make_result(state: ProxySearchState, store: MemoryTrialStore) -> SearchResult:
    best = find_best_task(state.tasks, JUDGED_BY, time_tolerance=ProxySearchSettings.time_tolerance)
    last = [record.checks[-1] for key in store.keys() if (record := store.read(key)).checks]
    return SearchResult(
        winner=None if best is None else best.name,
        step=None if best is None else best.final_step,
        seconds=None if best is None else best.final_rated_seconds,
        trained_seconds=sum(check.train_seconds for check in last),
        trained_steps=sum(check.step for check in last),
    )


def compare(grid: Grid, proxies: Sequence[str], orders: Sequence[Sequence[str]]) -> dict[str, list[SearchResult]]:
    """Run the searches of one draw under all policies, with a search for each order."""
    raced = grid.search(proxies, policy="race")
    first = [raced.winner] if raced.winner else []
    best = [*first, *(proxy for proxy in proxies if proxy not in first)]
    tried = [grid.search(order, policy="sequential") for order in orders]
    found = [grid.search(best, policy="sequential"), *tried]
    return {
        "race": [raced],
        "best_order": [min(found, key=lambda one: one.trained_seconds)],
        "mean_order": tried,
        "worst_order": [max(found, key=lambda one: one.trained_seconds)],
        "no_early_stop": [grid.search(proxies, policy="sequential", early_stop_if_not_best=False)],
    }


def list_candidates(table: CurveTable, proxies: Sequence[str]) -> list[str]:
    """List the architectures with curves under all proxy tasks and a successful full training."""
    full = {t.architecture for t, curve in table.curves.items() if t.proxy == "full" and curve.cause is None}
    return [name for name in table.architectures(["full", *proxies]) if name in full]


def list_orders(proxies: Sequence[str], count: int, random: np.random.Generator) -> list[tuple[str, ...]]:
    """List all orders of a grid, or `count` random ones if there are more."""
    whole = list(itertools.islice(itertools.permutations(proxies), count + 1))
    if len(whole) <= count:
        return whole
    return [tuple(random.permutation(list(proxies)).tolist()) for _ in range(count)]


def summarize(draws: Sequence[dict[str, list[SearchResult]]]) -> dict[str, Any]:
    """Summarize the cost of each policy over the draws that accepted a proxy task, and the agreement over all."""
    tolerance = ProxySearchSettings.time_tolerance
    accepted = [draw for draw in draws if draw["race"][0].winner is not None]
    figures: dict[str, Any] = {"accepted": len(accepted) / len(draws), "ways": {}}
    for way in WAYS:
        costs = [_average_cost(draw[way]) for draw in accepted]
        bests = [_average_cost(draw["best_order"]) for draw in accepted]
        ratios = [cost / best for cost, best in zip(costs, bests, strict=True)]
        same = [one.is_same_verdict(draw["race"][0], tolerance) for draw in draws for one in draw[way]]
        figures["ways"][way] = {
            "trained_seconds": float(np.mean(costs)) if costs else None,
            "ratio": float(np.sum(costs) / np.sum(bests)) if costs else None,
            "ratio_largest": max(ratios, default=None),
            "same": float(np.mean(same)),
        }
    return figures


def _average_cost(found: Sequence[SearchResult]) -> float:
    return float(np.mean([one.trained_seconds for one in found]))


def measure(table: CurveTable, proxies: Sequence[str], given: argparse.Namespace) -> dict[str, Any]:
    """Run all draws with unlimited slots and with few."""
    random = np.random.default_rng(given.seed)
    names = list_candidates(table, proxies)
    drawn = [random.choice(names, given.models, replace=False).tolist() for _ in range(given.draws)]
    orders = list_orders(proxies, given.orders, random)
    found = {}
    for slots in (None, given.slots):
        draws = []
        for models in drawn:
            grid = Grid(table, models, CRITERIA[given.rule](given.target), slots, Objective(mode=given.mode))
            draws.append(compare(grid, proxies, orders))
        found["all" if slots is None else str(slots)] = summarize(draws)
    return {**{k: v for k, v in vars(given).items() if k != "json"}, "architectures": len(names), "slots": found}


def format_rows(found: dict[str, Any]) -> Iterator[list[str]]:
    """Format the results as rows of a table."""
    for slots, figures in found["slots"].items():
        for way, values in figures["ways"].items():
            shown = ("" if value is None else f"{value:.3g}" for value in values.values())
            yield [slots, f"{figures['accepted']:.0%}", way, *shown]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", required=True, help="CSV or Parquet file with several proxy tasks (docs/replay.md)")
    parser.add_argument("--proxies", help="proxy tasks, separated by commas (default: all but `full`)")
    parser.add_argument("--mode", choices=("max", "min"), default="max", help="which scores are better")
    parser.add_argument("--rule", choices=CRITERIA, default="group_sequential")
    parser.add_argument("--target", type=float, default=0.65)
    parser.add_argument("--models", type=int, default=10, help="reference models of a study")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--orders", type=int, default=24, help="maximum number of orders of the grid to try")
    parser.add_argument("--slots", type=int, default=2, help="number of slots to compare with unlimited slots")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = parser.parse_args()
    try:
        table = read_table(given.table)
    except NasproxyError as error:
        parser.exit(2, f"{error}\n")
    proxies = given.proxies.split(",") if given.proxies else [name for name in table.check_steps if name != "full"]
    unknown = [proxy for proxy in ("full", *proxies) if proxy not in table.check_steps]
    if unknown or not proxies:
        parser.error(
            f"--table must contain full training, `full`, and the proxy tasks, got {', '.join(table.check_steps)}"
        )
    available = len(list_candidates(table, proxies))
    if not 5 <= given.models <= available or min(given.draws, given.orders, given.slots) < 1:
        parser.error(f"--models must lie between 5 and {available}, --draws, --orders and --slots be at least 1")
    found = measure(table, proxies, given)
    shown = Table("slots", "accepted", "policy", "seconds", "ratio", "largest ratio", "same", title=f"{given.table}")
    for row in format_rows(found):
        shown.add_row(*row)
    Console(width=120).print(shown)
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
