"""Records: dataclasses as JSON with a schema version, and strict JSON."""

import json
import math
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import TypeAdapter, ValidationError

from nasproxy.errors import CorruptFileError
from nasproxy.storage.files import make_corrupt_error, read_bytes, replace_bytes

SCHEMA = 5
"""Schema version of all files; a file with another version is refused."""


MAX_DIGITS = 100
"""Largest number of digits of an integer in a file; a larger one overflows when it is used as a number."""


Record = TypeVar("Record")


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def get_adapter(kind: Any) -> TypeAdapter[Any]:
    """Return the cached pydantic adapter that reads and writes a type."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def write_record(path: Path, record: Any, *, durable: bool = True) -> None:
    """Write a dataclass as JSON with the schema version, atomically.

    Args:
        path: The file.
        record: The dataclass.
        durable: Whether it outlasts a loss of power once this returns, as decisions and ends of trials must.

    Raises:
        StorageFullError: The disk is full; the old record is kept.
    """
    replace_bytes(path, encode_record(record), durable=durable)


def encode_record(record: Any) -> bytes:
    """Encode a dataclass as JSON with the schema version."""
    content = get_adapter(type(record)).dump_python(record, mode="json")
    return (json.dumps({"schema": SCHEMA, **content}, indent=1, allow_nan=False) + "\n").encode()


def read_record(path: Path, kind: type[Record]) -> Record | None:
    """Read a dataclass that `write_record` wrote.

    Args:
        path: The file.
        kind: The dataclass.

    Returns:
        The record, or None if the file does not exist.

    Raises:
        CorruptFileError: The file is not a valid record of this type and schema version.
    """
    content = read_bytes(path)
    return None if content is None else parse_record(path, content, kind)


def parse_record(path: Path, content: bytes, kind: type[Record]) -> Record:
    """Parse the content of a record.

    Args:
        path: Where it came from, for the error.
        content: The content.
        kind: The dataclass.

    Raises:
        CorruptFileError: The content is not a valid record of this type and schema version.
    """
    values = parse_json(path, content)
    if not isinstance(values, dict) or values.pop("schema", None) != SCHEMA:
        raise make_corrupt_error(path, f"it is not a record of schema {SCHEMA}")
    try:
        record: Record = get_adapter(kind).validate_python(values)
    except ValidationError as error:
        raise make_corrupt_error(path, f"{error.error_count()} fields are not valid for {kind.__name__}") from error
    except (RecursionError, OverflowError, ValueError) as error:
        raise make_corrupt_error(path, f"{type(error).__name__}: {error}") from error
    return record


def parse_json(path: Path, content: bytes) -> Any:
    """Parse JSON without NaN, infinities or numbers too large to count with.

    Raises:
        CorruptFileError: The content is none, or nested too deeply.
    """
    try:
        return json.loads(
            content.decode("utf-8"), parse_constant=_refuse_constant, parse_float=_parse_float, parse_int=_parse_int
        )
    except RecursionError as error:
        raise make_corrupt_error(path, "it is nested too deeply") from error
    except ValueError as error:
        raise make_corrupt_error(path, "it is empty" if not content.strip() else str(error)) from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which is no number")


def _parse_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _parse_int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits is too large")
    return int(text)


def read_schema(path: Path) -> int | None:
    """Read the schema version of a record; None if it cannot be read, an error that `read_record` explains."""
    try:
        content = read_bytes(path)
        values = None if content is None else parse_json(path, content)
    except CorruptFileError:
        return None
    schema = values.get("schema") if isinstance(values, dict) else None
    return schema if isinstance(schema, int) else None
