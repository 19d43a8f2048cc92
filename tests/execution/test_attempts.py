"""How the end of a worker is classified, whatever backend ran it."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from nasproxy.errors import StaleLeaseError
from nasproxy.execution.attempts import Ended, classify_end, settle, write_status
from nasproxy.storage.folder_leases import FolderLease
from nasproxy.storage.json_records import read_record
from nasproxy.storage.locks import FileLock
from nasproxy.storage.trial_stores import FolderTrialStore
from nasproxy.trials.records import Cause, State, Status

RUNNING = Status(State.RUNNING, started_at=1.0)


@pytest.mark.parametrize(
    ("status", "ended", "state", "message"),
    [
        (RUNNING, Ended("a", exit_status=0), State.PENDING, "its worker ended without a status"),
        (RUNNING, Ended("a"), State.PENDING, "its worker ended without a status"),
        (RUNNING, Ended("a", exit_status=3), State.PENDING, "exit status 3, see worker.log"),
        (RUNNING, Ended("a", signal=signal.SIGKILL), State.PENDING, "often by the kernel because memory ran out"),
        (RUNNING, Ended("a", signal=signal.SIGSEGV), State.PENDING, "ended by SIGSEGV, see worker.log"),
        (RUNNING, Ended("a", is_host_lost=True), State.PENDING, "the machine of its worker was lost"),
        (RUNNING, Ended("a", signal=9, reason="it hung"), State.PENDING, "it hung"),
        (Status(), Ended("a", exit_status=1), State.PENDING, "exit status 1"),
        (Status(State.PAUSED), Ended("a", signal=9), State.PENDING, "memory ran out"),
    ],
)
def test_a_worker_that_ends_without_a_result_costs_an_attempt(
    status: Status, ended: Ended, state: State, message: str
) -> None:
    after = classify_end(status, ended, step=0, max_attempts=2)
    assert (after.state, after.cause, after.failures) == (state, Cause.LOST, 1)
    assert message in str(after.message)
    assert classify_end(status, ended, step=0, max_attempts=1).state is State.FAILED


@pytest.mark.parametrize(
    ("status", "ended"),
    [
        (Status(State.DONE), Ended("a", signal=9)),
        (Status(State.FAILED, cause=Cause.OOM), Ended("a", exit_status=1)),
        (Status(State.PAUSED), Ended("a", exit_status=0)),
        (Status(), Ended("a", exit_status=75)),
        (Status(), Ended("a")),
        (Status(State.PAUSED), Ended("a", is_cancelled=True)),
    ],
)
def test_what_the_worker_wrote_is_kept(status: Status, ended: Ended) -> None:
    assert classify_end(status, ended, step=0, max_attempts=1) == status


@pytest.mark.parametrize("state", [State.PENDING, State.PAUSED])
def test_a_worker_that_is_killed_after_it_wrote_its_end_costs_no_further_attempt(tmp_path: Path, state: State) -> None:
    store = FolderTrialStore(tmp_path / "trials")
    folder = store.folder("a")
    folder.path.mkdir(parents=True)
    write_status(folder, Status(state, failures=1), generation=2)
    settle(store, Ended("a", signal=9), max_attempts=3, submitted=1)
    assert store.read("a").status == Status(state, failures=1)
    settle(store, Ended("a", signal=9), max_attempts=3, submitted=2)
    assert store.read("a").status.cause is Cause.LOST, "it was killed before it began"


@pytest.mark.parametrize("file", ["lock", "guard", "status"])
def test_the_end_of_a_damaged_trial_is_left_to_the_stage_that_needs_it(tmp_path: Path, file: str) -> None:
    store = FolderTrialStore(tmp_path / "trials")
    folder = store.folder("a")
    folder.path.mkdir(parents=True)
    getattr(folder, file).mkdir()
    settle(store, Ended("a", signal=9), max_attempts=3)
    assert not folder.status.is_file()


@pytest.mark.parametrize(
    ("ended", "state", "cause", "failures"),
    [
        (Ended("a", is_cancelled=True), State.PENDING, None, 0),
        (Ended("a", is_host_lost=True), State.PENDING, Cause.LOST, 1),
        (Ended("a", reason="the queue's time limit"), State.PENDING, Cause.LOST, 1),
    ],
)
def test_the_end_of_a_worker_on_another_node_is_written_at_once(
    tmp_path: Path, ended: Ended, state: State, cause: Cause | None, failures: int
) -> None:
    store = FolderTrialStore(tmp_path / "trials")
    folder = store.folder("a")
    worker = FolderLease(folder.lock, node="another node")
    assert worker.acquire()
    write_status(folder, RUNNING, generation=worker.generation)
    settle(store, ended, max_attempts=3, submitted=worker.generation)
    assert store.read("a").status.state is State.RUNNING, "the status is of a worker before it"
    settle(store, ended, max_attempts=3)
    status = store.read("a").status
    assert (status.state, status.cause, status.failures) == (state, cause, failures)
    with pytest.raises(StaleLeaseError):
        write_status(folder, RUNNING, generation=worker.generation)


def test_a_cancelled_attempt_is_no_failure() -> None:
    after = classify_end(RUNNING, Ended("a", signal=9, is_cancelled=True), step=0, max_attempts=1)
    assert after == Status(State.PENDING)


def test_a_trial_that_another_worker_runs_is_left_alone(tmp_path: Path) -> None:
    store = FolderTrialStore(tmp_path / "trials")
    folder = store.folder("a")
    folder.path.mkdir(parents=True)
    write_status(folder, RUNNING, generation=1)
    lock = FileLock(folder.lock)
    assert lock.acquire()
    settle(store, Ended("a", signal=9), max_attempts=1)
    assert read_record(folder.status, Status) == replace(RUNNING, generation=1)
    lock.release()
    settle(store, Ended("a", signal=9), max_attempts=1)
    assert store.read("a").status.state is State.FAILED
