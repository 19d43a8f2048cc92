"""Append a study's events to its file `events.jsonl`."""

from pathlib import Path

from nasproxy.tracking.events import Event, StageProgressed, TrialEnded, parse_line, to_json
from nasproxy.tracking.lines import SharedLines
from nasproxy.trials.records import State

PROGRESS_SECONDS = 10.0
"""Shortest time between two lines of progress while a stage does the same thing."""


class EventLog:
    """Appends every event as a line, shared by the jobs of a sweep and continued by a resumed study.

    Progress is written when the stage or its activity changes, else at most every `PROGRESS_SECONDS`; the end of an
    attempt is written once, also if it is received again after a restart. A line that a kill left incomplete is removed
    by the next writer.
    """

    def __init__(self, path: Path) -> None:
        """Begin or continue the file at `path`."""
        self._lines = SharedLines(path)
        self._shown: StageProgressed | None = None
        self._ended: dict[str, tuple[int, State, str | None]] = {}

    def receive(self, event: Event) -> None:
        """Append the event, unless it is progress shortly after other progress, or an end that is in the file."""
        if isinstance(event, StageProgressed):
            if not self._is_due(event):
                return
            self._shown = event
        self._append(event)

    def close(self) -> None:
        """Do nothing: no file is open between two events."""

    def _append(self, event: Event) -> None:
        with self._lines.turn() as others:
            for line in others:
                self._remember(parse_line(line, self._lines.path))
            if isinstance(event, TrialEnded) and self._ended.get(event.key) == _describe_end(event):
                return
            self._lines.append([to_json(event)])
            self._remember(event)

    def _remember(self, event: Event | None) -> None:
        if isinstance(event, TrialEnded):
            self._ended[event.key] = _describe_end(event)

    def _is_due(self, event: StageProgressed) -> bool:
        if self._shown is None:
            return True
        last, now = self._shown.progress, event.progress
        is_same = (last.stage, last.detail) == (now.stage, now.detail)
        return not is_same or abs(event.at - self._shown.at) >= PROGRESS_SECONDS  # a clock may be set back


def _describe_end(event: TrialEnded) -> tuple[int, State, str | None]:
    return event.step, event.state, event.retried_as
