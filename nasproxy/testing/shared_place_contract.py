"""The contract suite for stores that processes share: inherit the test class and provide a `place` fixture.

Other processes own a trial or a decision, are stopped or killed, and wake after another owner has taken over.
"""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Protocol

import pytest

from nasproxy.errors import StaleLeaseError
from nasproxy.storage.leases import Lease
from nasproxy.storage.study_stores import StudyStore
from nasproxy.storage.trial_stores import TrialStore
from nasproxy.testing.store_contract import CHECKS, SPEC
from nasproxy.testing.study_store_contract import Decision
from nasproxy.trials.records import State, Status, TrialRecord

CONTEXT = multiprocessing.get_context("spawn")
SECONDS = 60.0
TTL_SECONDS = 0.2
NAME = "variance/state"


class SharedPlace(Protocol):
    """Where several processes find the same study; it is pickled to reach them."""

    def open(self) -> StudyStore:
        """Open the study."""
        ...

    def lease(self, trial: str | None, node: str, ttl_seconds: float) -> Lease:
        """Return the lease on a trial, or with None the study's lease `variance`, of an owner on a node."""
        ...


def write_first(study: StudyStore, lease: Lease, trial: str | None) -> None:
    """Write the first check of a trial, or a first decision, as the owner of its lease."""
    if trial is None:
        study.write(NAME, Decision(1), lease=lease)
    else:
        study.trials.write(trial, TrialRecord(Status(State.RUNNING), CHECKS[:1]), generation=lease.generation)


def write_last(study: StudyStore, lease: Lease, trial: str | None, n_checks: int = 2) -> None:
    """Write the end of a trial, or a last decision, as the owner of its lease."""
    if trial is None:
        study.write(NAME, Decision(n_checks), lease=lease)
    else:
        record = TrialRecord(Status(State.DONE), CHECKS[:n_checks])
        study.trials.write(trial, record, generation=lease.generation)


def read_all(trials: TrialStore, study: StudyStore) -> tuple[TrialRecord, Decision | None]:
    """Read what the processes write."""
    return trials.read(SPEC.key), study.read(NAME, Decision)


def own(place: SharedPlace, trial: str | None, pipe: Connection) -> None:
    """Acquire a lease and write; once woken, try to write again and to renew the lease, and release it."""
    study, lease = place.open(), place.lease(trial, "elsewhere", 60.0)
    lease.acquire()
    write_first(study, lease, trial)
    pipe.send(lease.generation)
    pipe.recv()
    for act in (partial(write_last, study, lease, trial), lease.renew):
        try:
            act()
            pipe.send("done")
        except StaleLeaseError as error:
            pipe.send(str(error))
    lease.release()
    pipe.send("released")


@contextmanager
def run_owner(place: SharedPlace, trial: str | None) -> Iterator[tuple[SpawnProcess, Connection]]:
    """Run an owner in another process during a block, from its first write on."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=own, args=(place, trial, theirs))
    process.start()
    try:
        assert ours.poll(SECONDS)
        assert ours.recv() == 1
        yield process, ours
    finally:
        process.kill()
        process.join()


class SharedPlaceContract:
    """Behaviour of places that several processes share."""

    @pytest.fixture(params=[SPEC.key, None], ids=["trial", "decision"])
    def trial(self, request: pytest.FixtureRequest) -> str | None:
        """Provide the trial that an owner works on; None for a decision of the study."""
        trial: str | None = request.param
        return trial

    def test_a_zombie_writes_nothing_once_it_was_taken_over(self, place: SharedPlace, trial: str | None) -> None:
        study = place.open()
        study.trials.create(SPEC)
        with run_owner(place, trial) as (process, pipe):
            assert process.pid is not None
            os.kill(process.pid, signal.SIGSTOP)
            lease = place.lease(trial, "here", TTL_SECONDS)
            assert not lease.acquire()
            assert lease.acquire(wait_seconds=SECONDS)
            assert lease.generation == 2
            write_last(study, lease, trial, n_checks=1)
            taken = read_all(study.trials, study)
            pipe.send("wake")
            os.kill(process.pid, signal.SIGCONT)
            for _ in range(2):
                assert pipe.poll(SECONDS)
                assert "needs generation 2, got 1: process" in pipe.recv()
            assert pipe.poll(SECONDS)
            assert pipe.recv() == "released"
            assert read_all(study.trials, study) == taken
            lease.renew()
            assert not place.lease(trial, "third", SECONDS).acquire(), "the lease was not the zombie's to release"

    def test_what_a_killed_owner_wrote_stays_and_another_goes_on(self, place: SharedPlace, trial: str | None) -> None:
        study = place.open()
        study.trials.create(SPEC)
        with run_owner(place, trial) as (process, _):
            before = read_all(study.trials, study)
            assert before != (TrialRecord(), None)
            process.kill()
            process.join()
            lease = place.lease(trial, "here", TTL_SECONDS)
            assert lease.acquire(wait_seconds=SECONDS)
            assert read_all(place.open().trials, place.open()) == before
            write_last(study, lease, trial)
            assert read_all(place.open().trials, place.open()) != before
