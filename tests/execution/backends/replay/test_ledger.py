"""The ledger of replayed trials, which the jobs of a sweep share."""

import json
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from nasproxy.errors import CorruptFileError
from nasproxy.execution.backends.replay.ledger import Ledger, LedgerEntry
from nasproxy.execution.backends.replay.replayed_table import CHOICE
from nasproxy.storage.files import read_lines
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import TrialPurpose
from nasproxy.trials.spec import Recipe, Split, TrialSpec

TRIALS = 300
PURPOSE = TrialPurpose("references")


def make_spec(name: str, seed: int = 0) -> TrialSpec:
    recipe = Recipe({}, {"version": 1, "proxy": "full", "first_seed": 0}, {}, "a table", 100, 100)
    return TrialSpec({CHOICE: name}, ProxyTask(), Split.FULL, seed, recipe)


def make_entry(name: str, seed: int = 0) -> LedgerEntry:
    return name, None, None, Split.FULL.value, seed


def add_trials(path: Path, names: Sequence[str], start: Barrier) -> None:
    ledger = Ledger(path)
    start.wait()
    for name in names:
        ledger.add(make_spec(name), None, None, PURPOSE)


def test_two_processes_lose_and_damage_no_line(tmp_path: Path) -> None:
    path, context = tmp_path / "replayed.jsonl", get_context("fork")
    own = [[f"{job}-{number}-é{'x' * 100}" for number in range(TRIALS)] for job in "ab"]
    shared = [f"shared-{number}" for number in range(50)]
    start = context.Barrier(2)
    jobs = [context.Process(target=add_trials, args=(path, [*names, *shared], start)) for names in own]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0, 0]
    names = [*own[0], *own[1], *shared]
    assert Ledger(path).steps == {make_entry(name): None for name in names}
    lines = [json.loads(line) for line in read_lines(path)]
    assert len(lines) == 1 + len(names), "one line holds the recipe, and each trial has one"
    assert list(lines[0]) == ["recipe"]


def test_the_furthest_line_of_a_trial_counts_whichever_job_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "replayed.jsonl"
    one, two = Ledger(path), Ledger(path)
    one.add(make_spec("a"), None, 30, PURPOSE)
    one.add(make_spec("a"), None, None, PURPOSE)
    two.add(make_spec("a"), None, 50, PURPOSE)
    two.add(make_spec("b"), None, 50, PURPOSE)
    one.add(make_spec("b"), None, 30, None)
    assert Ledger(path).steps == two.steps == {make_entry("a"): None, make_entry("b"): 50}
    assert Ledger(path).purposes == {make_entry("a"): PURPOSE, make_entry("b"): PURPOSE}


def test_an_incomplete_last_line_of_a_killed_job_is_ignored_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "replayed.jsonl"
    Ledger(path).add(make_spec("a"), None, None, PURPOSE)
    with path.open("a") as file:
        file.write('["b", null, "fu')
    ledger = Ledger(path)
    assert ledger.steps == {make_entry("a"): None}
    ledger.add(make_spec("c"), None, None, PURPOSE)
    assert Ledger(path).steps == {make_entry("a"): None, make_entry("c"): None}


@pytest.mark.parametrize("line", ["no json", "[1]", "7", '["a", null, "full", 0, Infinity, null]', "[" * 100_000])
def test_a_damaged_line_is_refused_with_advice(tmp_path: Path, line: str) -> None:
    path = tmp_path / "replayed.jsonl"
    Ledger(path).add(make_spec("a"), None, None, PURPOSE)
    with path.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(CorruptFileError, match=r"replayed\.jsonl cannot be read: .*restore the file"):
        Ledger(path)
