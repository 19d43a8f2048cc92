"""Synthetic tables with compressed schedules."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.population import read_population
from helpers import cli
from nasproxy.execution.backends.replay.curve_table import read_table
from nasproxy.testing import curves
from nasproxy.trials.objective import Objective


def test_a_compressed_schedule_ranks_better_than_a_truncated_training(tmp_path: Path) -> None:
    quiet = curves.Noise(early=1.0, late=0.02, seed=0.02)
    rows = curves.generate_rows(architectures=60, checks=12, noise=quiet, schedules=(3, 6))
    curves.write_table(tmp_path / "curves.csv", rows)
    table = read_table(tmp_path / "curves.csv")
    assert table.schedules == {"full": (3, 6)}
    population = read_population(table, 16, None, Objective())
    for step, confirmed in population.confirmed.items():
        truncated = population.scores[population.steps.index(step)]
        taus = [stats.kendalltau(scores, population.reference).statistic for scores in (truncated, confirmed)]
        assert taus[0] < taus[1]
        assert np.mean(truncated) < np.mean(confirmed) < np.mean(population.reference)


def test_schedules_change_no_whole_training_of_full_and_add_a_column(tmp_path: Path) -> None:
    plain = list(curves.generate_rows(architectures=5, checks=4))
    scheduled = list(curves.generate_rows(architectures=5, checks=4, schedules=(2,)))
    assert [row[:7] for row in scheduled if row[7:] == (4,)] == plain
    assert {row[7:] for row in scheduled} == {(2,), (4,)}
    curves.write_table(tmp_path / "curves.csv", iter(plain))
    assert (tmp_path / "curves.csv").read_text().splitlines()[0] == ",".join(curves.COLUMNS)


def test_the_population_of_a_benchmark_has_no_compressed_trainings(tmp_path: Path) -> None:
    tables = []
    for name, schedules in (("plain", ()), ("scheduled", (2,))):
        path = tmp_path / f"{name}.csv"
        curves.write_table(path, curves.generate_rows(architectures=6, checks=4, schedules=schedules))
        tables.append(read_population(read_table(path), 4, None, Objective()))
    plain, scheduled = tables
    np.testing.assert_array_equal(plain.scores, scheduled.scores)
    assert (dict(plain.confirmed), list(scheduled.confirmed)) == ({}, [2])


@pytest.mark.parametrize("schedules", ["10", "0,2", "two"])
def test_schedules_that_are_not_shorter_than_a_whole_training_are_refused(tmp_path: Path, schedules: str) -> None:
    command = ("-m", "nasproxy.testing.curves", str(tmp_path / "curves.csv"), "--checks", "10")
    assert cli.python(*command, "--schedules", schedules) == 2
