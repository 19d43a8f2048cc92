"""The benchmark of the number of references, compared with a direct computation of its definitions."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.population import Population
from benchmarks.references import price, summarize
from benchmarks.table_studies import Draw, Outcome, choose_counts, judge
from helpers import cli
from nasproxy.statistics.criteria.group_sequential import GroupSequential


def make_population(noise: float, models: int = 80) -> Population:
    random = np.random.default_rng(0)
    reference = random.standard_normal(models)
    steps = [5, 10, 20, 40, 80, 100]
    rows = [reference + noise * (1 - step / 100) * random.standard_normal(models) for step in steps]
    return Population(np.array(rows), reference, steps, list(range(len(steps))))


def test_costs_are_references_their_proxy_trainings_and_the_search() -> None:
    population = make_population(0.5)
    assert price(population, Outcome(1, 20, 10, 30), 200) == pytest.approx(20 * 1.1 + 200 * 0.1)
    assert price(population, Outcome(None, 20, 10, 30), 200) == pytest.approx(20 * 2 + 200)


def test_shares_and_means_are_over_all_draws() -> None:
    population = make_population(0.5)
    oracle = population.oracle(0.65)
    assert oracle is not None
    found = summarize(population, [Outcome(1, 20, 10, 30), Outcome(None, 30, 10, 30)], 200, 0.65)
    costs = (price(population, Outcome(1, 20, 10, 30), 200) + price(population, Outcome(None, 30, 10, 30), 200)) / 2
    assert found["cost"] == pytest.approx(costs)
    assert found["cost_over_oracle"] == pytest.approx(costs / (200 * oracle))
    assert (found["none_accepted"], found["models"], found["initial"]) == (0.5, 25, 10)


def test_models_are_added_only_while_they_cost_less_than_longer_training() -> None:
    population, rule = make_population(1.5), GroupSequential()
    order = np.random.default_rng(1).permutation(80).tolist()
    worth, not_worth = (judge(Draw(population, order, 10, 40), rule, candidates) for candidates in (10_000, 1))
    assert not_worth.models == 10
    assert worth.models >= 10


def test_the_choice_depends_on_the_first_ten_models_only() -> None:
    population, rule = make_population(0.5), GroupSequential()
    order = list(range(80))
    assert choose_counts(population, order, rule, 200) == choose_counts(
        population, [*order[:10], *order[:9:-1]], rule, 200
    )


def test_the_last_line_is_json_with_every_way_and_number_of_candidates(tmp_path: Path) -> None:
    table = tmp_path / "curves.csv"
    make = [sys.executable, "-m", "nasproxy.testing.curves", str(table), "--architectures", "60", "--checks", "8"]
    subprocess.run(make, cwd=cli.ROOT, check=True, timeout=120)
    options = ["--table", str(table), "--candidates", "50,200", "--draws", "2", "--looks", "4", "--json"]
    command = [sys.executable, "-m", "benchmarks.references", *options]
    done = subprocess.run(command, cwd=cli.ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert list(found["candidates"]) == ["50", "200"]
    assert list(found["candidates"]["50"]) == ["10 -> 30", "30 -> 60", "60 -> 100", "auto"]
    refused = subprocess.run([*command[:-1], "--draws", "0"], cwd=cli.ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "--draws and --looks must be at least 1" in refused.stderr
