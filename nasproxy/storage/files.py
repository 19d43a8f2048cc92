"""Files that survive a kill: atomic replacement, whole-line appends, leases held by living processes."""

import json
import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from nasproxy.errors import CorruptFileError

SCHEMA = 2
"""Version of every file the project writes; another version is refused, never guessed at."""


Record = TypeVar("Record")


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def get_adapter(kind: Any) -> TypeAdapter[Any]:
    """Give the reader and writer of a type, made once."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def replace_text(path: Path, text: str) -> None:
    """Replace a file as one act: readers see the old text or the new, never a part of either."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def write_record(path: Path, record: Any) -> None:
    """Write a dataclass as JSON with the schema version, atomically."""
    content = get_adapter(type(record)).dump_python(record, mode="json")
    replace_text(path, json.dumps({"schema": SCHEMA, **content}, indent=1, allow_nan=False) + "\n")


def read_record(path: Path, kind: type[Record]) -> Record | None:
    """Read a dataclass that `write_record` wrote.

    Returns:
        The record, or None where there is no file.

    Raises:
        CorruptFileError: The file is there but is not such a record.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise make_corrupt_error(path, str(error)) from error
    if not isinstance(content, dict) or content.pop("schema", None) != SCHEMA:
        raise make_corrupt_error(path, f"it is no record of schema {SCHEMA}")
    try:
        record: Record = get_adapter(kind).validate_python(content)
    except ValidationError as error:
        raise make_corrupt_error(path, f"{error.error_count()} fields do not fit {kind.__name__}") from error
    return record


def read_schema(path: Path) -> int | None:
    """Read the schema version of a record; None where there is no file, or none that says so."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    schema = content.get("schema") if isinstance(content, dict) else None
    return schema if isinstance(schema, int) else None


def append_line(path: Path, text: str) -> None:
    """Append one line in one write; a part of a line left by a killed writer is cut off first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                # A line cut short holds nothing that was ever read, so dropping it loses nothing.
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        file.write(text.encode() + b"\n")


def read_lines(path: Path) -> list[str]:
    """Read up to the last whole line; empty where there is no file."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    return content[: content.rfind(b"\n") + 1].decode("utf-8").splitlines()


def make_corrupt_error(path: Path, why: str) -> CorruptFileError:
    """Make the error of a file that cannot be read."""
    return CorruptFileError(
        f"{path} cannot be read: {why}. Nothing was changed; restore the file, or move its folder away "
        f"to have that part done again."
    )


def get_stamp(path: Path) -> tuple[int, ...]:
    """What tells a file's versions apart without reading it; the same for every file that is not there."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return (0, 0, 0)
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)
