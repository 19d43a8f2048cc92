"""Read tables of learning curves from CSV and Parquet files, as columns of text."""

import csv
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nasproxy.errors import DataError, MissingExtraError, advise_install
from nasproxy.execution.backends.replay.csv_format import CsvFormat, find_format, normalize_name

ID_COLUMNS = ("architecture", "proxy", "seed")
"""Columns that identify a training, together with its schedule."""
NUMBER_COLUMNS = ("step", "score", "train_seconds", "latency_ms", "schedule")
REQUIRED_COLUMNS = (*ID_COLUMNS, "step", "score", "train_seconds")
COLUMNS = (*ID_COLUMNS, *NUMBER_COLUMNS, "status")
CHUNK_ROWS = 65_536
"""Rows that are held as text at a time; text takes ten times the memory of numbers."""
FIRST_ROW = 2
"""Number of the first row below the header, which is row 1 as in editors and spreadsheets."""


@dataclass(frozen=True)
class Chunk:
    """Some rows of a table.

    Attributes:
        numbers: Number of each row in the file.
        columns: Text of each column of a table, one per row.
    """

    numbers: Sequence[int]
    columns: Mapping[str, Sequence[str]]


def read_chunks(path: Path, metric: str = "score") -> Iterator[Chunk]:
    """Iterate over a table, up to `CHUNK_ROWS` rows at a time.

    Args:
        path: The file.
        metric: Name of the column that is read as `score`, if there is one.

    Raises:
        DataError: The file is not a valid table, or lacks a column.
        MissingExtraError: It is a Parquet file and pyarrow is not installed.
    """
    read = _read_parquet_chunks if path.suffix.lower() in (".parquet", ".pq") else _read_csv_chunks
    return read(path, metric)


def _read_csv_chunks(path: Path, metric: str) -> Iterator[Chunk]:
    known = {*COLUMNS, normalize_name(metric)}
    form = find_format(path, known)
    with path.open(encoding=form.encoding, newline="") as file:
        for _ in range(form.lines_before):
            file.readline()
        reader = csv.reader(file, delimiter=form.separator, skipinitialspace=True)
        header = [name.strip() for name in next(reader, [])]
        hint = (
            "; they seem to be separated by blanks: separate them by commas"
            if form.are_separated_by_blanks(known)
            else ""
        )
        places = _find_columns(f"{path}, row {form.lines_before + 1}", header, metric, hint)
        width = next((place for place in range(len(header), 0, -1) if header[place - 1]), 0)
        first = form.lines_before + FIRST_ROW
        while rows := list(itertools.islice(reader, CHUNK_ROWS)):
            numbers: Sequence[int] = range(first, first + len(rows))
            first += len(rows)
            if any(len(row) != width or not row[0] for row in rows):
                numbers, rows = _drop_empty(path, numbers, rows, width, form)
            if rows:
                columns = list(zip(*rows, strict=True))
                texts = {name: columns[place] for name, place in places.items()}
                yield Chunk(numbers, _read_decimal_commas(path, numbers, texts) if form.has_decimal_commas else texts)


def _drop_empty(
    path: Path, numbers: Sequence[int], rows: Sequence[list[str]], width: int, form: CsvFormat
) -> tuple[Sequence[int], list[list[str]]]:
    """Drop empty rows, and empty values beyond the header.

    Args:
        path: The file.
        numbers: Number of each row.
        rows: The rows.
        width: Number of columns of the header.
        form: How the file is written.

    Raises:
        DataError: A row has fewer values than the header, or more.
    """
    kept = [(number, row) for number, row in zip(numbers, rows, strict=True) if any(map(str.strip, row))]
    for number, row in kept:
        if len(row) < width or any(map(str.strip, row[width:])):
            raise DataError(
                f"{path}, row {number}: a row needs {width} values, as many as the header, got {len(row)}: separate "
                f"values by {form.separator_name}, and quote texts that contain one"
            )
    return [number for number, _ in kept], [row[:width] for _, row in kept]


def _read_decimal_commas(
    path: Path, numbers: Sequence[int], texts: Mapping[str, Sequence[str]]
) -> Mapping[str, Sequence[str]]:
    """Replace the decimal commas of numbers by points.

    Raises:
        DataError: A column has commas and points, so that one of them may separate thousands.
    """
    read = dict(texts)
    for name in ("seed", *NUMBER_COLUMNS):
        values = texts.get(name, ())
        if not any("," in value for value in values):
            continue
        for number, value in zip(numbers, values, strict=True):
            if "." in value or value.count(",") > 1:
                raise DataError(
                    f"{path}, row {number}: {name} must have decimal points or decimal commas, got {value!r} in a "
                    f"column with commas: write all numbers as 1234.5"
                )
        read[name] = [value.replace(",", ".") for value in values]
    return read


def _read_parquet_chunks(path: Path, metric: str) -> Iterator[Chunk]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError(
            f"a Parquet table needs pyarrow, which is not installed: {advise_install('parquet')}, or use a CSV file"
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            header = file.schema_arrow.names
            sources = {name: header[place] for name, place in _find_columns(f"{path}", header, metric).items()}
            first = FIRST_ROW
            for batch in file.iter_batches(CHUNK_ROWS, columns=list(sources.values())):
                columns = {
                    name: _read_texts(batch.column(source).cast("string").to_pylist())
                    for name, source in sources.items()
                }
                yield Chunk(range(first, first + batch.num_rows), columns)
                first += batch.num_rows
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{path} cannot be read as Parquet ({error}): write it again, or use a CSV file") from error


def _read_texts(values: Sequence[str | None]) -> Sequence[str]:
    """Replace None by empty text, as in a CSV file, so that both formats pass the same checks."""
    return ["" if value is None else value for value in values]


def _find_columns(place: str, header: Sequence[str], metric: str, hint: str = "") -> dict[str, int]:
    """Find the place in the header of each column of a table: the score may be in one named as the metric.

    Args:
        place: The file, and the row of its header.
        header: Names of its columns.
        metric: Name of the metric.
        hint: What else may be wrong if columns are missing.

    Raises:
        DataError: A required column is missing, or one is there twice.
    """
    found = {name: _find_named(header, name) for name in COLUMNS}
    found["score"] = _find_named(header, metric) or found["score"]
    missing = [name for name in REQUIRED_COLUMNS if not found[name]]
    if missing:
        named = ", or set metric.name to the column of the scores" if "score" in missing else ""
        advice = hint or f": add {', '.join(missing)}{named}"
        given = ", ".join(header) or "none"
        raise DataError(f"{place}: a table needs the columns {', '.join(REQUIRED_COLUMNS)}, got {given}{advice}")
    for places in found.values():
        if len(places) > 1:
            twice = " and ".join(dict.fromkeys(header[each] for each in places))
            raise DataError(f"{place}: column names must be unique, got {twice} twice: rename or remove one")
    return {name: places[0] for name, places in found.items() if places}


def _find_named(header: Sequence[str], name: str) -> Sequence[int]:
    """List the places of a column: of exactly this name, or else of one that differs in capitals or blanks only."""
    exact = [place for place, given in enumerate(header) if given == name]
    return exact or [place for place, given in enumerate(header) if normalize_name(given) == normalize_name(name)]


def hash_file(path: Path) -> str:
    """Compute the SHA-256 (hex) of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
