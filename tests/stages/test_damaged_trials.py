"""Damaged trials in the loop that runs stages, and workers that lose their trial, on a real backend."""

import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.train_until import TrainUntil
from nasproxy.execution.backends.backend import BackendContext
from nasproxy.execution.backends.local import LocalBackend
from nasproxy.execution.work_order import OrderTemplate
from nasproxy.stages import runner
from nasproxy.stages.runner import Runtime
from nasproxy.storage.folder_leases import FolderLease
from nasproxy.storage.locks import FileLock, is_locked
from nasproxy.storage.trial_files import write_status
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.storage.trial_stores import FolderTrialStore
from nasproxy.testing.backend_contract import make_spec
from nasproxy.testing.backend_driver import BackendDriver
from nasproxy.tracking.events import Event, Noted
from nasproxy.tracking.tracker import NullTracker
from nasproxy.trials.records import Cause, Request, State, Status, TrialRecord
from nasproxy.trials.spec import TrialSpec

MakeRuntime = Callable[..., Runtime]


class Messages(NullTracker):
    """Tracker that keeps all messages."""

    def __init__(self) -> None:
        super().__init__(study=Path())
        self.messages: list[str] = []

    def receive(self, event: Event) -> None:
        if isinstance(event, Noted):
            self.messages.append(event.message)


def train(runtime: Runtime, *specs: TrialSpec, until: int = 100) -> tuple[list[TrialRecord], list[str]]:
    tracker = Messages()
    runner.run_stage(TrainUntil(specs, until), replace(runtime, tracker=tracker))
    return [runtime.store.read_alone(spec.key) for spec in specs], tracker.messages


def empty_metrics(folder: TrialFolder) -> None:
    folder.metrics.write_bytes(b"")


def cut_status(folder: TrialFolder) -> None:
    folder.status.write_bytes(folder.status.read_bytes()[:10])


def link_log(folder: TrialFolder) -> None:
    folder.log.unlink()
    folder.log.symlink_to(folder.path.parent.parent / "elsewhere")


@pytest.mark.parametrize(
    ("damage", "until", "reason"),
    [
        (empty_metrics, 100, r"metrics.jsonl cannot be read: it has 0 checks, and the trial had 10"),
        (cut_status, 40, r"status.json cannot be read: "),
        (link_log, 40, r"worker.log cannot be read: it is a symbolic link"),
    ],
)
def test_a_damaged_trial_begins_again_and_the_others_are_left_alone(
    tmp_path: Path, make_runtime: MakeRuntime, damage: Callable[[TrialFolder], None], until: int, reason: str
) -> None:
    damaged, sound = make_spec(0), make_spec(1)
    train(make_runtime(tmp_path), damaged, sound, until=until)
    folder = TrialFolder(tmp_path / "trials" / damaged.key)
    damage(folder)
    (record, other), messages = train(make_runtime(tmp_path), damaged, sound)
    assert [check.step for check in record.checks] == list(damaged.check_steps)
    assert (record.status.state, other.status.state) == (State.DONE, State.DONE)
    (message,) = [message for message in messages if "begins again" in message]
    assert re.match(rf"trial {damaged.key} begins again: .*{reason}.*\. Its files are in ", message)
    assert (tmp_path / "trials" / "damaged" / f"{damaged.key}-1").is_dir()
    assert not (tmp_path / "elsewhere").exists()


def test_a_damaged_checkpoint_starts_the_trial_again_and_its_checks_stay(
    tmp_path: Path, make_runtime: MakeRuntime
) -> None:
    spec = make_spec()
    (before,), _ = train(make_runtime(tmp_path), spec, until=40)
    folder = TrialFolder(tmp_path / "trials" / spec.key)
    (folder.checkpoints / "position.json").write_text("{")
    runtime = make_runtime(tmp_path, max_attempts=3)
    (record,), _ = train(runtime, spec)
    assert record.status.state is State.DONE
    assert record.checks[:4] == before.checks
    assert [check.step for check in record.checks] == list(spec.check_steps)
    assert [path.name for path in folder.path.glob("checkpoints*/position.json")] == ["position.json"] * 2
    assert "training anew" in folder.log.read_text()


def test_a_checkpoint_with_which_a_trial_has_made_progress_since_it_crashed_is_kept(
    tmp_path: Path, make_runtime: MakeRuntime
) -> None:
    spec, folder = make_spec(), TrialFolder(tmp_path / "trials" / make_spec().key)
    train(make_runtime(tmp_path), spec, until=40)
    crashed = Status(State.PAUSED, failures=2, failed_at_step=20, cause=Cause.CRASH)
    write_status(folder, crashed, generation=9)
    (record,), _ = train(make_runtime(tmp_path), spec)
    assert record.status.state is State.DONE
    assert not list(folder.path.glob("checkpoints.damaged*"))


class DamagingStore(FolderTrialStore):
    """A store whose first request finds a folder in its place."""

    is_damaged = False

    def request(self, key: str, request: Request) -> None:
        if not self.is_damaged:
            self.is_damaged = True
            (self.folder(key).request / "x").mkdir(parents=True)
        super().request(key, request)


def test_a_trial_that_cannot_be_requested_begins_again(tmp_path: Path, make_runtime: MakeRuntime) -> None:
    runtime = replace(make_runtime(tmp_path), store=DamagingStore(tmp_path / "trials"))
    (record,), messages = train(runtime, make_spec())
    assert record.status.state is State.DONE
    assert any("begins again" in message and "request.json" in message for message in messages)


def stop_outside_guard(worker: int, folder: TrialFolder) -> None:
    """Stop a worker at a moment at which it does not hold its guard, for which a take-over would wait."""
    while True:
        os.kill(worker, signal.SIGSTOP)
        while Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.001)
        if not is_locked(folder.lock.with_suffix(".guard")):
            return
        os.kill(worker, signal.SIGCONT)
        time.sleep(0.01)


def test_a_worker_that_wakes_after_another_took_over_its_trial_writes_nothing_and_ends(tmp_path: Path) -> None:
    store, spec = FolderTrialStore(tmp_path / "trials"), make_spec(check_seconds=0.3)
    folder = store.folder(spec.key)
    backend = LocalBackend(context=BackendContext(store, tmp_path), slots=1)
    driver = BackendDriver(backend, store, OrderTemplate(tmp_path))
    try:
        driver.submit(spec)
        driver.poll_until_checked(spec)
        worker = FileLock(folder.lock).owner_pid()
        assert worker is not None
        stop_outside_guard(worker, folder)
        lease = FolderLease(folder.lock, ttl_seconds=0.2, node="elsewhere")
        assert lease.acquire(wait_seconds=30)
        taken = TrialRecord(Status(State.PAUSED), store.read(spec.key).checks)
        store.write(spec.key, taken, generation=lease.generation)
        os.kill(worker, signal.SIGCONT)
        deadline = time.monotonic() + 30
        while driver.live:
            assert time.monotonic() < deadline
            driver.poll(0.05)
        assert store.read(spec.key) == taken
        assert store.read(spec.key).status.generation == lease.generation
        assert "needs generation 2, got 1" in folder.log.read_text()
        assert store.read(spec.key).status.cause is not Cause.LOST
    finally:
        backend.close()
