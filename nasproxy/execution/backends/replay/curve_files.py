"""Read tables of learning curves from CSV and Parquet files, as columns of text."""

import csv
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nasproxy.errors import DataError, MissingExtraError

ID_COLUMNS = ("architecture", "proxy", "seed")
"""Columns that identify a training."""
NUMBER_COLUMNS = ("step", "score", "train_seconds", "latency_ms")
REQUIRED_COLUMNS = (*ID_COLUMNS, "step", "score", "train_seconds")
COLUMNS = (*ID_COLUMNS, *NUMBER_COLUMNS, "status")
CHUNK_ROWS = 65_536
"""Rows that are held as text at a time; text takes ten times the memory of numbers."""
FIRST_ROW = 2
"""Number of the first row below the header, which is row 1 as in editors and spreadsheets."""


def read_chunks(path: Path) -> Iterator[Mapping[str, Sequence[str]]]:
    """Iterate over a table's columns as text, up to `CHUNK_ROWS` rows at a time.

    Raises:
        DataError: The file is not a valid table, or lacks a column.
        MissingExtraError: It is a Parquet file and pyarrow is not installed.
    """
    return _read_parquet_chunks(path) if path.suffix.lower() in (".parquet", ".pq") else _read_csv_chunks(path)


def _read_csv_chunks(path: Path) -> Iterator[Mapping[str, Sequence[str]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header)
        wanted = [(header.index(name), name) for name in COLUMNS if name in header]
        first = 0
        while rows := list(itertools.islice(reader, CHUNK_ROWS)):
            for index, row in enumerate(rows):
                if len(row) != len(header):
                    raise DataError(
                        f"{path}, row {first + index + FIRST_ROW}: a row needs {len(header)} values, as many as the "
                        f"header, got {len(row)}: separate values by commas, and remove empty lines"
                    )
            columns = list(zip(*rows, strict=True))
            yield {name: columns[index] for index, name in wanted}
            first += len(rows)


def _read_parquet_chunks(path: Path) -> Iterator[Mapping[str, Sequence[str]]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError(
            "a Parquet table needs pyarrow, which is not installed: pip install 'nasproxy[parquet]', or use a CSV file"
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            header = file.schema_arrow.names
            _check_header(path, header)
            wanted = [name for name in COLUMNS if name in header]
            for batch in file.iter_batches(CHUNK_ROWS, columns=wanted):
                yield {name: _replace_missing(batch.column(name).cast("string").to_pylist()) for name in wanted}
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{path} cannot be read as Parquet ({error}): write it again, or use a CSV file") from error


def _replace_missing(values: Sequence[str | None]) -> Sequence[str]:
    """Replace None by empty text, as in a CSV file, so that both formats pass the same checks."""
    return ["" if value is None else value for value in values]


def _check_header(path: Path, header: Sequence[str]) -> None:
    missing = [name for name in REQUIRED_COLUMNS if name not in header]
    if missing:
        raise DataError(
            f"{path}, row 1: a table needs the columns {', '.join(REQUIRED_COLUMNS)}, got "
            f"{', '.join(header) or 'none'}: add {', '.join(missing)}"
        )
    duplicates = [name for name, count in Counter(header).items() if count > 1 and name in COLUMNS]
    if duplicates:
        raise DataError(f"{path}, row 1: column names must be unique, got {duplicates[0]} twice: rename or remove one")


def hash_file(path: Path) -> str:
    """Compute the SHA-256 (hex) of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
