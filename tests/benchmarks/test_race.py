"""Cost of a race of proxy tasks compared with sequential search, on tables in virtual time."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.race import Grid, SearchResult
from helpers import cli
from nasproxy.execution.backends.replay.curve_table import CurveTable, read_table
from nasproxy.stages.proxy_search.settings import ProxySearchSettings
from nasproxy.statistics.criteria.first_crossing import FirstCrossing
from nasproxy.testing import curves

CHECKS, MODELS = 40, 10
GROWTH = ProxySearchSettings.rung_growth
KINDS = {"slow": "steady", "fast": "steady", "late": "crossing", "never": "hopeless"}
COSTS = {"slow": 0.8, "fast": 0.11, "late": 0.37, "never": 0.23}
"""Step costs of the proxy tasks, all different, so that results do not depend on the resolution of ties."""
ORDERS = list(itertools.permutations(KINDS))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("race") / "curves.csv"
    noise = curves.Noise(early=3.0, late=0.1)
    curves.write_table(
        path, curves.generate_rows(architectures=60, checks=CHECKS, proxies=KINDS, costs=COSTS, noise=noise)
    )
    return path


@pytest.fixture(scope="module")
def table(path: Path) -> CurveTable:
    return read_table(path)


def grid(table: CurveTable, draw: int = 0, slots: int | None = None) -> Grid:
    models = table.architectures(["full"])[MODELS * draw : MODELS * (draw + 1)]
    return Grid(table, models, FirstCrossing(target=0.8), slots)


@pytest.mark.parametrize("slots", [None, 1, 3])
def test_the_order_of_the_grid_changes_neither_the_winner_nor_the_cost(table: CurveTable, slots: int | None) -> None:
    found = [grid(table, slots=slots).search(order, policy="race") for order in ORDERS[::5]]
    assert found[0].winner is not None
    assert len(set(found)) == 1, "steps agree exactly, since no two tasks tie"


@pytest.mark.parametrize("slots", [None, 1, 3])
@pytest.mark.parametrize("draw", range(5))
def test_a_race_costs_at_most_one_rung_more_than_the_best_order(
    table: CurveTable, draw: int, slots: int | None
) -> None:
    raced = grid(table, draw, slots).search(list(KINDS), policy="race")
    assert raced.winner is not None
    best_first = [raced.winner, *(name for name in KINDS if name != raced.winner)]
    best = grid(table, draw, slots).search(best_first, policy="sequential")
    assert (best.winner, best.step) == (raced.winner, raced.step)
    assert raced.trained_seconds <= GROWTH * best.trained_seconds


@pytest.mark.parametrize("slots", [None, 3])
def test_a_race_costs_clearly_less_than_the_mean_order(table: CurveTable, slots: int | None) -> None:
    raced = grid(table, slots=slots).search(list(KINDS), policy="race")
    others = [grid(table, slots=slots).search(order, policy="sequential") for order in ORDERS[::5]]
    mean = sum(one.trained_seconds for one in others) / len(others)
    assert raced.trained_seconds <= 0.8 * mean


@pytest.mark.parametrize("slots", [None, 3])
def test_no_model_trains_beyond_the_rung_of_the_judged_check(table: CurveTable, slots: int | None) -> None:
    raced = grid(table, slots=slots).search(["slow"], policy="race")
    assert raced.step is not None
    assert raced.trained_steps <= MODELS * (GROWTH * raced.step + 1), "small models do not run ahead of the slowest"


def test_a_later_task_is_trained_only_while_it_can_be_cheaper(table: CurveTable) -> None:
    first = grid(table).search(["fast"], policy="sequential")
    both = grid(table).search(["fast", "never"], policy="sequential")
    assert (both.winner, both.seconds) == (first.winner, first.seconds)
    assert first.trained_seconds < both.trained_seconds <= 2 * first.trained_seconds


def test_verdicts_are_the_same_if_step_or_cost_agree() -> None:
    one = SearchResult("a", 10, 100.0, 0.0, 0)
    assert one.is_same_verdict(SearchResult("b", 20, 104.0, 0.0, 0), 0.05)
    assert not one.is_same_verdict(SearchResult("b", 20, 110.0, 0.0, 0), 0.05)
    assert not one.is_same_verdict(SearchResult(None, None, None, 0.0, 0), 0.05)


def test_the_last_line_is_json_with_every_policy(path: Path) -> None:
    arguments = ["--draws", "1", "--orders", "2", "--rule", "first_crossing", "--proxies", "fast,never", "--json"]
    command = [sys.executable, "-m", "benchmarks.race", "--table", str(path), *arguments]
    done = subprocess.run(command, cwd=cli.ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert list(found["slots"]) == ["all", "2"]
    for figures in found["slots"].values():
        assert list(figures["ways"]) == ["race", "best_order", "mean_order", "worst_order", "no_early_stop"]
        assert figures["ways"]["best_order"]["ratio"] == 1
