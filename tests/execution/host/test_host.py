"""Workers that another host started, heartbeats, and process ids that are not what they seem."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nasproxy.execution.attempts import Ended
from nasproxy.execution.backends.backend import BackendContext
from nasproxy.execution.backends.local import LocalBackend
from nasproxy.execution.process_groups import is_alive
from nasproxy.execution.work_order import OrderTemplate
from nasproxy.storage.locks import FileLock
from nasproxy.storage.trial_files import read_progress, write_heartbeat, write_status
from nasproxy.storage.trial_stores import FolderTrialStore
from nasproxy.testing.backend_contract import make_spec
from nasproxy.testing.backend_driver import BackendDriver
from nasproxy.trials.records import State, Status

SPEC = make_spec()


@pytest.fixture
def store(tmp_path: Path) -> FolderTrialStore:
    return FolderTrialStore(tmp_path / "trials")


@pytest.fixture
def bystander() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that leads a group and has nothing to do with the study."""
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def drive(store: FolderTrialStore) -> BackendDriver:
    backend = LocalBackend(context=BackendContext(store, store.root.parent), slots=1)
    return BackendDriver(backend, store, OrderTemplate(store.root.parent))


def test_a_process_that_a_lock_file_names_without_holding_it_is_not_killed(
    store: FolderTrialStore, bystander: "subprocess.Popen[bytes]"
) -> None:
    store.create(SPEC)
    probe = FileLock(store.folder(SPEC.key).lock, is_signed=False)
    assert probe.acquire()
    probe.path.write_text(f"process {bystander.pid} on {os.uname().nodename}\n")
    driver = drive(store)
    driver.submit(SPEC)
    probe.release()
    assert driver.poll(10.0) == [Ended(SPEC.key)]
    driver.submit(SPEC)
    driver.backend.close()
    assert is_alive(bystander.pid)


def test_a_worker_of_another_living_host_is_followed_and_not_killed(store: FolderTrialStore) -> None:
    spec = make_spec(check_seconds=0.1)
    owner, other = drive(store), drive(store)
    study = FileLock(store.root.parent / "locks" / "study.lock")  # which a controller holds
    assert study.acquire()
    try:
        owner.submit(spec)
        owner.poll_until_checked(spec)
        other.submit(spec)
        other.backend.cancel(spec.key)
        assert other.poll(10.0) == [Ended(spec.key, is_cancelled=True)]
        owner.finish()
        status = store.read(spec.key).status
        assert (status.state, status.failures) == (State.DONE, 0)
    finally:
        study.release()
        owner.backend.close()
        other.backend.close()


def test_heartbeats_are_those_of_the_worker_that_was_started(store: FolderTrialStore) -> None:
    store.create(SPEC)
    folder = store.folder(SPEC.key)
    assert read_progress(folder, after=0) is None
    write_status(folder, Status(State.RUNNING), generation=3)
    assert read_progress(folder, after=3) is None, "of the worker before"
    first = read_progress(folder, after=2)
    assert first is not None
    assert read_progress(folder, after=2) == first
    write_heartbeat(folder)
    second = read_progress(folder, after=2)
    write_heartbeat(folder)
    third = read_progress(folder, after=2)
    os.utime(folder.heartbeat, (1, 1))  # as `touch` does, by whatever clock
    assert len({first, second, third, read_progress(folder, after=2)}) == 4
    write_status(folder, Status(State.PAUSED), generation=3)
    assert read_progress(folder, after=2) is None


@pytest.mark.parametrize("dies", [False, True])
def test_the_scratch_folder_of_a_trial_ends_with_its_worker(store: FolderTrialStore, dies: bool) -> None:
    trainer = {"_target_": "helpers.user_code.use_scratch", "version": 1, "dies": dies}
    spec = replace(SPEC, recipe=replace(SPEC.recipe, trainer=trainer))
    orders = OrderTemplate(store.root.parent, ("helpers",), max_attempts=1)
    backend = LocalBackend(context=BackendContext(store, store.root.parent), slots=1)
    status = BackendDriver(backend, store, orders).run(spec).status
    assert status.state is (State.FAILED if dies else State.DONE)
    file = Path((store.folder(spec.key).path / "scratch_file").read_text())
    assert file.name == "shard"
    assert not file.parent.exists()
    assert file.parent.parent.stat().st_mode & 0o777 == 0o700
