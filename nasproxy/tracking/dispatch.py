"""Send the events of a controller to its trackers: at once, or beside the controller in a thread for each."""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial

from nasproxy.errors import NasproxyError, describe_error
from nasproxy.tracking.events import Event, StageProgressed, TrackerFailed
from nasproxy.tracking.tracker import SteppedTracker, Tracker

CLOSE_SECONDS = 180.0
"""Longest wait at the end for a tracker that finishes no event, and no step of its work, meanwhile."""


class Trackers:
    """Sends every event to the trackers in front at once, and to each other tracker in its thread.

    A slow tracker in a thread delays neither the controller nor other trackers. A tracker that raises an error, in
    front or in a thread, receives no more events: all others receive `TrackerFailed`, which the console prints, and
    the study continues.
    """

    def __init__(
        self, front: Mapping[str, Tracker], others: Mapping[str, Tracker], *, close_seconds: float = CLOSE_SECONDS
    ) -> None:
        """Start the threads.

        Args:
            front: Trackers that render each event before the controller continues, such as the console, by the names
                that messages give them.
            others: Further trackers, by name.
            close_seconds: Longest wait at the end for a tracker that finishes no event, and no step of its work,
                meanwhile.
        """
        self._front = dict(front)
        self._turn = threading.Lock()  # the threads report failures to the console too
        self._close_seconds = close_seconds
        self._threads = [_TrackerThread(name, tracker, self._report) for name, tracker in others.items()]

    def receive(self, event: Event) -> None:
        """Give the event to the trackers in front, and leave it to the threads of the others."""
        failed = {}
        with self._turn:
            for name, tracker in self._front.items():
                problem = _find_problem(partial(tracker.receive, event))
                if problem is not None:
                    failed[name] = problem
                    _find_problem(tracker.close)  # the first error says what happened
            for name in failed:
                del self._front[name]
        for thread in self._threads:
            thread.add(event)
        for name, problem in failed.items():
            self._report(name, problem)

    def close(self) -> None:
        """Wait until every tracker has rendered its events or finishes none for too long; close those in front.

        An error of a tracker in front is ignored: no other tracker is left to report it.
        """
        try:
            for thread in self._threads:
                thread.end()
            for thread in self._threads:
                if not thread.wait(self._close_seconds):
                    self._report(
                        thread.name,
                        f"it has made no progress for {self._close_seconds:g} s, so that its last events are missing "
                        f"there; the study has them",
                    )
        finally:
            for tracker in self._front.values():
                _find_problem(tracker.close)

    def _report(self, tracker: str, problem: str) -> None:
        self.receive(TrackerFailed(tracker, f"tracker {tracker} stopped, and the study continues: {problem}"))


class _TrackerThread:
    """One tracker with its queue of events."""

    def __init__(self, name: str, tracker: Tracker, report: Callable[[str, str], None]) -> None:
        self.name = name
        self._tracker = tracker
        self._report = report
        self._events: deque[Event] = deque()
        self._changed = threading.Condition()
        self._has_ended = False
        self._n_finished = 0
        self._problem: str | None = None
        # A daemon, so that a tracker that waits for a dead network does not keep the program alive.
        self._thread = threading.Thread(target=self._run, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def add(self, event: Event) -> None:
        """Queue an event; progress replaces waiting progress, so that a slow tracker's queue stays short."""
        with self._changed:
            if self._has_ended:
                return
            if self._events and isinstance(event, StageProgressed) and isinstance(self._events[-1], StageProgressed):
                self._events.pop()
            self._events.append(event)
            self._changed.notify()

    def end(self) -> None:
        """Accept no more events."""
        with self._changed:
            self._has_ended = True
            self._changed.notify()

    def wait(self, seconds: float) -> bool:
        """Wait until the tracker is closed; return False once it has made no progress for `seconds`."""
        while self._thread.is_alive():
            before = self._n_finished
            self._thread.join(seconds)
            if self._thread.is_alive() and self._n_finished == before:
                return False
        return True

    def _run(self) -> None:
        self._guard(self._render)
        self._guard(self._tracker.close)

    def _render(self) -> None:
        while (event := self._take()) is not None:
            self._tracker.receive(event)
            self._n_finished += 1
            while isinstance(self._tracker, SteppedTracker) and self._tracker.send_next():
                self._n_finished += 1

    def _guard(self, work: Callable[[], None]) -> None:
        """Do the tracker's work; an error ends it and is reported, once if it is closed with the same error."""
        problem = _find_problem(work)
        if problem is not None:
            self.end()
            if problem != self._problem:
                self._problem = problem
                self._report(self.name, problem)

    def _take(self) -> Event | None:
        """Wait for the next event; None after the last one."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._has_ended)
            return self._events.popleft() if self._events else None


def _find_problem(work: Callable[[], None]) -> str | None:
    """Do a tracker's work and return what its error says; None without one."""
    try:
        work()
    except (Exception, SystemExit) as error:  # whatever a tracker does, the study continues
        return str(error) if isinstance(error, NasproxyError) else describe_error(error)
    return None
