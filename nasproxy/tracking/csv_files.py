"""Write every check of every trial, and the study's tables, to CSV files."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nasproxy.errors import CorruptFileError
from nasproxy.storage.files import replace_text
from nasproxy.storage.shared_lines import SharedLines
from nasproxy.tracking.cells import TableRows
from nasproxy.tracking.events import Event, ReportWritten, TrialEnded
from nasproxy.trials.proxy_task import DIMENSIONS
from nasproxy.trials.records import Check, State, TrialRecord
from nasproxy.trials.spec import TrialSpec, to_canonical_json

CHECKS = "trials"
FIELDS = (
    *("key", "split", "seed"),
    *DIMENSIONS,
    *(
        "overrides",
        "architecture",
        "micro_batch",
        "step",
        "score",
        "train_seconds",
        "metrics",
        "state",
        "cause",
        "replaced_by",
    ),
)


class CsvTracker:
    """Writes `tracking/trials.csv`, a row for each check, and `tracking/TABLE.csv` for each table of the study.

    A row's state is the trial's state when the row was written. A failure without a new check gets a row
    without step and score, with the key of the retry, if any. The file is continued after a restart and
    shared by the jobs of a sweep: no check is written twice.
    """

    def __init__(self, *, study: Path) -> None:
        """Create or continue the files.

        Args:
            study: The study's folder.
        """
        self._folder = study / "tracking"
        self._lines = SharedLines(self._folder / f"{CHECKS}.csv")
        self._has_header = False
        self._last_step: dict[str, int] = {}
        self._failed: set[str] = set()

    def receive(self, event: Event) -> None:
        """Append the checks of a trial that are not in the file yet; write each table, replacing its previous version.

        Raises:
            CorruptFileError: The file does not have the format of this version.
        """
        if isinstance(event, TrialEnded) and event.spec is not None and event.record is not None:
            self._append_checks(event.spec, event.record)
        elif isinstance(event, ReportWritten):
            self._write_tables(event.tables)

    def close(self) -> None:
        """Do nothing: no file is open between two events."""

    def _append_checks(self, spec: TrialSpec, record: TrialRecord) -> None:
        with self._lines.turn() as lines:
            self._read_rows(lines)
            rows = self._new_rows(spec, record)
            if rows:
                header = [] if self._has_header else [FIELDS]
                self._lines.append(_format_csv([*header, *rows]).splitlines())
                self._has_header = True
                last = record.checks[-1].step if record.checks else None
                self._remember_row(spec.key, last, record.status.state.value)

    def _write_tables(self, tables: Mapping[str, TableRows]) -> None:
        for name, table in tables.items():
            file_name = f"{name}_table.csv" if name == CHECKS else f"{name}.csv"
            replace_text(self._folder / file_name, _format_csv([table.columns, *table.cells]))

    def _new_rows(self, spec: TrialSpec, record: TrialRecord) -> list[list[Any]]:
        known = self._last_step.get(spec.key)
        new: list[Check | None] = [check for check in record.checks if known is None or check.step > known]
        if not new and record.is_failed and spec.key not in self._failed:
            new = [None]
        return _make_rows(spec, new, record) if new else []

    def _read_rows(self, lines: list[str]) -> None:
        if lines and not self._has_header:
            if lines[0] != ",".join(FIELDS):
                raise CorruptFileError(
                    f"{self._lines.path} needs the columns {', '.join(FIELDS)}, got {lines[0][:200]!r}: it was "
                    f"written by another version or program; move it away to start a new file"
                )
            self._has_header = True
            lines = lines[1:]
        try:
            for row in csv.DictReader(lines, fieldnames=FIELDS):
                self._remember_row(row["key"], int(row["step"]) if row["step"] else None, row["state"])
        except ValueError as error:
            raise CorruptFileError(
                f"{self._lines.path} needs an integer or an empty cell as step, got another value ({error}): "
                f"restore the file, or move it away to start a new file"
            ) from error

    def _remember_row(self, key: str, step: int | None, state: str) -> None:
        if step is not None:
            self._last_step[key] = max(step, self._last_step.get(key, step))
        if state == State.FAILED.value:
            self._failed.add(key)


def _make_rows(spec: TrialSpec, checks: Sequence[Check | None], record: TrialRecord) -> list[list[Any]]:
    task, status = spec.proxy_task, record.status
    what = [spec.key, spec.split.value, spec.seed, *(getattr(task, name) for name in DIMENSIONS)]
    what += [
        to_canonical_json(task.overrides),
        to_canonical_json(spec.architecture),
        spec.recipe.under(task).micro_batch,
    ]
    state = [status.state.value, None if status.cause is None else status.cause.value]
    state.append(record.retries[0].key if record.retries else None)
    return [[*what, *((None,) * 4 if check is None else _list_cells(check)), *state] for check in checks]


def _list_cells(check: Check) -> tuple[int, float, float, str]:
    return check.step, check.score, check.train_seconds, to_canonical_json(check.metrics)


def _format_csv(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
