"""How the scheduler counts attempts and treats damaged trials, beside what tests of the stages show."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from helpers.train_until import TrainUntil
from nasproxy.errors import StorageFullError
from nasproxy.execution.attempts import Ended
from nasproxy.execution.backends.backend import Capabilities
from nasproxy.execution.work_order import OrderTemplate, WorkOrder
from nasproxy.stages.scheduler import Runtime, Train, TrialScheduler
from nasproxy.storage.trial_files import write_status
from nasproxy.storage.trial_stores import FolderTrialStore
from nasproxy.testing.backend_contract import make_spec
from nasproxy.tracking.events import Event, TrialEnded, TrialStarted
from nasproxy.tracking.tracker import NullTracker
from nasproxy.trials.records import State, Status, TrialRecord

SPEC = make_spec()


class KilledLate:
    """Backend whose worker writes that it pauses, and is killed before it has ended."""

    capabilities = Capabilities(slots=1)

    def __init__(self, store: FolderTrialStore) -> None:
        self._store = store
        self._polls = 0

    def submit(self, order: WorkOrder) -> None:
        """Begin, unless the order runs."""
        if self._polls == 0:
            write_status(self._store.folder(order.key), Status(State.RUNNING), generation=1)

    def poll(self, seconds: float) -> Sequence[Ended]:
        self._polls += 1
        if self._polls == 1:
            return []
        write_status(self._store.folder(SPEC.key), Status(State.PAUSED), generation=1)
        return [Ended(SPEC.key, signal=9)]

    def cancel(self, key: str) -> None:
        """Do nothing: the worker has ended."""

    def close(self) -> None:
        """Do nothing."""


def test_a_worker_that_is_killed_after_its_order_was_extended_and_it_paused_costs_no_attempt(tmp_path: Path) -> None:
    store = FolderTrialStore(tmp_path / "trials")
    runtime = Runtime(store, KilledLate(store), NullTracker(study=tmp_path), OrderTemplate(tmp_path, max_attempts=1))
    stage = TrainUntil([SPEC], 100)
    scheduler = TrialScheduler(runtime, stage.purpose)
    scheduler.records([SPEC])
    for until in (20, 40):
        next(iter(scheduler.act(Train({SPEC.key: until}))))
    assert store.read(SPEC.key).status == Status(State.PAUSED)


def test_the_start_of_an_attempt_is_an_event_once(tmp_path: Path) -> None:
    class Events(NullTracker):
        """Keeps all events."""

        def receive(self, event: Event) -> None:
            events.append(event)

    events: list[Event] = []
    store = FolderTrialStore(tmp_path / "trials")
    runtime = Runtime(store, KilledLate(store), Events(study=tmp_path), OrderTemplate(tmp_path))
    scheduler = TrialScheduler(runtime, TrainUntil([SPEC], 100).purpose)
    scheduler.records([SPEC])
    for _ in range(2):
        next(iter(scheduler.act(Train({SPEC.key: 20}))))
    started, ended = events
    assert isinstance(started, TrialStarted)
    assert (started.key, started.stage, started.step) == (SPEC.key, "train_until", 0)
    assert isinstance(ended, TrialEnded)


class Decided(TrainUntil):
    """A stage that has decided and shows its trials."""

    def next_action(self, state: None, records: object) -> None:
        return None


@pytest.mark.parametrize("is_decided", [True, False])
def test_a_damaged_trial_is_set_aside_only_if_a_stage_trains_it_again(tmp_path: Path, is_decided: bool) -> None:
    store = FolderTrialStore(tmp_path / "trials")
    store.create(SPEC)
    write_status(store.folder(SPEC.key), Status(State.DONE), generation=1)
    (store.folder(SPEC.key).path / "status.json").write_text("{")
    files = set(store.folder(SPEC.key).path.iterdir())
    runtime = Runtime(store, KilledLate(store), NullTracker(study=tmp_path), OrderTemplate(tmp_path))
    stage = (Decided if is_decided else TrainUntil)([SPEC], 100)
    scheduler = TrialScheduler(runtime, stage.purpose)
    records = scheduler.records([SPEC])
    assert records == {SPEC.key: TrialRecord()}
    if is_decided:
        assert set(store.folder(SPEC.key).path.iterdir()) == files
    else:
        next(iter(scheduler.act(Train({SPEC.key: 100}))))
        assert (tmp_path / "trials" / "damaged" / f"{SPEC.key}-1" / "status.json").read_text() == "{"


class FilledStore(FolderTrialStore):
    """A store whose disk is full from some moment on."""

    is_full = False

    def news(self) -> set[str]:
        if self.is_full:
            raise StorageFullError("the disk is full")
        return super().news()


def test_the_first_error_is_raised_although_stopping_the_trials_fails_too(tmp_path: Path) -> None:
    store = FilledStore(tmp_path / "trials")
    runtime = Runtime(store, KilledLate(store), NullTracker(study=tmp_path), OrderTemplate(tmp_path))
    scheduler = TrialScheduler(runtime, TrainUntil([SPEC], 100).purpose)
    scheduler.records([SPEC])

    def train_and_fail() -> None:
        with scheduler.stop_trials_at_end():
            next(iter(scheduler.act(Train({SPEC.key: 20}))))
            store.is_full = True
            raise RuntimeError("the first error")

    with pytest.raises(RuntimeError, match="the first error"):
        train_and_fail()
