"""The benchmark of what searches cost and find, compared with a direct computation of its definitions."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.population import Population
from benchmarks.shares import design_shares
from benchmarks.table_studies import Outcome
from benchmarks.worth import RISKS, Benchmark, Searches, cost_study, measure_attenuation
from nasproxy.statistics.strategies import FULL_TRAINING, BestShare, Place, train_all
from nasproxy.testing import curves

STRATEGIES = {"default", "first_crossing", "random", "halving", "fixed_fraction", "zero_cost", "ladder", "recommended"}
FIGURES = ["cost", "regret", "regret_99", "cost_over_oracle", "none_accepted", "wrong", "inside"]


def make_population(noise: float, models: int = 120) -> Population:
    """Make curves whose noise falls to nothing at the end of training."""
    random = np.random.default_rng(0)
    reference, steps = random.standard_normal(models), [5, 10, 20, 40, 80, 100]
    rows = [reference + noise * (1 - step / 100) * random.standard_normal(models) for step in steps]
    return Population(np.array(rows), reference, steps, list(range(len(steps))), seconds=random.random(models))


def make_study(look: int | None, models: int) -> Outcome:
    return Outcome(look, models, models, models)


def test_candidates_are_other_models_than_those_of_the_study() -> None:
    searches = Searches(make_population(0.5), range(120), 200)
    assert searches.pool.finals.size == 60
    assert set(searches.pool.finals).isdisjoint(searches.take(searches.for_study).finals)


def test_training_all_candidates_costs_each_of_them_and_finds_the_best() -> None:
    searches = Searches(make_population(0.5), range(120), 200)
    cost, share = searches.run(train_all(), 200)
    assert (cost, share) == (pytest.approx(200), searches.best_share)


def test_a_study_costs_its_seeds_its_references_and_their_proxy_trainings() -> None:
    population = make_population(0.5)
    assert cost_study(population, make_study(1, 20)) == pytest.approx(4 + 20 * 1.1)
    assert cost_study(population, make_study(None, 10)) == pytest.approx(4 + 10 * 2)


def test_the_best_of_a_proxy_task_start_anew() -> None:
    searches = Searches(make_population(0.0), range(120), 60)
    cost, _ = searches.run(searches.use_accepted(make_study(1, 20)), 60)
    assert cost == pytest.approx(60 * 0.1 + 10)


def test_nothing_accepted_is_followed_by_full_training() -> None:
    searches = Searches(make_population(0.5), range(120), 200)
    assert searches.use_accepted(make_study(None, 10)).rungs == ()


def test_only_a_selected_correlation_is_attenuated() -> None:
    population = make_population(2.0)
    assert measure_attenuation(population, make_study(None, 10), range(10)) == 1
    assert 0 < measure_attenuation(population, make_study(3, 20), range(20)) < 1


def test_the_ladder_of_shares_keeps_what_the_best_reference_models_needed() -> None:
    finals = np.arange(9.0)
    early = np.array([0.0, 1, 2, 3, 4, 5, 8, 6, 7])  # the third best model ranks first early, the second best third
    place = Place(FULL_TRAINING, 1)
    (rung,) = design_shares({place: early}, {place: 0.1}, finals, 2).rungs
    assert rung.place == place
    assert rung.rule == BestShare((1 + 3) / 10)


def test_all_strategies_are_summarized_over_the_same_draws() -> None:
    benchmark = Benchmark(make_population(0.5), 200, 0.65, 0.25)
    random = np.random.default_rng(1)
    for seed in range(3):
        benchmark.add(random.permutation(120).tolist(), seed)
    found = benchmark.summarize()
    strategies, equal = found["strategies"], found["equal_cost"]
    assert set(strategies) >= STRATEGIES
    assert {len(each.costs) for name, each in benchmark.figures.items() if name in STRATEGIES} == {3}
    assert all(list(figures) == FIGURES for figures in strategies.values())
    assert sum(found["recommended"].values()) == 3
    assert set(found["frontier"]) == {*(f"{risk:g}" for risk in RISKS), "shares"}
    assert found["frontier"]["0.25"]["cost"] == strategies["ladder"]["cost"]
    assert equal["excess"] == pytest.approx(strategies["recommended"]["regret"] - min(equal["regrets"].values()))
    assert equal["low"] <= equal["excess"] <= equal["high"]


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


def test_a_table_without_early_checks_is_answered_in_a_sentence(tmp_path: Path) -> None:
    curves.write_table(tmp_path / "curves.csv", curves.generate_rows(architectures=70, checks=1))
    done = run("--table", str(tmp_path / "curves.csv"), "--draws", "1")
    assert done.returncode == 2
    assert "needs checks before the end of training" in done.stderr
    assert "Traceback" not in done.stderr
