import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers.damaged_files import CONTENTS, replace_by_folder, replace_by_link
from nasproxy.errors import CorruptFileError, StaleLeaseError
from nasproxy.storage.folder_leases import FolderLease, hold_generation, keep_renewed
from nasproxy.storage.leases import Lease
from nasproxy.storage.locks import CONTROLLER, FileLock, is_locked
from nasproxy.storage.study_stores import FolderStudyStore, StudyStore
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.testing.lease_contract import TTL_SECONDS, LeaseContract, MakeLease
from nasproxy.testing.shared_place_contract import DamagedPlaceContract, run_owner
from nasproxy.testing.store_contract import SPEC
from nasproxy.trials.clock import Clock, VirtualClock


class TestFolderLease(LeaseContract):
    @pytest.fixture
    def make_lease(self, tmp_path: Path) -> MakeLease:
        def make(node: str, *, ttl_seconds: float = TTL_SECONDS, clock: Clock | None = None) -> Lease:
            return FolderLease(tmp_path / "x.lock", ttl_seconds=ttl_seconds, clock=clock, node=node)

        return make


FILES = ("status", "metrics", "config")
WAYS = {**CONTENTS, "folder": replace_by_folder, "link": replace_by_link}


@dataclass(frozen=True)
class Folder:
    """A study in a folder, for other processes."""

    path: Path

    def open(self) -> StudyStore:
        return FolderStudyStore(self.path)

    def lease(self, trial: str | None, node: str, ttl_seconds: float) -> Lease:
        locks = self.path / "locks" / "variance.lock"
        lock = locks if trial is None else TrialFolder(self.path / "trials" / trial).lock
        return FolderLease(lock, ttl_seconds=ttl_seconds, node=node)

    def damage(self, trial: str | None, way: str) -> None:
        if trial is None:
            WAYS[way](self.path / "variance" / "state.json")
        else:
            file, _, way = way.partition(": ")
            WAYS[way](getattr(TrialFolder(self.path / "trials" / trial), file))


class TestFolder(DamagedPlaceContract):
    trial_damages = tuple(f"{file}: {way}" for file in FILES for way in WAYS)
    decision_damages = tuple(WAYS)

    @pytest.fixture
    def place(self, tmp_path: Path) -> Folder:
        return Folder(tmp_path)


def test_a_take_over_is_seen_by_processes_that_know_no_leases(tmp_path: Path) -> None:
    first = FolderLease(tmp_path / "x.lock", node="elsewhere")
    assert first.acquire()
    second = FolderLease(tmp_path / "x.lock", ttl_seconds=0.0)
    assert second.acquire()
    first.release()
    assert is_locked(tmp_path / "x.lock")
    second.release()
    assert not is_locked(tmp_path / "x.lock")


def test_a_killed_owner_on_the_same_machine_is_taken_over_at_once_and_a_stopped_one_never(tmp_path: Path) -> None:
    place = Folder(tmp_path)
    place.open().trials.create(SPEC)
    lock = TrialFolder(tmp_path / "trials" / SPEC.key).lock
    with run_owner(place, SPEC.key) as (process, _):
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        lease = FolderLease(lock, ttl_seconds=0.0, node="elsewhere")
        assert not lease.acquire(wait_seconds=0.2)
        process.kill()
        process.join()
        assert lease.acquire()
        assert lease.generation == 2


class RenewingClock(VirtualClock):
    """A clock on which another owner renews its lease at each moment, for a while."""

    def __init__(self, owner: Lease, *, until: float) -> None:
        super().__init__()
        self._owner = owner
        self._until = until

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if self.now() < self._until:
            self._owner.renew()


def test_an_owner_on_a_machine_that_was_renamed_is_outwaited(tmp_path: Path) -> None:
    assert FolderLease(tmp_path / "x.lock", node="before").acquire()
    clock = VirtualClock()
    lease = FolderLease(tmp_path / "x.lock", ttl_seconds=30.0, clock=clock, node="after")
    assert not lease.acquire(1.0)
    assert lease.acquire_or_outwait(1.0)
    assert clock.now() == pytest.approx(30.0, abs=2.0)
    assert lease.generation == 2


def test_a_living_owner_on_another_machine_is_not_taken_over(tmp_path: Path) -> None:
    owner = FolderLease(tmp_path / "x.lock", node="elsewhere")
    assert owner.acquire()
    clock = RenewingClock(owner, until=20.0)
    lease = FolderLease(tmp_path / "x.lock", ttl_seconds=30.0, clock=clock)
    assert not lease.acquire_or_outwait(1.0)
    assert clock.now() == pytest.approx(31.0, abs=2.0), "one time to live, and no longer"


def test_an_owner_on_this_machine_is_not_waited_for(tmp_path: Path) -> None:
    assert FolderLease(tmp_path / "x.lock").acquire()
    clock = VirtualClock()
    assert not FolderLease(tmp_path / "x.lock", clock=clock).acquire_or_outwait(1.0)
    assert clock.now() < 2.0


def test_a_lease_is_renewed_as_long_as_its_owner_works_and_its_loss_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nasproxy.storage.folder_leases.RENEWAL_SECONDS", 0.01)
    path, is_lost = tmp_path / "x.lock", threading.Event()
    owner = FolderLease(path)
    assert owner.acquire()

    def read_beat() -> int:
        with hold_generation(path, None) as record:
            return record.beat

    with keep_renewed(path, owner.generation, lambda _: is_lost.set()):
        deadline = time.monotonic() + 30
        while read_beat() < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not is_lost.is_set()
        assert FolderLease(path, ttl_seconds=0.0, node="elsewhere").acquire()
        assert is_lost.wait(30)
    beat = read_beat()
    time.sleep(0.05)
    assert read_beat() == beat


def test_a_controller_that_holds_the_lease_on_a_trial_is_not_taken_for_its_worker(tmp_path: Path) -> None:
    lease = FolderLease(tmp_path / "x.lock", role=CONTROLLER)
    assert lease.acquire()
    assert lease.owner() == f"controller {os.getpid()} on {os.uname().nodename}"
    assert FileLock(tmp_path / "x.lock").owner_pid() is None
    lease.release()
    assert FolderLease(tmp_path / "x.lock").acquire()
    assert FileLock(tmp_path / "x.lock").owner_pid() == os.getpid()


@pytest.mark.parametrize("content", [b"", b"{", b"\0\0\0", b'{"schema": 99}'])
def test_a_lease_that_a_loss_of_power_damaged_is_free_and_its_generation_rises(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.lock"
    first = FolderLease(path)
    first.acquire()
    first.release()
    path.with_suffix(".lease").write_bytes(content)
    second = FolderLease(path)
    assert second.acquire()
    assert second.generation > first.generation
    with pytest.raises(StaleLeaseError, match=r"got 1"), hold_generation(path, first.generation):
        pass


@pytest.mark.parametrize("name", ["x.lock", "x.lease", "x.guard"])
def test_a_link_in_place_of_a_file_of_a_lease_is_refused_and_its_target_is_left_alone(
    tmp_path: Path, name: str
) -> None:
    target = tmp_path / "precious"
    target.write_text("text")
    (tmp_path / name).symlink_to(target)
    with pytest.raises(CorruptFileError, match=rf"{name} cannot be read: it is a symbolic link, .* move that away"):
        FolderLease(tmp_path / "x.lock").acquire()
    assert target.read_text() == "text"
    assert not is_locked(target)
