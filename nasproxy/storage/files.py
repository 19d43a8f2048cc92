"""Files that stay readable after a kill at any time: atomic replacement and whole-line appends."""

import json
import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from nasproxy.errors import CorruptFileError

SCHEMA = 4
"""Schema version of all files; a file with another version is refused."""


Record = TypeVar("Record")


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def get_adapter(kind: Any) -> TypeAdapter[Any]:
    """Return the cached pydantic adapter that reads and writes a type."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def replace_text(path: Path, text: str) -> None:
    """Replace a file atomically: readers see the whole old text or the whole new one."""
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

    Args:
        path: The file.
        kind: The dataclass.

    Returns:
        The record, or None if the file does not exist.

    Raises:
        CorruptFileError: The file is not a valid record of this type and schema version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise make_corrupt_error(path, str(error)) from error
    if not isinstance(content, dict) or content.pop("schema", None) != SCHEMA:
        raise make_corrupt_error(path, f"it is not a record of schema {SCHEMA}")
    try:
        record: Record = get_adapter(kind).validate_python(content)
    except ValidationError as error:
        raise make_corrupt_error(path, f"{error.error_count()} fields are not valid for {kind.__name__}") from error
    return record


def read_schema(path: Path) -> int | None:
    """Read the schema version of a record; None if it cannot be read, an error that `read_record` explains."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    schema = content.get("schema") if isinstance(content, dict) else None
    return schema if isinstance(schema, int) else None


def append_line(path: Path, text: str) -> None:
    """Append one line in one write, after removing an incomplete line that a killed writer left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                # Readers ignore an incomplete line, so no reader has seen what is removed.
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        file.write(text.encode() + b"\n")


def read_lines(path: Path) -> list[str]:
    """Read all complete lines; an empty list if the file does not exist."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    return content[: content.rfind(b"\n") + 1].decode("utf-8").splitlines()


def make_corrupt_error(path: Path, why: str) -> CorruptFileError:
    """Make the error for an unreadable file; `why` is the reason."""
    return CorruptFileError(
        f"{path} cannot be read: {why}. Nothing was changed: restore the file, or move its folder away and run the "
        f"command again to repeat this part."
    )


def get_stamp(path: Path) -> tuple[int, ...]:
    """Return modification time (ns), size (bytes) and inode, which change when a file is replaced; zeros if missing."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return (0, 0, 0)
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)
