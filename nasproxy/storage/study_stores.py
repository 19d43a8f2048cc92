"""Stores of what a study has decided: records by name, events, leases and the report's files; in a folder."""

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol, TypeVar

from nasproxy.errors import ConfigError
from nasproxy.storage.files import (
    append_shared_line,
    get_etag,
    list_files,
    read_bytes,
    read_from,
    remove_file,
    replace_bytes,
)
from nasproxy.storage.folder_leases import FolderLease, hold_generation
from nasproxy.storage.json_records import encode_record, parse_record
from nasproxy.storage.leases import TTL_SECONDS, Lease
from nasproxy.storage.trial_stores import FolderTrialStore, TrialStore
from nasproxy.trials.clock import Clock
from nasproxy.trials.objective import Objective

R = TypeVar("R")

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=,@-]*(/[A-Za-z0-9_][A-Za-z0-9_.+=,@-]*)*")
"""Names of records and files: parts of letters, digits and signs that no system treats specially, divided by `/`."""
ENDING = ".json"
"""Ending of the file of a record in a folder."""


class StudyStore(Protocol):
    """Protocol of all stores of studies.

    A record is a dataclass under a name such as `variance/state` or `proxy_search/tasks/data50`. It is replaced whole,
    and once `write` returns, it is believed: it outlasts a kill and a loss of power.
    """

    @property
    def name(self) -> str:
        """Name of the study."""
        ...

    @property
    def trials(self) -> TrialStore:
        """The study's trials."""
        ...

    def read(self, name: str, kind: type[R]) -> R | None:
        """Read a record; None if there is none.

        Raises:
            CorruptFileError: It cannot be read, or is not of this kind.
        """
        ...

    def write(self, name: str, record: object, *, lease: Lease | None = None) -> None:
        """Write a record, atomically and durably.

        Args:
            name: Name of the record.
            record: A dataclass.
            lease: Lease of this store under which it is written; None for a record that only one process writes.

        Raises:
            StaleLeaseError: Another owner has taken the lease over; nothing is written.
            StorageFullError: The disk is full; the old record is kept.
        """
        ...

    def list_names(self, prefix: str) -> list[str]:
        """List the names of the records right below a prefix such as `proxy_search/tasks`, sorted."""
        ...

    def version(self, name: str) -> str | None:
        """Return a text that changes with a record's content; None if there is no such record."""
        ...

    def lease(self, name: str, *, ttl_seconds: float = TTL_SECONDS, clock: Clock | None = None) -> Lease:
        """Return a lease by name, which this does not acquire."""
        ...

    def append_event(self, line: str) -> None:
        """Append one line, without line breaks in it, to the study's events; several processes may append at once."""
        ...

    def read_events(self, after: int = 0) -> tuple[Sequence[str], int]:
        """Read the complete lines of events after a position.

        Args:
            after: A position that an earlier call returned; 0 reads all.

        Returns:
            The lines and the new position. A writer that was killed may leave a part of a line: skip what is no event.
        """
        ...

    def read_file(self, name: str) -> bytes | None:
        """Read a file, such as `report/index.html`; None if there is none."""
        ...

    def write_file(self, name: str, content: bytes) -> None:
        """Write a file, atomically; unlike a record it can be made again, and a loss of power may undo it.

        Raises:
            StorageFullError: The disk is full; the old file is kept.
        """
        ...

    def remove_file(self, name: str) -> None:
        """Remove a file; does nothing if there is none."""
        ...

    def list_files(self, prefix: str) -> list[str]:
        """List the names of the files right below a prefix, sorted."""
        ...


def check_name(name: str) -> None:
    """Refuse a name that leads out of a study, or to a hidden file.

    Raises:
        ConfigError: The name is not valid.
    """
    if not NAME.fullmatch(name) or ".." in name.split("/"):
        raise ConfigError(
            f"a name in a study must have parts of letters, digits and '_.+=,@-' divided by '/', none of which begins "
            f"with a sign other than '_', got {name!r}"
        )


class FolderStudyStore:
    """A study as a folder that its processes share.

    Args:
        path: The study's folder.
        metric: Name of the metric that is the score of a check.
        trials: Store of the trials; None for folders in `trials`.
        durable: Whether records outlast a loss of power; not worth its time for a study that is repeated in seconds.
    """

    def __init__(
        self,
        path: Path,
        *,
        metric: str = Objective.name,
        trials: TrialStore | None = None,
        durable: bool = True,
    ) -> None:
        self.path = path
        self._trials = FolderTrialStore(path / "trials", metric) if trials is None else trials
        self._durable = durable

    @property
    def name(self) -> str:
        """Name of the study, which is that of its folder."""
        return self.path.name

    @property
    def trials(self) -> TrialStore:
        """The study's trials."""
        return self._trials

    def read(self, name: str, kind: type[R]) -> R | None:
        """Read a record; None if there is none.

        Raises:
            CorruptFileError: It cannot be read, or is not of this kind.
        """
        path = self._place(name + ENDING)
        content = read_bytes(path)
        return None if content is None else parse_record(path, content, kind)

    def write(self, name: str, record: object, *, lease: Lease | None = None) -> None:
        """Write a record, as in `StudyStore.write`."""
        path, content = self._place(name + ENDING), encode_record(record)
        with self._hold(lease):
            replace_bytes(path, content, durable=self._durable)

    def list_names(self, prefix: str) -> list[str]:
        """List the names of the records right below a prefix, sorted."""
        files = self.list_files(prefix)
        return [name.removesuffix(ENDING) for name in files if name.endswith(ENDING)]

    def version(self, name: str) -> str | None:
        """Return a digest of a record's content; None if there is no such record."""
        return get_etag(self._place(name + ENDING))

    def lease(self, name: str, *, ttl_seconds: float = TTL_SECONDS, clock: Clock | None = None) -> Lease:
        """Return a lease by name, which this does not acquire."""
        return FolderLease(self._place_lease(name), ttl_seconds=ttl_seconds, clock=clock)

    def append_event(self, line: str) -> None:
        """Append one line to the study's events."""
        append_shared_line(self._events, check_line(line))

    def read_events(self, after: int = 0) -> tuple[Sequence[str], int]:
        """Read the complete lines of events after a position in bytes, as in `StudyStore.read_events`."""
        content = read_from(self._events, after)
        content = content[: content.rfind(b"\n") + 1]
        lines = [line.decode("utf-8", "replace") for line in content.split(b"\n")[:-1]]
        return lines, after + len(content)

    def read_file(self, name: str) -> bytes | None:
        """Read a file; None if there is none."""
        return read_bytes(self._place(name))

    def write_file(self, name: str, content: bytes) -> None:
        """Write a file, atomically."""
        replace_bytes(self._place(name), content)

    def remove_file(self, name: str) -> None:
        """Remove a file; does nothing if there is none."""
        remove_file(self._place(name))

    def list_files(self, prefix: str) -> list[str]:
        """List the names of the files right below a prefix, sorted; links, folders and hidden files are left out."""
        return [f"{prefix}/{name}" for name in list_files(self._place(prefix))]

    @property
    def _events(self) -> Path:
        return self.path / "events.jsonl"

    def _place(self, name: str) -> Path:
        check_name(name)
        return self.path / name

    def _place_lease(self, name: str) -> Path:
        return self._place(f"locks/{name}.lock")

    def _hold(self, lease: Lease | None) -> AbstractContextManager[object]:
        return nullcontext() if lease is None else hold_generation(self._place_lease(lease.name), lease.generation)


def check_line(line: str) -> str:
    """Refuse an event of several lines.

    Raises:
        ConfigError: It has a line break.
    """
    if "\n" in line:
        raise ConfigError(f"an event must be one line, got {line.count(chr(10)) + 1}: write it as JSON")
    return line
