"""The contract suite for backends: inherit a test class and provide a `make_backend` fixture.

`BackendContract` covers what controllers rely on, in real or virtual time; `ProcessBackendContract` adds tests for
backends that run trials as processes on trial folders.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nasproxy.execution.backends.backend import Backend
from nasproxy.storage.trial_stores import FolderTrialStore, TrialStore
from nasproxy.testing import synthetic
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Cause, Request, State, TrialRecord
from nasproxy.trials.spec import Choice, Split, TrialSpec

MakeBackend = Callable[..., Backend]
MakeSpec = Callable[..., TrialSpec]


def make_spec(seed: int = 0, fault: str = "none", **recipe: Any) -> TrialSpec:
    """Make a trial of the synthetic trainer."""
    architecture: dict[str, Choice] = {"quality": 50, "fault": fault}
    return TrialSpec(architecture, ProxyTask(), Split.FULL, seed, synthetic.make_recipe(**recipe))


class BackendContract:
    """Behaviour of backends that controllers rely on."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> TrialStore:
        """Provide an empty store for each test."""
        return FolderTrialStore(tmp_path / "trials")

    @pytest.fixture
    def make_spec(self) -> MakeSpec:
        """Provide trials of the synthetic trainer; override for backends that cannot run it."""
        return make_spec

    def finish(self, backend: Backend, store: TrialStore, key: str, seconds: float = 60.0) -> TrialRecord:
        """Wait until a trial is no longer live and return its record."""
        deadline = time.monotonic() + seconds
        while key in backend.live():
            assert time.monotonic() < deadline, f"trial {key} is still live: {store.read(key)}"
            backend.wait(0.1)
        return store.read(key)

    def test_a_trial_runs_to_its_end(self, make_backend: MakeBackend, store: TrialStore, make_spec: MakeSpec) -> None:
        backend, spec = make_backend(store), make_spec()
        backend.submit(spec.key, store.create(spec))
        record = self.finish(backend, store, spec.key)
        assert record.status.state is State.DONE
        assert [check.step for check in record.checks] == list(spec.check_steps)
        assert record.status.wall_seconds > 0

    def test_a_trial_pauses_where_it_is_asked_to_and_goes_on_from_there(
        self, make_backend: MakeBackend, store: TrialStore, make_spec: MakeSpec
    ) -> None:
        backend, spec = make_backend(store), make_spec()
        digest = store.create(spec)
        for until, state in ((35, State.PAUSED), (None, State.DONE)):
            store.request(spec.key, Request(until_step=until))
            backend.submit(spec.key, digest)
            record = self.finish(backend, store, spec.key)
            assert record.status.state is state
            assert record.step == (40 if until else 100)
        assert [check.step for check in record.checks] == list(spec.check_steps)

    def test_submitting_twice_runs_once(
        self, make_backend: MakeBackend, store: TrialStore, make_spec: MakeSpec
    ) -> None:
        backend, spec = make_backend(store), make_spec(check_seconds=0.05)
        digest = store.create(spec)
        backend.submit(spec.key, digest)
        backend.submit(spec.key, digest)
        assert backend.live() == {spec.key}
        record = self.finish(backend, store, spec.key)
        assert [check.step for check in record.checks] == list(spec.check_steps)

    def test_no_more_trials_run_than_there_are_slots(
        self, make_backend: MakeBackend, store: TrialStore, make_spec: MakeSpec
    ) -> None:
        backend = make_backend(store, slots=2)
        specs = [make_spec(seed, check_seconds=0.02) for seed in range(5)]
        for spec in specs:
            backend.submit(spec.key, store.create(spec))
        most = 0
        while backend.live():
            most = max(most, len(backend.running()))
            backend.wait(0.05)
        assert most == 2
        assert all(store.read(spec.key).status.state is State.DONE for spec in specs)

    def test_a_running_trial_stops_at_its_next_check(
        self, make_backend: MakeBackend, store: TrialStore, make_spec: MakeSpec
    ) -> None:
        backend, spec = make_backend(store), make_spec(check_seconds=0.2)
        backend.submit(spec.key, store.create(spec))
        while not store.read(spec.key).checks:
            backend.wait(0.02)
        store.request(spec.key, Request(stop=True))
        record = self.finish(backend, store, spec.key)
        assert record.status.state is State.PAUSED
        assert 10 <= record.step <= 30

    def test_a_cancelled_trial_ends_and_can_be_run_again(
        self, make_backend: MakeBackend, store: TrialStore, make_spec: MakeSpec
    ) -> None:
        backend, spec = make_backend(store), make_spec(check_seconds=0.2)
        digest = store.create(spec)
        backend.submit(spec.key, digest)
        while not store.read(spec.key).checks:
            backend.wait(0.02)
        backend.cancel(spec.key)
        assert spec.key not in backend.live()
        status = store.read(spec.key).status
        assert (status.state, status.failures) == (State.PENDING, 0)
        backend.submit(spec.key, digest)
        assert self.finish(backend, store, spec.key).status.state is State.DONE

    @pytest.mark.parametrize(("fault", "cause"), [("oom", Cause.OOM), ("nan", Cause.NAN)])
    def test_a_models_own_fault_is_final(
        self, make_backend: MakeBackend, store: TrialStore, make_spec: MakeSpec, fault: str, cause: Cause
    ) -> None:
        backend, spec = make_backend(store), make_spec(fault=fault)
        backend.submit(spec.key, store.create(spec))
        status = self.finish(backend, store, spec.key).status
        assert (status.state, status.cause, status.failures) == (State.FAILED, cause, 1)

    @pytest.mark.parametrize(("fault", "cause"), [("crash", Cause.CRASH), ("die", Cause.LOST)])
    def test_a_crashed_or_lost_worker_costs_one_attempt(
        self, make_backend: MakeBackend, store: TrialStore, make_spec: MakeSpec, fault: str, cause: Cause
    ) -> None:
        backend, spec = make_backend(store, max_attempts=2), make_spec(fault=fault)
        digest = store.create(spec)
        for failures, state in ((1, State.PENDING), (2, State.FAILED)):
            backend.submit(spec.key, digest)
            status = self.finish(backend, store, spec.key).status
            assert (status.state, status.cause, status.failures) == (state, cause, failures)

    def test_every_model_has_zero_cost_scores_or_none(
        self, make_backend: MakeBackend, store: TrialStore, make_spec: MakeSpec
    ) -> None:
        specs = [make_spec(0), make_spec(1)]
        assert make_backend(store).zero_costs(specs) == [None, None], (
            "trainers without a model node build their own models"
        )

    def test_closing_leaves_nothing_running(
        self, make_backend: MakeBackend, store: TrialStore, make_spec: MakeSpec
    ) -> None:
        backend, spec = make_backend(store), make_spec(check_seconds=0.2)
        backend.submit(spec.key, store.create(spec))
        while not store.read(spec.key).checks:
            backend.wait(0.02)
        backend.close()
        assert not backend.live()
        checks = store.read(spec.key).checks
        backend.wait(0.5)
        assert store.read(spec.key).checks == checks


class ProcessBackendContract(BackendContract):
    """Further behaviour of backends that run trials as processes on trial folders."""

    def test_a_lost_trial_goes_on_from_its_checkpoint(self, make_backend: MakeBackend, store: FolderTrialStore) -> None:
        backend, spec = make_backend(store), make_spec(fault="die_once")
        digest = store.create(spec)
        backend.submit(spec.key, digest)
        assert self.finish(backend, store, spec.key).step == 40
        backend.submit(spec.key, digest)
        record = self.finish(backend, store, spec.key)
        assert record.status.state is State.DONE
        assert [check.step for check in record.checks] == list(spec.check_steps)

    def test_a_hung_worker_is_lost(self, make_backend: MakeBackend, store: FolderTrialStore) -> None:
        backend, spec = make_backend(store, hang_seconds=1.0, max_attempts=1), make_spec(fault="hang")
        backend.submit(spec.key, store.create(spec))
        status = self.finish(backend, store, spec.key).status
        assert (status.state, status.cause) == (State.FAILED, Cause.LOST)

    def test_a_folder_that_is_not_what_was_submitted_is_not_run(
        self, make_backend: MakeBackend, store: FolderTrialStore
    ) -> None:
        backend, spec = make_backend(store, max_attempts=1), make_spec()
        digest = store.create(spec)
        config = store.folder(spec.key).config
        config.write_text(config.read_text().replace("version: 1", "version: 2"))
        backend.submit(spec.key, digest)
        status = self.finish(backend, store, spec.key).status
        assert status.state is State.FAILED
        assert "is not the config that was submitted" in str(status.message)
