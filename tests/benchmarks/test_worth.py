"""The benchmark of what searches cost and find, compared with a direct computation of its definitions."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.verdicts import Outcome, Population
from benchmarks.worth import Benchmark, Searches, cost_study, use_outcome
from nasproxy.statistics.strategies import train_all
from nasproxy.testing import curves

STRATEGIES = {"default", "first_crossing", "random", "halving", "fixed_fraction", "zero_cost", "ladder", "recommended"}
FIGURES = ["cost", "cost_over_oracle", "none_accepted", "wrong", "regret", "regret_99", "inside"]


def make_population(noise: float, models: int = 120) -> Population:
    """Make curves whose noise falls to nothing at the end of training."""
    random = np.random.default_rng(0)
    reference, steps = random.standard_normal(models), [5, 10, 20, 40, 80, 100]
    rows = [reference + noise * (1 - step / 100) * random.standard_normal(models) for step in steps]
    return Population(np.array(rows), reference, steps, list(range(len(steps))), seconds=random.random(models))


def test_candidates_are_other_models_than_the_references() -> None:
    searches = Searches(make_population(0.5), range(120), 200)
    assert searches.pool.finals.size == 60
    assert set(searches.pool.finals).isdisjoint(searches.take(range(30)).finals)


def test_training_all_candidates_has_no_regret_and_costs_each_of_them() -> None:
    searches = Searches(make_population(0.5), range(120), 200)
    cost, share = searches.run(train_all(), 200)
    assert (cost, share) == (pytest.approx(200), searches.best_share)


def test_a_study_costs_its_seeds_its_references_and_their_proxy_trainings() -> None:
    searches = Searches(make_population(0.5), range(120), 200)
    assert cost_study(searches, Outcome(1, 10), 20) == pytest.approx(5 + 20 * 1.1)
    assert cost_study(searches, Outcome(None, 0), 10) == pytest.approx(5 + 10 * 2)


def test_nothing_accepted_is_followed_by_full_training() -> None:
    searches = Searches(make_population(0.5), range(120), 200)
    assert use_outcome(searches, Outcome(None, 0)).rungs == ()
    assert use_outcome(searches, Outcome(1, 0)).rungs[0].place.step == 1


def test_all_strategies_are_summarized_over_the_same_draws() -> None:
    benchmark = Benchmark(make_population(0.5), 200, 0.65, 0.25)
    random = np.random.default_rng(1)
    for seed in range(3):
        benchmark.add(random.permutation(120).tolist(), seed)
    found = benchmark.summarize()
    assert set(found) >= STRATEGIES
    assert {len(each.costs) for name, each in benchmark.figures.items() if name in STRATEGIES} == {3}
    assert all(list(figures) == FIGURES for figures in found.values())
    assert sum(benchmark.recommended.values()) == 3


def run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.worth", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_last_line_is_one_json_object(tmp_path: Path) -> None:
    curves.write_table(tmp_path / "curves.csv", curves.generate_rows(architectures=120, checks=12))
    done = run("--table", str(tmp_path / "curves.csv"), "--candidates", "50", "--draws", "2", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found["candidates"]["50"]["strategies"]) >= STRATEGIES


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ([], "needs 60 architectures with complete curves, got 20"),
        (["--proxy", "small"], "--proxy must be one of full, got small"),
        (["--max-risk", "0"], "ladder.max_risk must lie in (0, 0.5], got 0"),
        (["--draws", "0"], "--draws and --looks must be at least 1"),
    ],
)
def test_what_cannot_be_used_is_answered_in_a_sentence(options: list[str], answer: str, tmp_path: Path) -> None:
    curves.write_table(tmp_path / "curves.csv", curves.generate_rows(architectures=20, checks=12))
    done = run("--table", str(tmp_path / "curves.csv"), *options)
    assert done.returncode == 2
    assert answer in done.stderr
    assert "Traceback" not in done.stderr
