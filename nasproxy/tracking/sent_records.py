"""Journal of the data sent to Weights & Biases, so that a resumed study sends only new data."""

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nasproxy.errors import CorruptFileError
from nasproxy.tracking.lines import SharedLines
from nasproxy.trials.records import State


@dataclass(frozen=True)
class SentTrial:
    """Sent part of a trial: its checks up to `step`, None if there were none, and its state then."""

    step: int | None = None
    state: State = State.PENDING


@dataclass
class SentEvents:
    """Events of the controller's run, one step each, in order.

    Attributes:
        lines: Message of each event; None for a result.
        sent: Number of events sent.
        result: Digest of the last result sent.
    """

    lines: list[str | None] = field(default_factory=list)
    sent: int = 0
    result: str | None = None


class SentRecords:
    """Journal with one JSON object per line: a trial sent up to a step, an event, or the number of events sent.

    Shared by the jobs of a sweep, and by the threads of each.
    """

    def __init__(self, path: Path) -> None:
        self._lines = SharedLines(path)
        self._mutex = threading.Lock()
        self._trials: dict[str, SentTrial] = {}
        self._events = SentEvents()

    def trial(self, key: str) -> SentTrial:
        """Return the sent part of a trial."""
        self._exchange([])
        return self._trials.get(key, SentTrial())

    def add_trial(self, key: str, sent: SentTrial) -> None:
        """Record that a trial was sent."""
        self._exchange([{"trial": key, "step": sent.step, "state": sent.state.value}])

    def events(self) -> SentEvents:
        """Return all events, including those of other jobs."""
        self._exchange([])
        return self._events

    def add_event(self, line: str | None) -> int:
        """Record an event, a result if `line` is None; return its number, from 0."""
        return self._exchange([{"line": line}]) - 1

    def add_sent(self, count: int, result: str | None) -> None:
        """Record that the first `count` events were sent, and the digest of the last result among them."""
        self._exchange([{"told": count, "result": result}])

    def _exchange(self, entries: list[dict[str, Any]]) -> int:
        """Read the entries of others, then append `entries`; return the number of events."""
        with self._mutex, self._lines.turn() as others:
            own = [json.dumps(entry) for entry in entries]
            self._lines.append(own)
            for line in [*others, *own]:
                self._apply(line)
            return len(self._events.lines)

    def _apply(self, line: str) -> None:
        try:
            entry = json.loads(line)
            if "trial" in entry:
                step = None if entry["step"] is None else int(entry["step"])
                self._trials[entry["trial"]] = SentTrial(step, State(entry["state"]))
            elif "told" in entry:
                self._events.sent, self._events.result = int(entry["told"]), entry["result"]
            else:
                self._events.lines.append(entry["line"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptFileError(
                f"{self._lines.path} needs a JSON object in every line, got {line[:200]!r}: restore the file, or "
                f"move it away to send everything to Weights & Biases again"
            ) from error
