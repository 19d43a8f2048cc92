"""The replay backend passes the contract of all backends, in virtual time."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nasproxy.errors import ConfigError
from nasproxy.execution.backends.backend import Backend
from nasproxy.execution.backends.replay.backend import ReplayBackend
from nasproxy.execution.backends.replay.curve_table import CurveTable, read_table
from nasproxy.execution.backends.replay.replayed_table import CHOICE
from nasproxy.storage.trial_stores import FolderTrialStore, MemoryTrialStore
from nasproxy.testing.backend_contract import BackendContract, MakeBackend, MakeSpec
from nasproxy.testing.store_contract import StoreContract, Write
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Request
from nasproxy.trials.spec import Recipe, Split, TrialSpec

STEPS = tuple(range(10, 101, 10))
CAUSES = {"none": "", "oom": "oom", "nan": "nan", "crash": "crash", "die": "lost"}


def make_rows() -> list[tuple[object, ...]]:
    """Make one training per fault and seed; failing ones stop after 4 checks, and `half` takes half the time."""
    made: list[tuple[object, ...]] = []
    for proxy, cost in (("full", 0.01), ("half", 0.005)):
        for name, cause in CAUSES.items():
            for seed in range(5):
                steps = STEPS if not cause else STEPS[:4]
                made += [(name, proxy, seed, step, step / 100, step * cost, "", 3.5) for step in steps]
                if cause:
                    made.append((name, proxy, seed, "", "", "", cause, ""))
    return made


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> CurveTable:
    path = tmp_path_factory.mktemp("replay") / "curves.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        columns = ("architecture", "proxy", "seed", "step", "score", "train_seconds", "status", "latency_ms")
        writer.writerows([columns, *make_rows()])
    return read_table(path)


def make_recipe(proxy: str = "full") -> Recipe:
    trainer = {"version": 1, "proxy": proxy, "first_seed": 0}
    return Recipe({}, trainer, {}, "a table", STEPS[-1], STEPS[-1], check_at=STEPS)


def make_replay_spec(seed: int = 0, fault: str = "none", **_: Any) -> TrialSpec:
    return TrialSpec({CHOICE: fault}, ProxyTask(), Split.FULL, seed, make_recipe())


class TestReplayBackend(BackendContract):
    @pytest.fixture
    def store(self) -> MemoryTrialStore:
        return MemoryTrialStore()

    @pytest.fixture
    def make_spec(self) -> MakeSpec:
        return make_replay_spec

    @pytest.fixture
    def make_backend(self, table: CurveTable) -> MakeBackend:
        def make(store: MemoryTrialStore, **settings: Any) -> Backend:
            return ReplayBackend(store, curves=table, **settings)

        return make


class TestMemoryTrialStore(StoreContract):
    @pytest.fixture
    def store(self) -> MemoryTrialStore:
        return MemoryTrialStore()

    @pytest.fixture
    def write(self, store: MemoryTrialStore) -> Write:
        return store.write


def test_time_is_virtual(table: CurveTable) -> None:
    store = MemoryTrialStore()
    backend, one = ReplayBackend(store, curves=table, slots=1), make_replay_spec()
    backend.submit(one.key, store.create(one))
    assert backend.wait(0.45) == set()
    assert store.read(one.key).step == 40, "0.45 of 1.0 virtual seconds have passed"
    assert backend.wait(1e9) == {one.key}
    assert store.read(one.key).status.wall_seconds == pytest.approx(1.0)


def test_a_free_slot_is_used_at_once(table: CurveTable) -> None:
    store = MemoryTrialStore()
    backend, specs = ReplayBackend(store, curves=table, slots=1), [make_replay_spec(seed) for seed in range(3)]
    for one in specs:
        backend.submit(one.key, store.create(one))
    assert backend.wait(2.5) == {specs[0].key, specs[1].key}
    assert store.read(specs[2].key).step == 50


def test_a_failure_keeps_the_checks_before_it(table: CurveTable) -> None:
    store = MemoryTrialStore()
    backend, one = ReplayBackend(store, curves=table), make_replay_spec(fault="nan")
    backend.submit(one.key, store.create(one))
    backend.wait(10.0)
    assert [check.step for check in store.read(one.key).checks] == list(STEPS[:4])
    assert store.read(one.key).status.message == "failed according to the table"


def test_a_proxy_task_replays_its_own_curves(table: CurveTable) -> None:
    store = MemoryTrialStore()
    backend = ReplayBackend(store, curves=table)
    one = TrialSpec({CHOICE: "none"}, backend.replayed.make_proxy_task("half"), Split.SEARCH, 1, make_recipe())
    backend.submit(one.key, store.create(one))
    backend.wait(10.0)
    assert store.read(one.key).checks[-1].train_seconds == pytest.approx(0.5)


def test_a_seed_that_the_table_lacks_is_refused(table: CurveTable) -> None:
    backend = ReplayBackend(MemoryTrialStore(), curves=table)
    with pytest.raises(ConfigError, match=r"needs 10 seeds of architecture 'none'.*the table has 5"):
        backend.preflight([make_replay_spec(seed=9)])


def test_a_schedule_that_differs_from_the_table_is_refused(table: CurveTable) -> None:
    backend = ReplayBackend(MemoryTrialStore(), curves=table)
    other = TrialSpec(
        {CHOICE: "none"}, ProxyTask(overrides={"training.check_at": (50, 100)}), Split.FULL, 0, make_recipe()
    )
    with pytest.raises(ConfigError, match=r"100 steps with 10 checks.*got 100 steps with 2"):
        backend.preflight([other])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"slots": 0}, "backend.slots must be at least 1, got 0"),
        ({"reference": "whole"}, r"backend.reference must be one of .*full, half.*got 'whole'"),
        ({"proxies": ["half", "third"]}, r"backend.proxies must list proxies of the table.*got 'third'"),
        ({"proxies": []}, r"backend.proxies must list proxies of the table.*got 'none'"),
    ],
)
def test_settings_that_the_table_does_not_support_are_refused(
    table: CurveTable, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        ReplayBackend(MemoryTrialStore(), curves=table, **settings)


def test_a_replay_without_a_table_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"backend\.table must name a table of learning curves, got none"):
        ReplayBackend(MemoryTrialStore(), table=None)


def test_trials_in_folders_cannot_be_replayed(table: CurveTable, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs trials in memory.*run python run\.py experiment=replay"):
        ReplayBackend(FolderTrialStore(tmp_path), curves=table)  # type: ignore[arg-type]


def test_a_new_backend_replays_what_the_study_replayed(table: CurveTable, tmp_path: Path) -> None:
    store = MemoryTrialStore()
    backend = ReplayBackend(store, curves=table, study=tmp_path)
    ended, failed, paused = make_replay_spec(), make_replay_spec(fault="oom"), make_replay_spec(seed=1)
    half = replace(ended, proxy_task=backend.replayed.make_proxy_task("half"), split=Split.SEARCH)
    store.request(paused.key, Request(until_step=30))
    for spec in (ended, failed, paused, half):
        backend.submit(spec.key, store.create(spec))
    backend.wait(10.0)
    lines = (tmp_path / "replayed.jsonl").read_text()
    restored = MemoryTrialStore()
    ReplayBackend(restored, curves=table, study=tmp_path)
    assert restored.keys() == store.keys()
    assert {key: restored.read(key) for key in store.keys()} == {key: store.read(key) for key in store.keys()}
    assert [restored.read(spec.key).step for spec in (ended, failed, paused, half)] == [100, 40, 30, 100]
    assert (tmp_path / "replayed.jsonl").read_text() == lines, "nothing is new"
    again = ReplayBackend(restored, curves=table, study=tmp_path)
    restored.request(paused.key, Request())
    again.submit(paused.key, restored.create(paused))
    again.wait(10.0)
    third = MemoryTrialStore()
    ReplayBackend(third, curves=table, study=tmp_path)
    assert third.read(paused.key).step == 100, "the last line of a trial counts"


def test_a_table_is_read_again_only_after_a_change(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    header, row = "architecture,proxy,seed,step,score,train_seconds\n", "a,full,0,1,0.7,1\n"
    path.write_text(header + row)
    first = read_table(path)
    assert read_table(path) is first
    path.write_text(header + row + row.replace("a,", "b,"))
    assert read_table(path).architectures(["full"]) == ("a", "b")


def test_scores_are_those_of_the_table_and_may_be_in_a_column_named_as_the_metric(tmp_path: Path) -> None:
    for column in ("score", "loss"):
        path = tmp_path / f"{column}.csv"
        path.write_text(f"architecture,proxy,seed,step,{column},train_seconds\na,full,0,1,0.7,1\na,full,0,2,0.4,2\n")
        scores = next(iter(read_table(path, "loss").curves.values())).scores
        assert scores.tolist() == [0.7, 0.4]
