"""Tables of learning curves: a long-form CSV or Parquet file with one row per check of each training.

Columns: architecture, proxy, seed, step, score, train_seconds (cumulative) and, optionally, latency_ms and status.
Other columns are ignored. An invalid table is refused before anything starts; errors name the row and what to do.
"""

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nasproxy.errors import DataError
from nasproxy.execution.backends.replay.curve_files import FIRST_ROW, ID_COLUMNS, NUMBER_COLUMNS, hash_file, read_chunks
from nasproxy.trials.records import Cause, Check

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

STATUSES = ("", "done", *(cause.value for cause in Cause if cause is not Cause.SETUP))


@dataclass(frozen=True)
class TableTraining:
    """Identity of a training in a table: architecture, proxy task and seed, as in the table."""

    architecture: str
    proxy: str
    seed: int

    def __str__(self) -> str:
        return f"architecture {self.architecture!r} under proxy {self.proxy!r} with seed {self.seed}"


@dataclass(frozen=True, eq=False)
class Curve:
    """Learning curve of one training.

    Attributes:
        steps: Steps of the checks, shape (n_checks,), increasing.
        scores: Scores at the checks, shape (n_checks,), as in the table.
        train_seconds: Cumulative training time at the checks, shape (n_checks,).
        end_seconds: Training time at which it ended or failed.
        cause: Why it failed; None if it did not fail.
        latency_ms: Latency of the model; None if the table has none.
    """

    steps: Integers
    scores: Floats
    train_seconds: Floats
    end_seconds: float
    cause: Cause | None = None
    latency_ms: float | None = None

    @cached_property
    def checks(self) -> tuple[Check, ...]:
        """The checks, in order."""
        columns = (self.steps.tolist(), self.scores.tolist(), self.train_seconds.tolist())
        return tuple(Check(*values) for values in zip(*columns, strict=True))


@dataclass(frozen=True, eq=False)
class CurveTable:
    """The trainings of a table.

    Attributes:
        name: The file's name without its suffix.
        fingerprint: SHA-256 of the file.
        curves: Curve of each training, in the order of the table.
        check_steps: Check steps of a whole training, by proxy task in the order of the table.
    """

    name: str
    fingerprint: str
    curves: Mapping[TableTraining, Curve]
    check_steps: Mapping[str, tuple[int, ...]]

    @cached_property
    def seeds(self) -> Mapping[tuple[str, str], tuple[int, ...]]:
        """Seeds of each architecture under each proxy task, increasing."""
        found: dict[tuple[str, str], list[int]] = {}
        for training in self.curves:
            found.setdefault((training.architecture, training.proxy), []).append(training.seed)
        return {pair: tuple(sorted(seeds)) for pair, seeds in found.items()}

    def architectures(self, proxies: Sequence[str]) -> tuple[str, ...]:
        """List the architectures that were trained under all of these proxy tasks, in the order of the table."""
        every = dict.fromkeys(training.architecture for training in self.curves)
        return tuple(name for name in every if all((name, proxy) in self.seeds for proxy in proxies))


def read_table(path: str | Path, metric: str = "score") -> CurveTable:
    """Read a table of learning curves; a file that was read last and has not changed is not read again.

    Args:
        path: A `.csv` or `.parquet` file.
        metric: Name of the column of the scores; `score` if there is no such column.

    Raises:
        DataError: The file cannot be read, or a row or column is invalid.
        MissingExtraError: It is a Parquet file and pyarrow is not installed.
    """
    path = Path(path)
    try:
        stat = path.stat()
        return _read_version(path, metric, (stat.st_mtime_ns, stat.st_size, stat.st_ino))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(
            f"backend.table needs a file with a table of learning curves, got {path} ({reason}): set the path of a "
            f"CSV or Parquet file"
        ) from error


@lru_cache(maxsize=1)
def _read_version(path: Path, metric: str, stamp: tuple[int, ...]) -> CurveTable:
    """Read a table; `stamp` tells versions of the file apart, for the cache."""
    rows = _Rows(path, read_chunks(path, metric))
    digest = hash_file(path)
    curves, check_steps = rows.group_trainings()
    return CurveTable(path.stem, digest, curves, check_steps)


class _Rows:
    """Columns of a table as arrays, one value per row; checks them and raises errors that name the row."""

    def __init__(self, path: Path, chunks: Iterator[Mapping[str, Sequence[str]]]) -> None:
        self._path = path
        self._names: dict[str, dict[str, int]] = {name: {} for name in (*ID_COLUMNS, "status")}
        columns: dict[str, list[Any]] = {}
        first = 0
        for chunk in chunks:
            length = len(chunk["step"])
            for name, codes in self._names.items():
                texts = chunk.get(name) or [""] * length
                columns.setdefault(name, []).append(self._encode_texts(name, codes, texts, first))
            for name in NUMBER_COLUMNS:
                values = chunk.get(name) or [""] * length
                columns.setdefault(name, []).append(self._parse_numbers(name, values, first))
            first += length
        if not first:
            raise DataError(f"{path} needs a row for each check of each training, got none below its header: add rows")
        self._columns = {name: np.concatenate(parts) for name, parts in columns.items()}
        self._causes = [Cause(s) if s not in ("", "done") else None for s in self._names["status"]]
        self._has_failed = np.array([cause is not None for cause in self._causes])[self._columns["status"]]

    def group_trainings(self) -> tuple[dict[TableTraining, Curve], dict[str, tuple[int, ...]]]:
        """Group the rows into the curve of each training, and find the check steps of each proxy task.

        Raises:
            DataError: A row is invalid.
        """
        self._check_numbers()
        order = self._sort_rows()
        is_first = np.ones(len(order), dtype=np.bool_)
        ids = np.stack([self._columns[name][order] for name in ID_COLUMNS])
        is_first[1:] = np.any(ids[:, 1:] != ids[:, :-1], axis=0)
        self._check_successive_rows(order, is_first)
        begins = np.flatnonzero(is_first)
        ends = np.append(begins[1:], len(order))
        curves = dict(self._make_curves(order, begins, ends))
        return curves, self._find_check_steps(curves, [order[a:b] for a, b in zip(begins, ends, strict=True)])

    def _sort_rows(self) -> Integers:
        """Sort rows by first appearance of their training, then by step; a failure without a step comes last."""
        columns = self._columns
        step = np.where(np.isnan(columns["step"]), np.inf, columns["step"])
        return np.lexsort((self._has_failed, step, *(columns[name] for name in reversed(ID_COLUMNS))))

    def _make_curves(self, order: Integers, begins: Integers, ends: Integers) -> Iterator[tuple[TableTraining, Curve]]:
        columns, names = self._columns, {name: list(texts) for name, texts in self._names.items()}
        step, score = columns["step"][order], columns["score"][order]
        seconds, latency = columns["train_seconds"][order], columns["latency_ms"][order]
        has_latency = not np.all(np.isnan(latency))
        whole = np.nan_to_num(step).astype(np.int64)
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            architecture, proxy, seed = (names[name][columns[name][order[begin]]] for name in ID_COLUMNS)
            last = end - 1 if np.isnan(score[end - 1]) else end  # a failure without a score is not a check
            known = seconds[begin:end] if np.isnan(seconds[end - 1]) else seconds[end - 1 : end]
            yield (
                TableTraining(architecture, proxy, int(seed)),
                Curve(
                    steps=whole[begin:last],
                    scores=score[begin:last],
                    train_seconds=seconds[begin:last],
                    end_seconds=float(np.nanmax(known, initial=0.0)),
                    cause=self._causes[columns["status"][order[end - 1]]],
                    latency_ms=_compute_median(latency[begin:end]) if has_latency else None,
                ),
            )

    def _encode_texts(self, name: str, codes: dict[str, int], texts: Sequence[str], first: int) -> Integers:
        """Encode texts as integers, numbered by first appearance."""
        found: list[int] = []
        for text in texts:
            if text not in codes:
                self._check_text(name, text, first + len(found))
                codes[text] = len(codes)
            found.append(codes[text])
        return np.array(found, dtype=np.int64)

    def _check_text(self, name: str, text: str, place: int) -> None:
        if name == "status" and text not in STATUSES:
            raise self._make_row_error(
                place, f"status must be one of {', '.join(STATUSES[1:])} or empty, got {text!r}", "use one of these"
            )
        if name in ("architecture", "proxy") and not text:
            raise self._make_row_error(place, f"{name} must not be empty, got nothing", "fill it in")
        if name == "seed":
            try:
                is_same = str(int(text)) == text
            except ValueError:
                is_same = False
            if not is_same:
                raise self._make_row_error(place, f"seed must be a whole number, got {text!r}", "use numbers as seeds")

    def _parse_numbers(self, name: str, values: Sequence[str], first: int) -> Floats:
        """Parse numbers; empty texts become NaN."""
        try:
            return np.array([value or "nan" for value in values], dtype=np.float64)
        except ValueError:
            place = next(i for i, value in enumerate(values) if not _is_number(value or "nan"))
            raise self._make_row_error(
                first + place, f"{name} must be a number, got {values[place]!r}", "remove the text from the column"
            ) from None

    def _check_numbers(self) -> None:
        columns, is_check = self._columns, ~(self._has_failed & np.isnan(self._columns["score"]))
        for name in ("step", "score", "train_seconds"):
            self._refuse_where(
                is_check & np.isnan(columns[name]),
                f"{name} must be a number, got nothing or NaN",
                "remove the row, or set `status` if the training failed there (nan, oom, crash or lost)",
            )
            self._refuse_where(np.isinf(columns[name]), f"{name} must be finite, got infinity", "remove the row")
        step, seconds, latency = columns["step"], columns["train_seconds"], columns["latency_ms"]
        lowest = np.where(is_check, 1, 0)
        self._refuse_where(
            (step < lowest) | (step != np.floor(step)) & ~np.isnan(step),
            "step must be a whole number of at least 1, got {step:g}",
            "count finished optimizer steps or epochs from 1",
        )
        self._refuse_where(
            is_check & (seconds <= 0),
            "train_seconds must be above 0, got {train_seconds:g}",
            "use the cumulative training time in seconds, or the step if time was not logged",
        )
        self._refuse_where(latency <= 0, "latency_ms must be above 0, got {latency_ms:g}", "leave it empty if unknown")

    def _check_successive_rows(self, order: Integers, is_first: npt.NDArray[np.bool_]) -> None:
        """Check each row of a training against the row before it."""
        follows = ~is_first[1:]
        before, after = order[:-1], order[1:]
        step, seconds = self._columns["step"], self._columns["train_seconds"]
        is_check = ~np.isnan(self._columns["score"])
        self._refuse_rows(
            after[follows & is_check[after] & (step[after] == step[before])],
            "a training must have one check per step, got step {step:g} of {training} twice",
            "remove one of the two rows, or give the second training another seed",
        )
        self._refuse_rows(
            after[follows & (seconds[after] < seconds[before])],
            "train_seconds must not decrease, got {train_seconds:g} at step {step:g} of {training}, less than before",
            "use the time since the start of the training, not the time of each step",
        )
        self._refuse_rows(
            before[follows & self._has_failed[before]],
            "only the last row of a training may have a failure as status, got later rows of {training}",
            "remove the rows after the failure",
        )

    def _find_check_steps(
        self, curves: Mapping[TableTraining, Curve], parts: Sequence[Integers]
    ) -> dict[str, tuple[int, ...]]:
        """Find the check steps of each proxy task, and check that all its trainings have them."""
        step_counts: dict[str, Counter[bytes]] = {proxy: Counter() for proxy in self._names["proxy"]}
        for training, curve in curves.items():
            if curve.cause is None:
                step_counts[training.proxy][curve.steps.tobytes()] += 1
        for proxy, counted in step_counts.items():
            if not counted:
                raise DataError(
                    f"{self._path}: proxy {proxy!r} needs a training that did not fail, got none: remove the proxy"
                )
        usual = {
            proxy: np.frombuffer(counted.most_common(1)[0][0], dtype=np.int64) for proxy, counted in step_counts.items()
        }
        for (training, curve), rows in zip(curves.items(), parts, strict=True):
            self._check_same_steps(training, curve, usual[training.proxy], rows)
        return {proxy: tuple(steps.tolist()) for proxy, steps in usual.items()}

    def _check_same_steps(self, training: TableTraining, curve: Curve, usual: Integers, rows: Integers) -> None:
        wanted = usual if curve.cause is None else usual[: len(curve.steps)]
        if curve.steps.tobytes() == wanted.tobytes():
            return
        shared = min(len(curve.steps), len(wanted))
        differs = np.flatnonzero(curve.steps[:shared] != wanted[:shared])
        if differs.size:
            place = int(differs[0])
            found = f"got step {curve.steps[place]} instead of {wanted[place]}"
        else:
            place = min(shared, len(curve.steps) - 1)
            found = f"got {len(curve.steps)} checks instead of {len(wanted)}"
        raise self._make_row_error(
            int(rows[place]),
            f"trainings of one proxy need the same steps, {found} ({training})",
            "set `status` if it failed (oom, nan, crash or lost), or remove the training or the additional checks",
        )

    def _refuse_where(self, is_wrong: npt.NDArray[np.bool_], message: str, remedy: str) -> None:
        self._refuse_rows(np.flatnonzero(is_wrong), message, remedy)

    def _refuse_rows(self, places: Integers, message: str, remedy: str) -> None:
        """Raise an error about the first of these rows, if there are any."""
        if not places.size:
            return
        place = int(places.min())
        values = {name: float(self._columns[name][place]) for name in NUMBER_COLUMNS}
        architecture, proxy, seed = (list(self._names[name])[self._columns[name][place]] for name in ID_COLUMNS)
        training = TableTraining(architecture, proxy, int(seed))
        raise self._make_row_error(place, message.format(training=training, **values), remedy)

    def _make_row_error(self, place: int, message: str, remedy: str) -> DataError:
        return DataError(f"{self._path}, row {place + FIRST_ROW}: {message}: {remedy}")


def _compute_median(values: Floats) -> float | None:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if known.size else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
