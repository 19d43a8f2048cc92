"""Append a study's events to its store: in a folder, to the file `events.jsonl`."""

from collections import deque
from contextlib import suppress

from nasproxy.errors import StorageUnavailableError
from nasproxy.storage.study_stores import StudyStore
from nasproxy.tracking.events import Event, StageProgressed, TrialEnded, TrialStarted, parse_line, to_json
from nasproxy.trials.records import State

PROGRESS_SECONDS = 10.0
"""Shortest time between two lines of progress while a stage does the same thing."""


class EventLog:
    """Appends every event as a line, shared by the jobs of a sweep and continued by a resumed study.

    Progress is written when the stage or its activity changes, else at most every `PROGRESS_SECONDS`; the start and the
    end of an attempt are written once, also if they are received again after a restart. What cannot be written because
    the file system does not answer is written with the next event, or at the end.
    """

    def __init__(self, study: StudyStore) -> None:
        """Begin or continue the events of a study."""
        self._study = study
        self._read_to = 0
        self._shown: StageProgressed | None = None
        self._started: dict[str, float] = {}
        self._ended: dict[str, tuple[int, State, int, str | None]] = {}
        self._waiting: deque[Event] = deque()

    def receive(self, event: Event) -> None:
        """Append the event, unless it is progress shortly after other progress, or of a trial and in the file."""
        if isinstance(event, StageProgressed):
            if not self._is_due(event):
                return
            self._shown = event
        self._waiting.append(event)
        with suppress(StorageUnavailableError):
            self._append_waiting()

    def close(self) -> None:
        """Append what could not be written before.

        Raises:
            StorageUnavailableError: It still cannot be written.
        """
        self._append_waiting()

    def _append_waiting(self) -> None:
        while self._waiting:
            self._append(self._waiting[0])
            self._waiting.popleft()

    def _append(self, event: Event) -> None:
        lines, self._read_to = self._study.read_events(self._read_to)
        for line in lines:
            self._remember(parse_line(line))
        if not self._has(event):
            self._study.append_event(to_json(event))

    def _has(self, event: Event) -> bool:
        if isinstance(event, TrialStarted):
            return self._started.get(event.key) == event.at
        return isinstance(event, TrialEnded) and self._ended.get(event.key) == _describe_end(event)

    def _remember(self, event: Event | None) -> None:
        if isinstance(event, TrialStarted):
            self._started[event.key] = event.at
        elif isinstance(event, TrialEnded):
            self._ended[event.key] = _describe_end(event)

    def _is_due(self, event: StageProgressed) -> bool:
        if self._shown is None:
            return True
        last, now = self._shown.progress, event.progress
        is_same = (last.stage, last.detail) == (now.stage, now.detail)
        return not is_same or abs(event.at - self._shown.at) >= PROGRESS_SECONDS  # a clock may be set back


def _describe_end(event: TrialEnded) -> tuple[int, State, int, str | None]:
    return event.step, event.state, event.failures, event.retried_as
