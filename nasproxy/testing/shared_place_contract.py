"""The contract suites for stores that processes share: inherit a test class and provide a `place` fixture.

`SharedPlaceContract` needs a `SharedPlace`: other processes own a trial or a decision, are stopped or killed, and wake
after another owner has taken over. What they wrote is there for a process that opens the place later.

`DamagedPlaceContract` adds stored records that are damaged, for places outside of a process's memory. It needs a
`DamageablePlace`, and the names of the ways to damage a trial and a decision in `trial_damages` and
`decision_damages`; its tests run once for each.
"""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import ClassVar, Protocol

import pytest

from nasproxy.errors import CorruptFileError, CorruptTrialError, StaleLeaseError
from nasproxy.storage.leases import Lease
from nasproxy.storage.study_stores import StudyStore
from nasproxy.storage.trial_stores import TrialStore
from nasproxy.testing.store_contract import CHECKS, FAILED, OTHERS, SPEC
from nasproxy.testing.study_store_contract import Decision
from nasproxy.trials.records import State, Status, TrialPurpose, TrialRecord

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


class DamageablePlace(SharedPlace, Protocol):
    """A shared place whose stored records can be damaged for a test."""

    def damage(self, trial: str | None, way: str) -> None:
        """Damage what is stored of a trial, or with None the decision `variance/state`, so that it cannot be read.

        Args:
            trial: Key of the trial, which exists, has checks and is not worked on.
            way: One of the suite's `trial_damages` or `decision_damages`.
        """
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


def end(place: SharedPlace) -> None:
    """Write the end of a trial and a decision as the owner of their leases, and be killed at once."""
    study = place.open()
    for trial in (SPEC.key, None):
        lease = place.lease(trial, "elsewhere", 60.0)
        lease.acquire()
        write_last(study, lease, trial)
    os.kill(os.getpid(), signal.SIGKILL)


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

    def test_an_end_and_a_decision_are_there_once_they_are_written_though_their_writer_is_killed(
        self, place: SharedPlace
    ) -> None:
        place.open().trials.create(SPEC)
        process = CONTEXT.Process(target=end, args=(place,))
        process.start()
        process.join(SECONDS)
        assert process.exitcode == -signal.SIGKILL, "it has written both"
        study = place.open()
        assert read_all(study.trials, study) == (TrialRecord(Status(State.DONE), CHECKS), Decision(2))
        assert study.trials.keys() == [SPEC.key]


PURPOSE = TrialPurpose("references")
RECORDS = {
    "unfinished": TrialRecord(Status(State.RUNNING, started_at=1.0), CHECKS[:1]),
    "paused": TrialRecord(Status(State.PAUSED), CHECKS[:1]),
    "finished": TrialRecord(Status(State.DONE), CHECKS),
    "failed": TrialRecord(FAILED, CHECKS),
}


class DamagedPlaceContract(SharedPlaceContract):
    """Further behaviour of places whose stored records can be damaged.

    Attributes:
        trial_damages: Names of the ways in which the place damages a trial.
        decision_damages: Names of the ways in which it damages a decision.
    """

    trial_damages: ClassVar[Sequence[str]]
    decision_damages: ClassVar[Sequence[str]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test once for each way of damage."""
        for argument, ways in (("trial_damage", self.trial_damages), ("decision_damage", self.decision_damages)):
            if argument in metafunc.fixturenames:
                metafunc.parametrize(argument, ways)

    @pytest.mark.parametrize("state", RECORDS)
    def test_a_damaged_trial_is_set_aside_and_begins_again_and_no_other_does(
        self, place: DamageablePlace, trial_damage: str, state: str
    ) -> None:
        trials, (other, _) = place.open().trials, OTHERS
        for spec, record in ((SPEC, RECORDS[state]), (other, RECORDS["finished"])):
            trials.create(spec, PURPOSE)
            trials.read(spec.key)
            lease = place.lease(spec.key, "here", SECONDS)
            assert lease.acquire()
            trials.write(spec.key, record, generation=lease.generation)
            lease.release()
        place.damage(SPEC.key, trial_damage)
        for reader in (place.open().trials, trials):  # also for a process that has read it before
            with pytest.raises(CorruptTrialError, match=r"cannot be read: .*") as caught:
                _read_whole(reader)
            assert caught.value.key == SPEC.key
        assert trials.set_aside(SPEC.key) is not None
        trials.create(SPEC)
        for reader in (place.open().trials, trials):
            assert _read_whole(reader) == TrialRecord()
            assert reader.set_aside(SPEC.key) is None, "it is not damaged any more"
            assert reader.read(other.key) == RECORDS["finished"]
            assert reader.purposes() == {SPEC.key: PURPOSE, other.key: PURPOSE}
        later = place.lease(SPEC.key, "here", SECONDS)
        assert later.acquire()
        assert later.generation > 1, "a worker of the trial before is refused"

    def test_a_damaged_decision_is_refused_and_neither_it_nor_another_changes(
        self, place: DamageablePlace, decision_damage: str
    ) -> None:
        place.open().write(NAME, Decision(1))
        place.open().write("selection/state", Decision(2))
        place.damage(None, decision_damage)
        study = place.open()
        refusals = []
        for _ in range(2):
            with pytest.raises(CorruptFileError, match=r"cannot be read: .*\. Nothing was changed: ") as caught:
                study.read(NAME, Decision)
            refusals.append(str(caught.value))
        assert refusals[0] == refusals[1]
        assert "\n" not in refusals[0]
        assert study.read("selection/state", Decision) == Decision(2)


def _read_whole(trials: TrialStore) -> TrialRecord:
    trials.spec(SPEC.key)
    return trials.read(SPEC.key)
