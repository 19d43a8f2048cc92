import threading
import time
from dataclasses import dataclass, field

import pytest

from nasproxy.errors import CorruptFileError
from nasproxy.tracking.dispatch import Trackers
from nasproxy.tracking.events import Event, Noted, Progress, StageEnded, StageProgressed, TrackerFailed


@dataclass
class Kept:
    """Tracker that keeps what it receives, once `is_open` is set, and may fail."""

    error: BaseException | None = None
    closing_error: BaseException | None = None
    is_open: threading.Event = field(default_factory=threading.Event)
    events: list[Event] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)
    closed: threading.Event = field(default_factory=threading.Event)

    def receive(self, event: Event) -> None:
        self.is_open.wait()
        self.threads.add(threading.current_thread().name)
        if self.error is not None:
            raise self.error
        self.events.append(event)

    def close(self) -> None:
        self.closed.set()
        if self.closing_error is not None:
            raise self.closing_error

    @property
    def is_closed(self) -> bool:
        return self.closed.is_set()

    @property
    def messages(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, Noted | TrackerFailed)]


class KeptInSteps(Kept):
    """Tracker that an event leaves steps of work, each shorter than the limit of `Trackers` and longer together."""

    steps_left = 8
    step_seconds = 0.1

    def send_next(self) -> bool:
        if self.steps_left == 0:
            return False
        time.sleep(self.step_seconds)
        self.steps_left -= 1
        return True


def opened(**options: BaseException) -> Kept:
    tracker = Kept(**options)
    tracker.is_open.set()
    return tracker


def test_every_tracker_receives_all_events_in_order_and_is_closed() -> None:
    console, csv = opened(), opened()
    trackers = Trackers({"console": console}, {"csv": csv})
    sent = [Noted(str(number)) for number in range(100)]
    for event in sent:
        trackers.receive(event)
    trackers.close()
    assert console.events == csv.events == sent
    assert console.is_closed
    assert csv.is_closed
    assert (console.threads, csv.threads) == ({"MainThread"}, {"tracker csv"})


def test_a_slow_tracker_delays_neither_the_controller_nor_other_trackers() -> None:
    console, slow, fast = opened(), Kept(), opened()
    trackers = Trackers({"console": console}, {"slow": slow, "fast": fast})
    for number in range(10):
        trackers.receive(Noted(str(number)))
    assert len(console.events) == 10
    assert slow.events == []
    slow.is_open.set()
    trackers.close()
    assert slow.messages == fast.messages == [str(number) for number in range(10)]


def test_progress_that_waits_is_replaced_by_newer_progress() -> None:
    slow = Kept()
    trackers = Trackers({"console": opened()}, {"slow": slow})
    trackers.receive(Noted("first"))
    for step in range(1000):
        trackers.receive(StageProgressed(Progress("variance", steps_done=step)))
    trackers.receive(StageEnded("variance"))
    slow.is_open.set()
    trackers.close()
    shown = [event.progress.steps_done for event in slow.events if isinstance(event, StageProgressed)]
    assert shown[-1] == 999
    assert len(shown) <= 2, "one may have been taken before the next came"
    assert isinstance(slow.events[-1], StageEnded)


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (CorruptFileError("trials.csv needs the columns a, b: move it away"), "trials.csv needs the columns a, b"),
        (OSError("No space left on device"), "OSError: No space left on device"),
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_a_tracker_that_fails_is_closed_and_reported_once_while_the_others_go_on(
    error: BaseException, problem: str
) -> None:
    console, bad, good = opened(), opened(error=error, closing_error=error), opened()
    trackers = Trackers({"console": console}, {"bad": bad, "good": good})
    for number in range(5):
        trackers.receive(Noted(str(number)))
    trackers.close()
    (failed,) = [event for event in console.events if isinstance(event, TrackerFailed)]
    assert failed.tracker == "bad"
    assert failed.message.startswith(f"tracker bad stopped, and the study continues: {problem}")
    assert [message for message in console.messages if message != failed.message] == list("01234")
    assert [message for message in good.messages if message != failed.message] == list("01234")
    assert bad.is_closed


def test_a_tracker_that_fails_while_it_closes_is_reported() -> None:
    console = opened()
    Trackers({"console": console}, {"bad": opened(closing_error=OSError("No space left on device"))}).close()
    (message,) = console.messages
    assert message.startswith("tracker bad stopped, and the study continues: OSError: No space left on device")


def test_a_tracker_that_hangs_is_left_behind_with_a_warning() -> None:
    console, hung, good = opened(), Kept(), opened()
    trackers = Trackers({"console": console}, {"hung": hung, "good": good}, close_seconds=0.05)
    trackers.receive(Noted("a line"))
    trackers.close()
    assert good.closed.wait(60), "it is closed, whether or not it was too late for the trackers' short wait"
    assert console.is_closed
    assert console.messages[1].startswith("tracker hung stopped, and the study continues: it has made no progress")
    hung.is_open.set()


def test_a_tracker_that_works_for_longer_than_the_limit_in_steps_is_waited_for() -> None:
    console, uploading = opened(), KeptInSteps()
    uploading.is_open.set()
    trackers = Trackers({"console": console}, {"uploading": uploading}, close_seconds=0.4)
    trackers.receive(StageEnded("proxy_search"))
    trackers.close()
    assert console.messages == []
    assert (uploading.steps_left, uploading.is_closed) == (0, True)


@pytest.mark.parametrize(
    "error", [OSError("No space left on device"), BrokenPipeError("Broken pipe"), SystemExit("1")], ids=repr
)
def test_a_tracker_in_front_that_fails_stops_nothing_and_is_reported_to_the_others(error: BaseException) -> None:
    bad, good, csv = opened(error=error, closing_error=error), opened(), opened()
    trackers = Trackers({"console": bad, "second": good}, {"csv": csv})
    for number in range(3):
        trackers.receive(Noted(str(number)))
    trackers.close()
    for tracker in (good, csv):
        (failed,) = [event for event in tracker.events if isinstance(event, TrackerFailed)]
        assert failed.tracker == "console"
        assert failed.message.startswith("tracker console stopped, and the study continues: ")
        assert [message for message in tracker.messages if message != failed.message] == list("012")
    assert bad.events == []
    assert bad.is_closed


def test_a_tracker_in_front_that_fails_while_it_closes_raises_nothing() -> None:
    bad, csv = opened(closing_error=OSError("No space left on device")), opened()
    Trackers({"console": bad}, {"csv": csv}).close()
    assert bad.is_closed
    assert csv.is_closed
