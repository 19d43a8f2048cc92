"""The contract suites for backends: inherit a test class and provide a `make_backend` fixture.

`BackendContract` covers what controllers rely on; `ParallelBackendContract` adds what holds where trials go on between
two polls, in real or virtual time, and `ProcessBackendContract` what holds where they are processes on trial folders.
The tests run several trials at once and none twice, because a process may take seconds to start.
"""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nasproxy.errors import ConfigError
from nasproxy.execution.attempts import Ended
from nasproxy.execution.backends.backend import Backend
from nasproxy.execution.orders import measure_models, run_preflight
from nasproxy.execution.process_groups import is_alive
from nasproxy.execution.work_order import OrderTemplate
from nasproxy.storage.locks import FileLock
from nasproxy.storage.trial_stores import FolderTrialStore, TrialStore
from nasproxy.testing import synthetic
from nasproxy.testing.backend_driver import BackendDriver
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Cause, Request, State, Status
from nasproxy.trials.spec import Choice, Split, TrialSpec

MakeBackend = Callable[..., Backend]
"""Function of the store that makes a backend with two slots if it can have several, on the store's study."""
MakeSpec = Callable[..., TrialSpec]
Drive = Callable[..., BackendDriver]


def make_spec(seed: int = 0, fault: str = "none", **recipe: Any) -> TrialSpec:
    """Make a trial of the synthetic trainer."""
    architecture: dict[str, Choice] = {"quality": 50, "fault": fault}
    return TrialSpec(architecture, ProxyTask(), Split.FULL, seed, synthetic.make_recipe(**recipe))


def _describe(status: Status) -> tuple[State, Cause | None, int]:
    return status.state, status.cause, status.failures


class BackendContract:
    """Behaviour of all backends that controllers rely on."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> TrialStore:
        """Provide an empty store for each test."""
        return FolderTrialStore(tmp_path / "trials")

    @pytest.fixture
    def make_spec(self) -> MakeSpec:
        """Provide trials of the synthetic trainer; override for backends that cannot run it."""
        return make_spec

    @pytest.fixture
    def unfit(self) -> TrialSpec:
        """Provide a trial that cannot be trained as configured; override for backends without trainers."""
        spec = make_spec()
        return TrialSpec(
            spec.architecture, ProxyTask(overrides={"trainer._target_": "nasproxy.nothing"}), Split.FULL, 0, spec.recipe
        )

    @pytest.fixture
    def drive(self, make_backend: MakeBackend, store: TrialStore, tmp_path: Path) -> Drive:
        """Provide a function that makes a driver of a new backend."""

        def make(max_attempts: int = 3) -> BackendDriver:
            return BackendDriver(make_backend(store), store, OrderTemplate(tmp_path, max_attempts=max_attempts))

        return make

    def test_trials_submitted_twice_run_once_to_their_end_and_no_more_at_once_than_there_are_slots(
        self, drive: Drive, store: TrialStore, make_spec: MakeSpec
    ) -> None:
        driver = drive()
        slots = driver.backend.capabilities.slots
        specs = [make_spec(seed, check_seconds=0.02) for seed in range(min(slots, 2) + 1)]
        driver.submit(*specs)
        driver.submit(*specs)
        while driver.live:
            driver.poll(0.05)
            running = sum(store.read(spec.key).status.state is State.RUNNING for spec in specs)
            assert running <= slots
        for spec in specs:
            record = store.read(spec.key)
            assert record.status.state is State.DONE
            assert [check.step for check in record.checks] == list(spec.check_steps)
            assert record.status.wall_seconds > 0

    def test_a_trial_pauses_where_it_is_asked_to_and_goes_on_from_there(
        self, drive: Drive, store: TrialStore, make_spec: MakeSpec
    ) -> None:
        driver, spec = drive(), make_spec()
        for until, state in ((35, State.PAUSED), (None, State.DONE)):
            store.request(spec.key, Request(until_step=until))
            record = driver.run(spec)
            assert record.status.state is state
            assert record.step == (40 if until else 100)
        assert [check.step for check in record.checks] == list(spec.check_steps)

    def test_a_queued_trial_that_is_cancelled_does_not_begin(
        self, drive: Drive, store: TrialStore, make_spec: MakeSpec
    ) -> None:
        driver = drive()
        specs = [make_spec(seed, check_seconds=0.05) for seed in range(driver.backend.capabilities.slots + 1)]
        driver.submit(*specs)
        driver.backend.cancel(specs[-1].key)
        assert driver.poll(60.0) == [Ended(specs[-1].key, is_cancelled=True)], "it says so at once, and nothing else"
        driver.finish()
        assert store.read(specs[-1].key).status == Status()
        driver.backend.cancel(specs[0].key)  # which has ended

    def test_failures_of_the_model_are_final_and_crashes_count_as_attempts(
        self, drive: Drive, store: TrialStore, make_spec: MakeSpec
    ) -> None:
        driver = drive(max_attempts=2)
        oom, nan, crash = (make_spec(fault=fault) for fault in ("oom", "nan", "crash"))
        driver.run(oom, nan, crash)
        assert _describe(store.read(oom.key).status) == (State.FAILED, Cause.OOM, 1)
        assert _describe(store.read(nan.key).status) == (State.FAILED, Cause.NAN, 1)
        assert _describe(store.read(crash.key).status) == (State.PENDING, Cause.CRASH, 1)
        assert _describe(driver.run(crash).status) == (State.FAILED, Cause.CRASH, 2)

    def test_preflights_and_measurements_are_answered(
        self, drive: Drive, make_spec: MakeSpec, unfit: TrialSpec
    ) -> None:
        driver = drive()
        backend, orders = driver.backend, driver.orders
        assert all(isinstance(note, str) for note in run_preflight(backend, orders, [make_spec()]))
        with pytest.raises(ConfigError, match=r"needs|must"):
            run_preflight(backend, orders, [unfit])
        assert measure_models(backend, orders, [make_spec(0), make_spec(1)]) == [None, None], (
            "trainers without a model node build their own models"
        )


class ParallelBackendContract(BackendContract):
    """Further behaviour of backends whose trials go on between two polls."""

    def test_a_running_trial_stops_at_its_next_check_and_a_cancelled_one_at_once(
        self, drive: Drive, store: TrialStore, make_spec: MakeSpec
    ) -> None:
        driver = drive()
        stopped, cancelled = make_spec(0, check_seconds=0.5), make_spec(1, check_seconds=0.2)
        driver.submit(cancelled)
        driver.poll_until_checked(cancelled)
        driver.backend.cancel(cancelled.key)
        driver.submit(stopped)
        driver.poll_until_checked(stopped)
        store.request(stopped.key, Request(stop=True))
        driver.finish()
        record = store.read(stopped.key)
        assert record.status.state is State.PAUSED
        assert 10 <= record.step < 100
        status = store.read(cancelled.key).status
        assert (status.state, status.failures) == (State.PENDING, 0)
        assert status.wall_seconds > 0
        assert driver.run(cancelled).status.state is State.DONE, "it goes on when it is submitted again"

    def test_closing_leaves_nothing_running(self, drive: Drive, store: TrialStore, make_spec: MakeSpec) -> None:
        driver, spec = drive(), make_spec(check_seconds=0.2)
        driver.submit(spec)
        driver.poll_until_checked(spec)
        driver.backend.close()
        checks = store.read(spec.key).checks
        assert not driver.backend.poll(0.5)
        assert store.read(spec.key).checks == checks


class ProcessBackendContract(ParallelBackendContract):
    """Further behaviour of backends that run trials as processes on trial folders."""

    def test_a_trial_whose_process_is_killed_is_lost_and_goes_on_from_its_checkpoint(
        self, drive: Drive, store: FolderTrialStore
    ) -> None:
        driver, spec = drive(), make_spec(check_seconds=0.2)
        driver.submit(spec)
        driver.poll_until_checked(spec, 20)
        pid = FileLock(store.folder(spec.key).lock).owner_pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        driver.finish()
        status = store.read(spec.key).status
        assert _describe(status) == (State.PENDING, Cause.LOST, 1)
        assert "often by the kernel because memory ran out: free memory" in str(status.message)
        record = driver.run(spec)
        assert record.status.state is State.DONE
        assert [check.step for check in record.checks] == list(spec.check_steps)
        assert record.status.failures == 1, "the attempt is kept on record"

    def test_processes_that_a_trainer_leaves_behind_end_with_its_worker(
        self, drive: Drive, store: FolderTrialStore
    ) -> None:
        driver, spec = drive(), make_spec(fault="orphan")
        assert driver.run(spec).status.state is State.DONE
        orphan = int((store.folder(spec.key).path / "orphan").read_text())
        deadline = time.monotonic() + 10.0
        while is_alive(orphan):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def test_a_folder_that_is_not_what_was_submitted_is_not_run(self, drive: Drive, store: FolderTrialStore) -> None:
        driver, spec = drive(max_attempts=1), make_spec()
        digest = store.create(spec)
        config = store.folder(spec.key).config
        config.write_text(config.read_text().replace("version: 1", "version: 2"))
        driver.submit_order(driver.orders.train(spec, digest))
        driver.finish()
        status = store.read(spec.key).status
        assert status.state is State.FAILED
        assert "is not the config that was submitted" in str(status.message)
