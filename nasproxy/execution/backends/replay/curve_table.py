"""Tables of learning curves: a long-form CSV or Parquet file with one row per check of each training.

Columns: architecture, proxy, seed, step, score, train_seconds (cumulative) and, optionally, schedule, latency_ms and
status. Other columns are ignored. An invalid table is refused before anything starts; errors name the row and what to
do.

The schedule of a training is the number of steps at whose end its learning-rate schedule ends. Most trainings are
whole: their schedule is the longest of their proxy task. Trainings on compressed schedules end earlier; a study replays
them to confirm a proxy task that it stopped there.
"""

import csv
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nasproxy.errors import DataError
from nasproxy.execution.backends.replay.curve_files import ID_COLUMNS, NUMBER_COLUMNS, Chunk, hash_file, read_chunks
from nasproxy.execution.backends.replay.training_times import compute_rise, hardly_rise
from nasproxy.trials.records import Cause, Check

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

STATUSES = ("", "done", *(cause.value for cause in Cause if cause is not Cause.SETUP))


@dataclass(frozen=True)
class TableTraining:
    """Identity of a training in a table.

    Attributes:
        architecture: Name of the architecture.
        proxy: Name of the proxy task.
        seed: Seed of the training.
        schedule: Steps of its schedule if that is compressed; None for a whole training.
    """

    architecture: str
    proxy: str
    seed: int
    schedule: int | None = None

    def __str__(self) -> str:
        compressed = "" if self.schedule is None else f" and schedule {self.schedule}"
        return f"architecture {self.architecture!r} under proxy {self.proxy!r} with seed {self.seed}{compressed}"


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
        failure: What a failed training says of its failure.
    """

    steps: Integers
    scores: Floats
    train_seconds: Floats
    end_seconds: float
    cause: Cause | None = None
    latency_ms: float | None = None
    failure: str = "failed according to the table"

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
        curves: Curve of each whole training, in the order of the table.
        check_steps: Check steps of a whole training, by proxy task in the order of the table.
        compressed: Curve of each training on a compressed schedule, in the order of the table.
    """

    name: str
    fingerprint: str
    curves: Mapping[TableTraining, Curve]
    check_steps: Mapping[str, tuple[int, ...]]
    compressed: Mapping[TableTraining, Curve] = field(default_factory=dict)

    @cached_property
    def seeds(self) -> Mapping[tuple[str, str], tuple[int, ...]]:
        """Seeds of each architecture's whole trainings under each proxy task, increasing."""
        found: dict[tuple[str, str], list[int]] = {}
        for training in self.curves:
            found.setdefault((training.architecture, training.proxy), []).append(training.seed)
        return {pair: tuple(sorted(seeds)) for pair, seeds in found.items()}

    @cached_property
    def schedules(self) -> Mapping[str, tuple[int, ...]]:
        """Compressed schedules of each proxy task that has any, increasing."""
        found = sorted({(training.proxy, training.schedule or 0) for training in self.compressed})
        return {proxy: tuple(steps for name, steps in found if name == proxy) for proxy, _ in found}

    def has_flat_times(self, proxy: str) -> bool:
        """Return whether the times of the whole trainings under a proxy task hardly rise, as times of each check do."""
        curves = (curve for training, curve in self.curves.items() if training.proxy == proxy)
        return hardly_rise(compute_rise(curve.steps, curve.train_seconds) for curve in curves)

    def find_compressed(self, architecture: str, proxy: str, schedule: int) -> Sequence[Curve]:
        """Return the curves of an architecture under a proxy task on a compressed schedule, by increasing seed."""
        return self._compressed_curves.get((architecture, proxy, schedule), ())

    @cached_property
    def _compressed_curves(self) -> Mapping[tuple[str, str, int], Sequence[Curve]]:
        found: dict[tuple[str, str, int], list[Curve]] = {}
        for training, curve in sorted(self.compressed.items(), key=lambda item: item[0].seed):
            found.setdefault((training.architecture, training.proxy, training.schedule or 0), []).append(curve)
        return found

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
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} must be UTF-8, or UTF-16 with a byte order mark, got byte 0x{error.object[error.start]:02x} that "
            f"{error.encoding} does not have here; it is probably in Windows-1252 or Latin-1: save it as UTF-8"
        ) from error
    except (OSError, csv.Error) as error:
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
    trainings, check_steps = rows.group_trainings()
    whole = {training: curve for training, curve in trainings.items() if training.schedule is None}
    compressed = {training: curve for training, curve in trainings.items() if training.schedule is not None}
    return CurveTable(path.stem, digest, whole, check_steps, compressed)


class _Rows:
    """Columns of a table as arrays, one value per row; checks them and raises errors that name the row."""

    def __init__(self, path: Path, chunks: Iterator[Chunk]) -> None:
        self._path = path
        self._names: dict[str, dict[str, int]] = {name: {} for name in (*ID_COLUMNS, "status")}
        columns: dict[str, list[Any]] = {}
        numbers: list[Integers] = []
        for chunk in chunks:
            absent = [""] * len(chunk.numbers)
            for name, codes in self._names.items():
                texts = chunk.columns.get(name) or absent
                columns.setdefault(name, []).append(self._encode_texts(name, codes, texts, chunk.numbers))
            for name in NUMBER_COLUMNS:
                values = chunk.columns.get(name)
                columns.setdefault(name, []).append(
                    np.full(len(chunk.numbers), np.nan)
                    if values is None
                    else self._parse_numbers(name, values, chunk.numbers)
                )
            numbers.append(np.array(chunk.numbers, dtype=np.int64))
        if not numbers:
            raise DataError(f"{path} needs a row for each check of each training, got none below its header: add rows")
        self._columns = {name: np.concatenate(parts) for name, parts in columns.items()}
        self._numbers = np.concatenate(numbers)
        self._causes = [Cause(s) if s not in ("", "done") else None for s in self._names["status"]]
        self._has_failed = np.array([cause is not None for cause in self._causes])[self._columns["status"]]

    def group_trainings(self) -> tuple[dict[TableTraining, Curve], dict[str, tuple[int, ...]]]:
        """Group the rows into the curve of each training, and find the check steps of each proxy task.

        Raises:
            DataError: A row is invalid.
        """
        self._check_numbers()
        lengths = self._find_lengths()
        self._check_schedules()
        order = self._sort_rows()
        is_first = np.ones(len(order), dtype=np.bool_)
        ids = np.stack([self._columns[name][order] for name in (*ID_COLUMNS, "schedule")])
        is_first[1:] = np.any(ids[:, 1:] != ids[:, :-1], axis=0)
        self._check_successive_rows(order, is_first)
        begins = np.flatnonzero(is_first)
        ends = np.append(begins[1:], len(order))
        curves = dict(self._make_curves(order, begins, ends, lengths))
        parts = [order[begin:end] for begin, end in zip(begins, ends, strict=True)]
        check_steps = self._find_check_steps(curves, parts)
        self._check_ends(curves, parts, check_steps)
        self._check_times(curves, parts)
        return curves, check_steps

    def _sort_rows(self) -> Integers:
        """Sort rows by first appearance of their training, then by step; a failure without a step comes last."""
        columns = self._columns
        step = np.where(np.isnan(columns["step"]), np.inf, columns["step"])
        ids = (columns[name] for name in reversed((*ID_COLUMNS, "schedule")))
        return np.lexsort((self._has_failed, step, *ids))

    def _find_lengths(self) -> Floats:
        """Find the steps of a whole training of each proxy task, and give them to rows without a schedule.

        They are the last check of its trainings without a schedule; if all have one, the longest schedule.
        """
        columns = self._columns
        schedule, step = columns["schedule"], np.where(np.isnan(columns["score"]), 0.0, columns["step"])
        lengths = np.zeros(len(self._names["proxy"]))
        for proxy in range(len(lengths)):
            is_of_proxy = columns["proxy"] == proxy
            is_whole = is_of_proxy & np.isnan(schedule)
            lengths[proxy] = step[is_whole].max() if is_whole.any() else schedule[is_of_proxy].max()
        columns["schedule"] = np.where(np.isnan(schedule), lengths[columns["proxy"]], schedule)
        return lengths

    def _make_curves(
        self, order: Integers, begins: Integers, ends: Integers, lengths: Floats
    ) -> Iterator[tuple[TableTraining, Curve]]:
        columns, names = self._columns, {name: list(texts) for name, texts in self._names.items()}
        step, score = columns["step"][order], columns["score"][order]
        seconds, latency = columns["train_seconds"][order], columns["latency_ms"][order]
        has_latency = not np.all(np.isnan(latency))
        whole = np.nan_to_num(step).astype(np.int64)
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            architecture, proxy, seed = (names[name][columns[name][order[begin]]] for name in ID_COLUMNS)
            last = end - 1 if np.isnan(score[end - 1]) else end  # a failure without a score is not a check
            known = seconds[begin:end] if np.isnan(seconds[end - 1]) else seconds[end - 1 : end]
            row = order[begin]
            schedule, length = columns["schedule"][row], lengths[columns["proxy"][row]]
            yield (
                TableTraining(architecture, proxy, int(seed), None if schedule == length else int(schedule)),
                Curve(
                    steps=whole[begin:last],
                    scores=score[begin:last],
                    train_seconds=seconds[begin:last],
                    end_seconds=float(np.nanmax(known, initial=0.0)),
                    cause=self._causes[columns["status"][order[end - 1]]],
                    latency_ms=_compute_median(latency[begin:end]) if has_latency else None,
                ),
            )

    def _encode_texts(self, name: str, codes: dict[str, int], texts: Sequence[str], numbers: Sequence[int]) -> Integers:
        """Encode texts as integers, numbered by first appearance."""
        known: dict[str, int] = {}
        found: list[int] = []
        for text in texts:
            if text not in known:
                read = self._read_text(name, text.strip(), numbers[len(found)])
                known[text] = codes.setdefault(read, len(codes))
            found.append(known[text])
        return np.array(found, dtype=np.int64)

    def _read_text(self, name: str, text: str, number: int) -> str:
        """Return a text in the form in which equal ones are the same."""
        if name == "status":
            if text.lower() in STATUSES:
                return text.lower()
            message = f"status must be one of {', '.join(STATUSES[1:])} or empty, got {text!r}"
            raise self._make_row_error(number, message, "use one of these")
        if name == "seed":
            seed = _read_whole_number(text)
            if seed is None:
                message = f"seed must be a whole number, got {text!r}"
                raise self._make_row_error(number, message, "use numbers as seeds")
            return str(seed)
        if not text:
            raise self._make_row_error(number, f"{name} must not be empty, got nothing", "fill it in")
        return text

    def _parse_numbers(self, name: str, values: Sequence[str], numbers: Sequence[int]) -> Floats:
        """Parse numbers; empty texts become NaN."""
        try:
            return np.array([value or "nan" for value in values], dtype=np.float64)
        except ValueError:
            texts = [value.strip() or "nan" for value in values]
            place = next((i for i, text in enumerate(texts) if not _is_number(text)), None)
            if place is None:  # only blanks were too much
                return np.array(texts, dtype=np.float64)
            text = texts[place]
            remedy = (
                "write decimals with a point, and no separator of thousands"
                if _is_number(text.replace(",", ""))
                else "remove the text from the column"
            )
            message = f"{name} must be a number, got {text!r}"
            raise self._make_row_error(numbers[place], message, remedy) from None

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
        schedule = columns["schedule"]
        self._refuse_where(
            ~np.isnan(schedule) & ((schedule < 1) | np.isinf(schedule) | (schedule != np.floor(schedule))),
            "schedule must be a whole number of at least 1, got {schedule:g}",
            "give the step at which the schedule of the training ends, or leave it empty for a whole training",
        )

    def _check_schedules(self) -> None:
        """Check that no training goes on after the end of its schedule, or has a longer one than a whole training."""
        step, schedule = self._columns["step"], self._columns["schedule"]
        is_check = ~np.isnan(self._columns["score"])
        self._refuse_where(
            is_check & (step > schedule),
            "a training must end with its schedule, got step {step:g} after the end of schedule {schedule:g}",
            "give the step at which the schedule of this training ends",
        )

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
            if curve.cause is None and training.schedule is None:
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
            if training.schedule is None:
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
            int(self._numbers[rows[place]]),
            f"trainings of one proxy need the same steps, {found} ({training})",
            "set `status` if it failed (oom, nan, crash or lost), or remove the training or the additional checks",
        )

    def _check_ends(
        self,
        curves: Mapping[TableTraining, Curve],
        parts: Sequence[Integers],
        check_steps: Mapping[str, tuple[int, ...]],
    ) -> None:
        """Check that a training that did not fail has a check at the end of its schedule, and none is too long."""
        for (training, curve), rows in zip(curves.items(), parts, strict=True):
            row, whole = rows[-1], check_steps[training.proxy][-1]
            schedule, number = int(self._columns["schedule"][row]), int(self._numbers[row])
            if schedule > whole and training.schedule is not None:
                raise self._make_row_error(
                    number,
                    f"schedule must be at most {whole}, the steps of a whole training under proxy "
                    f"{training.proxy!r}, got {schedule}",
                    "leave it empty for whole trainings",
                )
            if curve.cause is None and curve.steps[-1] != schedule:
                raise self._make_row_error(
                    number,
                    f"a training must have a check at the end of its schedule, got step {curve.steps[-1]} as the last "
                    f"one of schedule {schedule} ({training})",
                    "add that check, correct the schedule, or set `status` if it failed",
                )

    def _check_times(self, curves: Mapping[TableTraining, Curve], parts: Sequence[Integers]) -> None:
        """Check that training times rise in at least half of the trainings of each proxy task."""
        rows_by_proxy: dict[str, list[tuple[float, Integers]]] = {}
        for (training, curve), rows in zip(curves.items(), parts, strict=True):
            rise = compute_rise(curve.steps, curve.train_seconds)
            if rise is not None:
                rows_by_proxy.setdefault(training.proxy, []).append((rise, rows))
        for proxy, found in rows_by_proxy.items():
            constant = [rows for rise, rows in found if rise == 0]
            if 2 * len(constant) > len(found):
                raise self._make_row_error(
                    int(self._numbers[constant[0][-1]]),
                    f"train_seconds must rise during a training, got {len(constant)} of {len(found)} trainings under "
                    f"proxy {proxy!r} with the same time at each check",
                    "use the time since the start of the training, not the time of each check, or the step if time "
                    "was not logged",
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
        raise self._make_row_error(int(self._numbers[place]), message.format(training=training, **values), remedy)

    def _make_row_error(self, number: int, message: str, remedy: str) -> DataError:
        return DataError(f"{self._path}, row {number}: {message}: {remedy}")


def _compute_median(values: Floats) -> float | None:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if known.size else None


def _read_whole_number(text: str) -> int | None:
    """Read a whole number, which may be written 1.0; None for any other text."""
    try:
        return int(text)
    except ValueError:
        value = float(text) if _is_number(text) else math.nan
        return int(value) if value.is_integer() else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
