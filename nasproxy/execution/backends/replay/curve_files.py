"""The files that tables of learning curves come in: CSV and Parquet, as columns of text."""

import csv
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nasproxy.errors import DataError, MissingExtraError, advise_install

IDS = ("architecture", "proxy", "seed")
"""What names a training."""
NUMBERS = ("step", "score", "train_seconds", "latency_ms")
NEEDED = (*IDS, "step", "score", "train_seconds")
READ = (*IDS, *NUMBERS, "status")
CHUNK_ROWS = 65_536
"""Rows that are text at one time; a text takes ten times the memory of its number."""
FIRST_ROW = 2
"""A table's first row of values, counted as editors and spreadsheets do: the header is row 1."""


def read_chunks(path: Path) -> Iterator[Mapping[str, Sequence[str]]]:
    """A table's columns as text, some rows at a time.

    Raises:
        DataError: It is no such file, or lacks a column.
        MissingExtraError: It is a Parquet file, and pyarrow is not installed.
    """
    return _parquet_chunks(path) if path.suffix.lower() in (".parquet", ".pq") else _csv_chunks(path)


def _csv_chunks(path: Path) -> Iterator[Mapping[str, Sequence[str]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header)
        wanted = [(header.index(name), name) for name in READ if name in header]
        first = 0
        while rows := list(itertools.islice(reader, CHUNK_ROWS)):
            for place, row in enumerate(rows):
                if len(row) != len(header):
                    raise DataError(
                        f"{path}, row {first + place + FIRST_ROW}: a row needs {len(header)} values as the header has, "
                        f"got {len(row)}: separate them by commas, and leave no line empty"
                    )
            columns = list(zip(*rows, strict=True))
            yield {name: columns[place] for place, name in wanted}
            first += len(rows)


def _parquet_chunks(path: Path) -> Iterator[Mapping[str, Sequence[str]]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError(
            f"a Parquet table needs pyarrow, which is not installed: {advise_install('parquet')}; or give a CSV file"
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            header = file.schema_arrow.names
            _check_header(path, header)
            wanted = [name for name in READ if name in header]
            for batch in file.iter_batches(CHUNK_ROWS, columns=wanted):
                yield {name: _texts(batch.column(name).cast("string").to_pylist()) for name in wanted}
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{path} cannot be read as Parquet ({error}): write it again, or give a CSV file") from error


def _texts(values: Sequence[str | None]) -> Sequence[str]:
    """As a CSV file would have them, so that both are held to the same rules."""
    return ["" if value is None else value for value in values]


def _check_header(path: Path, header: Sequence[str]) -> None:
    missing = [name for name in NEEDED if name not in header]
    if missing:
        raise DataError(
            f"{path}, row 1: a table needs the columns {', '.join(NEEDED)}, got {', '.join(header) or 'none'}: add "
            f"{', '.join(missing)}"
        )
    twice = [name for name, count in Counter(header).items() if count > 1 and name in READ]
    if twice:
        raise DataError(f"{path}, row 1: a column may stand there once, got {twice[0]} twice: rename or drop one")


def hash_file(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
