"""The replay backend passes the contract of all backends, in virtual time."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nasproxy.errors import ConfigError
from nasproxy.execution.attempts import Ended
from nasproxy.execution.backends.backend import BackendContext
from nasproxy.execution.backends.replay.backend import ReplayBackend
from nasproxy.execution.backends.replay.curve_table import CurveTable, read_table
from nasproxy.execution.backends.replay.replayed_table import CHOICE
from nasproxy.execution.orders import run_preflight
from nasproxy.execution.work_order import OrderTemplate
from nasproxy.storage.trial_stores import FolderTrialStore, MemoryTrialStore
from nasproxy.testing.backend_contract import MakeBackend, MakeSpec, ParallelBackendContract
from nasproxy.testing.backend_driver import BackendDriver
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


class TestReplayBackend(ParallelBackendContract):
    @pytest.fixture
    def store(self) -> MemoryTrialStore:
        return MemoryTrialStore()

    @pytest.fixture
    def make_spec(self) -> MakeSpec:
        return make_replay_spec

    @pytest.fixture
    def unfit(self) -> TrialSpec:
        return make_replay_spec(seed=9)

    @pytest.fixture
    def make_backend(self, table: CurveTable) -> MakeBackend:
        return lambda store: ReplayBackend(context=BackendContext(store), curves=table, slots=2)


def drive(folder: Path, **options: Any) -> BackendDriver:
    store = MemoryTrialStore()
    backend = ReplayBackend(context=BackendContext(store), **options)
    return BackendDriver(backend, store, OrderTemplate(folder))


def test_time_is_virtual(table: CurveTable, tmp_path: Path) -> None:
    driver, one = drive(tmp_path, curves=table, slots=1), make_replay_spec()
    driver.submit(one)
    assert driver.poll(0.45) == []
    assert driver.store.read(one.key).step == 40, "0.45 of 1.0 virtual seconds have passed"
    assert driver.poll(1e9) == [Ended(one.key, exit_status=0)]
    assert driver.store.read(one.key).status.wall_seconds == pytest.approx(1.0)


def test_a_free_slot_is_used_at_once(table: CurveTable, tmp_path: Path) -> None:
    driver, specs = drive(tmp_path, curves=table, slots=1), [make_replay_spec(seed) for seed in range(3)]
    driver.submit(*specs)
    assert [ended.key for ended in driver.poll(2.5)] == [specs[0].key, specs[1].key]
    assert driver.store.read(specs[2].key).step == 50


def test_a_failure_keeps_the_checks_before_it(table: CurveTable, tmp_path: Path) -> None:
    record = drive(tmp_path, curves=table).run(make_replay_spec(fault="nan"))
    assert [check.step for check in record.checks] == list(STEPS[:4])
    assert record.status.message == "failed according to the table"


def test_a_trial_that_has_failed_ends_at_once(table: CurveTable, tmp_path: Path) -> None:
    driver, one = drive(tmp_path, curves=table), make_replay_spec(fault="nan")
    assert driver.run(one) == driver.run(one)


def test_a_proxy_task_replays_its_own_curves(table: CurveTable, tmp_path: Path) -> None:
    driver = drive(tmp_path, curves=table)
    task = ReplayBackend(context=BackendContext(MemoryTrialStore()), curves=table).replayed.make_proxy_task("half")
    one = TrialSpec({CHOICE: "none"}, task, Split.SEARCH, 1, make_recipe())
    assert driver.run(one).checks[-1].train_seconds == pytest.approx(0.5)


def test_a_seed_that_the_table_lacks_is_refused(table: CurveTable, tmp_path: Path) -> None:
    driver = drive(tmp_path, curves=table)
    with pytest.raises(ConfigError, match=r"needs 10 seeds of architecture 'none'.*the table has 5"):
        run_preflight(driver.backend, driver.orders, [make_replay_spec(seed=9)])


def test_a_schedule_that_differs_from_the_table_is_refused(table: CurveTable, tmp_path: Path) -> None:
    driver = drive(tmp_path, curves=table)
    other = TrialSpec(
        {CHOICE: "none"}, ProxyTask(overrides={"training.check_at": (50, 100)}), Split.FULL, 0, make_recipe()
    )
    with pytest.raises(ConfigError, match=r"100 steps with 10 checks.*got 100 steps with 2"):
        run_preflight(driver.backend, driver.orders, [other])


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
        ReplayBackend(context=BackendContext(MemoryTrialStore()), curves=table, **settings)


def test_a_replay_without_a_table_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"backend\.table must name a table of learning curves, got none"):
        ReplayBackend(context=BackendContext(MemoryTrialStore()), table=None)


def test_trials_in_folders_cannot_be_replayed(table: CurveTable, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs trials in memory.*run python run\.py experiment=replay"):
        ReplayBackend(context=BackendContext(FolderTrialStore(tmp_path)), curves=table)


def test_a_new_backend_replays_what_the_study_replayed(table: CurveTable, tmp_path: Path) -> None:
    def open_backend(store: MemoryTrialStore) -> ReplayBackend:
        return ReplayBackend(context=BackendContext(store, tmp_path), curves=table)

    def replay(backend: ReplayBackend, *specs: TrialSpec) -> None:
        for spec in specs:
            backend.submit(OrderTemplate(tmp_path, max_attempts=1).train(spec, backend.store.create(spec)))
        backend.poll(10.0)

    store = MemoryTrialStore()
    backend = open_backend(store)
    ended, failed, paused = make_replay_spec(), make_replay_spec(fault="oom"), make_replay_spec(seed=1)
    half = replace(ended, proxy_task=backend.replayed.make_proxy_task("half"), split=Split.SEARCH)
    store.request(paused.key, Request(until_step=30))
    replay(backend, ended, failed, paused, half)
    lines = (tmp_path / "replayed.jsonl").read_text()
    restored = MemoryTrialStore()
    again = open_backend(restored)
    assert restored.keys() == store.keys()
    assert {key: restored.read(key) for key in store.keys()} == {key: store.read(key) for key in store.keys()}
    assert [restored.read(spec.key).step for spec in (ended, failed, paused, half)] == [100, 40, 30, 100]
    assert (tmp_path / "replayed.jsonl").read_text() == lines, "nothing is new"
    restored.request(paused.key, Request())
    replay(again, paused)
    third = MemoryTrialStore()
    open_backend(third)
    assert third.read(paused.key).step == 100, "the furthest line of a trial counts"


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
