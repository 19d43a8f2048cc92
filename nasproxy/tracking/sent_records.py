"""What Weights & Biases has been told, on disk, so that a resumed study tells only what is new."""

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
    """What was told of a trial: its checks up to a step, and the state it had."""

    step: int = 0
    state: State = State.PENDING


@dataclass
class SentEvents:
    """The steps of the controller's run, in order.

    Attributes:
        lines: Each event's line; None where the event is a result.
        told: How many of them have been told.
        result: Digest of the result that was told last.
    """

    lines: list[str | None] = field(default_factory=list)
    told: int = 0
    result: str | None = None


class SentRecords:
    """One JSON object a line: a trial told up to a step, an event, or how many events have been told.

    Shared by the jobs of a sweep, and by the threads of one.
    """

    def __init__(self, path: Path) -> None:
        self._lines = SharedLines(path)
        self._mutex = threading.Lock()
        self._trials: dict[str, SentTrial] = {}
        self._events = SentEvents()

    def trial(self, key: str) -> SentTrial:
        """What was told of a trial."""
        self._share([])
        return self._trials.get(key, SentTrial())

    def add_trial(self, key: str, told: SentTrial) -> None:
        """A trial was told."""
        self._share([{"trial": key, "step": told.step, "state": told.state.value}])

    def events(self) -> SentEvents:
        """All events, those of other jobs too."""
        self._share([])
        return self._events

    def add_event(self, line: str | None) -> int:
        """An event has come, a result where there is no line; returns its number, from 0."""
        return self._share([{"line": line}]) - 1

    def add_told(self, count: int, result: str | None) -> None:
        """The first `count` events have been told, the result with this digest last."""
        self._share([{"told": count, "result": result}])

    def _share(self, entries: list[dict[str, Any]]) -> int:
        """Read what others wrote, then add own entries; returns the number of events."""
        with self._mutex, self._lines.turn() as others:
            own = [json.dumps(entry) for entry in entries]
            self._lines.append(own)
            for line in [*others, *own]:
                self._take(line)
            return len(self._events.lines)

    def _take(self, line: str) -> None:
        try:
            entry = json.loads(line)
            if "trial" in entry:
                self._trials[entry["trial"]] = SentTrial(int(entry["step"]), State(entry["state"]))
            elif "told" in entry:
                self._events.told, self._events.result = int(entry["told"]), entry["result"]
            else:
                self._events.lines.append(entry["line"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptFileError(
                f"{self._lines.path} needs a JSON object in every line, got {line[:200]!r}: restore the file, or "
                f"move it away to have everything told to Weights & Biases again"
            ) from error
