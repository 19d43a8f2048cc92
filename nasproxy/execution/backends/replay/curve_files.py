"""Read tables of learning curves from CSV and Parquet files, as columns of text."""

import csv
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nasproxy.errors import DataError, MissingExtraError, advise_install

ID_COLUMNS = ("architecture", "proxy", "seed")
"""Columns that identify a training."""
NUMBER_COLUMNS = ("step", "score", "train_seconds", "latency_ms")
REQUIRED_COLUMNS = (*ID_COLUMNS, "step", "score", "train_seconds")
COLUMNS = (*ID_COLUMNS, *NUMBER_COLUMNS, "status")
CHUNK_ROWS = 65_536
"""Rows that are held as text at a time; text takes ten times the memory of numbers."""
FIRST_ROW = 2
"""Number of the first row below the header, which is row 1 as in editors and spreadsheets."""


def read_chunks(path: Path, metric: str = "score") -> Iterator[Mapping[str, Sequence[str]]]:
    """Iterate over a table's columns as text, up to `CHUNK_ROWS` rows at a time.

    Args:
        path: The file.
        metric: Name of the column that is read as `score`, if there is one.

    Raises:
        DataError: The file is not a valid table, or lacks a column.
        MissingExtraError: It is a Parquet file and pyarrow is not installed.
    """
    read = _read_parquet_chunks if path.suffix.lower() in (".parquet", ".pq") else _read_csv_chunks
    return read(path, metric)


def _read_csv_chunks(path: Path, metric: str) -> Iterator[Mapping[str, Sequence[str]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        header = [name.strip() for name in next(reader, [])]
        sources = _find_columns(path, header, metric)
        wanted = [(header.index(source), name) for name, source in sources.items()]
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


def _read_parquet_chunks(path: Path, metric: str) -> Iterator[Mapping[str, Sequence[str]]]:
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
            sources = _find_columns(path, header, metric)
            for batch in file.iter_batches(CHUNK_ROWS, columns=list(sources.values())):
                yield {
                    name: _replace_missing(batch.column(source).cast("string").to_pylist())
                    for name, source in sources.items()
                }
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{path} cannot be read as Parquet ({error}): write it again, or use a CSV file") from error


def _replace_missing(values: Sequence[str | None]) -> Sequence[str]:
    """Replace None by empty text, as in a CSV file, so that both formats pass the same checks."""
    return ["" if value is None else value for value in values]


def _find_columns(path: Path, header: Sequence[str], metric: str) -> dict[str, str]:
    """Find the column of the file for each column of a table: the score may be in one named as the metric.

    Raises:
        DataError: A required column is missing, or one is there twice.
    """
    sources = {name: name for name in COLUMNS if name in header}
    if metric in header:
        sources["score"] = metric
    missing = [name for name in REQUIRED_COLUMNS if name not in sources]
    if missing:
        named = ", or set metric.name to the column of the scores" if "score" in missing else ""
        raise DataError(
            f"{path}, row 1: a table needs the columns {', '.join(REQUIRED_COLUMNS)}, got "
            f"{', '.join(header) or 'none'}: add {', '.join(missing)}{named}"
        )
    duplicates = [name for name, count in Counter(header).items() if count > 1 and name in sources.values()]
    if duplicates:
        raise DataError(f"{path}, row 1: column names must be unique, got {duplicates[0]} twice: rename or remove one")
    return sources


def hash_file(path: Path) -> str:
    """Compute the SHA-256 (hex) of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
