"""Journal of the data sent to Weights & Biases, so that a resumed study sends only new data."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nasproxy.errors import CorruptFileError
from nasproxy.storage.shared_lines import SharedLines
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
    """Journal with one JSON object per line: the study's id, a trial sent up to a step, a message, or a number sent.

    Shared by the jobs of a sweep; not thread-safe.
    """

    def __init__(self, path: Path) -> None:
        self._lines = SharedLines(path)
        self._trials: dict[str, SentTrial] = {}
        self._events = SentEvents()
        self._study_id: str | None = None

    def study_id(self) -> str:
        """Return the random id of the study, which its first reader creates."""
        if self._study_id is None:
            with self._turn():
                if self._study_id is None:
                    self._append([{"study": secrets.token_hex(8)}])
        assert self._study_id is not None
        return self._study_id

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
        with self._turn():
            self._append(entries)
        return len(self._events.lines)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the exclusive right to append, after reading the entries of others."""
        with self._lines.turn() as others:
            for line in others:
                self._apply(line)
            yield

    def _append(self, entries: list[dict[str, Any]]) -> None:
        """Append entries and apply them; only valid during a turn."""
        lines = [json.dumps(entry) for entry in entries]
        self._lines.append(lines)
        for line in lines:
            self._apply(line)

    def _apply(self, line: str) -> None:
        try:
            entry = json.loads(line)
            if "study" in entry:
                self._study_id = str(entry["study"])
            elif "trial" in entry:
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
