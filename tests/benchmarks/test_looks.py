"""The stated error at irregular looks, by simulation: `benchmarks.looks`."""

import json
import subprocess
import sys

import pytest

from benchmarks.looks import make_schedules, measure
from helpers import cli
from nasproxy.statistics.acceptance import LookPlan
from nasproxy.statistics.criteria.group_sequential import GroupSequential

SAMPLING = 1.1
"""The simulation of the boundary and that of the error each have a standard error of about 3 % of the error."""


@pytest.mark.gate
@pytest.mark.parametrize("name", ["3: 25, 50, 100 %", "clusters of 5 at each doubling", "10, random"])
def test_the_stated_error_holds_at_irregular_looks(name: str) -> None:
    found = measure(name, GroupSequential(), LookPlan(sizes=(10,)), seed=1)
    assert 0.4 * found["stated"] <= found["error"] <= SAMPLING * found["stated"]
    assert found["power"] > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(10,), (20,), (30,), (10, 15, 20, 25, 30)], ids=str)
@pytest.mark.parametrize("tasks", [1, 4])
def test_the_stated_error_holds_at_all_schedules(sizes: tuple[int, ...], tasks: int) -> None:
    rule, plan = GroupSequential(), LookPlan(tasks, sizes)
    for name in make_schedules():
        found = measure(name, rule, plan, seed=2)
        assert found["error"] <= (SAMPLING if tasks == 1 else 1.3) * found["stated"], name


@pytest.mark.gate
def test_the_last_line_is_json() -> None:
    command = [sys.executable, "-m", "benchmarks.looks", "--models", "8", "--alpha", "0.4", "--json"]
    done = subprocess.run(command, cwd=cli.ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert [row["looks"] for row in json.loads(done.stdout.splitlines()[-1])] == list(make_schedules())
