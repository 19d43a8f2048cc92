"""Ledger of replayed trials, one per line, from which a resumed study replays them again."""

import json
from pathlib import Path

from nasproxy.errors import CorruptFileError
from nasproxy.execution.backends.replay.backend import CHOICE
from nasproxy.storage.files import append_line, read_lines
from nasproxy.tracking.events import Event, TrialEnded
from nasproxy.tracking.tracker import NullTracker
from nasproxy.trials.records import State, TrialRecord
from nasproxy.trials.spec import Split, TrialSpec

Trained = tuple[str, str | None, str, int]
"""Architecture, proxy (None for full training), split and seed."""


class Ledger(NullTracker):
    """Tracker that records which trials were replayed, and up to which step; their curves stay in the table."""

    def __init__(self, path: Path) -> None:
        """Open the ledger at `path`, which may exist."""
        super().__init__(study=path.parent)
        self._path = path
        self._recorded_steps: dict[Trained, int | None] = read_ledger(path)

    def receive(self, event: Event) -> None:
        """Append the trial's step to the ledger, if it differs from the last entry."""
        if isinstance(event, TrialEnded) and event.spec is not None and event.record is not None:
            self._append(event.spec, event.record)

    def _append(self, spec: TrialSpec, record: TrialRecord) -> None:
        proxy = spec.proxy_task.overrides.get("trainer.proxy")
        trained = (str(spec.architecture[CHOICE]), None if proxy is None else str(proxy), spec.split.value, spec.seed)
        until = None if record.status.state in (State.DONE, State.FAILED) else record.step
        if trained not in self._recorded_steps or self._recorded_steps[trained] != until:
            self._recorded_steps[trained] = until
            append_line(self._path, json.dumps([*trained, until], ensure_ascii=False))


def read_ledger(path: Path) -> dict[Trained, int | None]:
    """Read the last step of each replayed trial; None if the trial ended.

    Raises:
        CorruptFileError: A line is not a valid entry.
    """
    steps: dict[Trained, int | None] = {}
    try:
        for line in read_lines(path):
            architecture, proxy, split, seed, until = json.loads(line)
            steps[architecture, proxy, Split(split).value, int(seed)] = None if until is None else int(until)
    except (ValueError, TypeError) as error:
        raise CorruptFileError(
            f"{path} cannot be read: {error}. Nothing was changed: restore the file, or move the study's folder away "
            f"and run the command again, a replay takes seconds"
        ) from error
    return steps
