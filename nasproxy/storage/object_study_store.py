"""Stores of what a study has decided, as objects: in memory, or in a bucket."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from nasproxy.storage.files import digest_bytes, make_corrupt_error
from nasproxy.storage.json_records import encode_record, parse_record
from nasproxy.storage.leases import TTL_SECONDS, Lease, check_generation
from nasproxy.storage.object_leases import ObjectLease, read_lease
from nasproxy.storage.object_logs import ObjectLog
from nasproxy.storage.object_trial_store import ObjectTrialStore
from nasproxy.storage.objects import MemoryObjects, Objects, StoredObject, VersionConflictError
from nasproxy.storage.study_stores import check_line, check_name
from nasproxy.storage.trial_stores import TrialStore
from nasproxy.trials.clock import Clock

R = TypeVar("R")


class ObjectStudyStore:
    """A study as objects.

    The first line of a record's object has the generation of the lease under which it was written, and the object is
    replaced on condition of its version: an owner that was taken over cannot replace what its successor wrote.

    Args:
        name: Name of the study.
        objects: Where it is; None for a new place in memory. Stores with the same objects are the same study.
        trials: Store of the trials; None for one of the same objects.
    """

    def __init__(self, name: str, *, objects: Objects | None = None, trials: TrialStore | None = None) -> None:
        self._name = name
        self._objects = MemoryObjects() if objects is None else objects
        self._trials = ObjectTrialStore(self._objects) if trials is None else trials
        self._events = ObjectLog(self._objects, "events")

    @property
    def name(self) -> str:
        """Name of the study."""
        return self._name

    @property
    def trials(self) -> TrialStore:
        """The study's trials."""
        return self._trials

    def read(self, name: str, kind: type[R]) -> R | None:
        """Read a record; None if there is none.

        Raises:
            CorruptFileError: It cannot be read, or is not of this kind.
        """
        found = self._get(f"records/{name}")
        return None if found is None else parse_record(Path(name), _split(name, found)[1], kind)

    def write(self, name: str, record: object, *, lease: Lease | None = None) -> None:
        """Write a record, as in `StudyStore.write`."""
        check_name(name)
        if lease is not None:
            newest, _ = read_lease(self._objects, lease.name)
            check_generation(name, lease.generation, newest.generation, newest.owner)
        content = encode_record(record)
        while True:
            found = self._get(f"records/{name}")
            before = 0 if found is None else _split(name, found)[0]
            # The lease may have been taken over since it was checked: the new owner's record is not replaced.
            if lease is not None:
                check_generation(name, lease.generation, before)
            header = f"{before if lease is None else lease.generation}\n".encode()
            try:
                self._objects.put(
                    f"records/{name}", header + content, replaces=None if found is None else found.version
                )
            except VersionConflictError:
                continue
            return

    def list_names(self, prefix: str) -> list[str]:
        """List the names of the records right below a prefix, sorted."""
        return self._list("records/", prefix)

    def version(self, name: str) -> str | None:
        """Return a digest of a record's content; None if there is no such record."""
        found = self._get(f"records/{name}")
        return None if found is None else digest_bytes(_split(name, found)[1])

    def lease(self, name: str, *, ttl_seconds: float = TTL_SECONDS, clock: Clock | None = None) -> Lease:
        """Return a lease by name, which this does not acquire."""
        check_name(name)
        return ObjectLease(self._objects, name, ttl_seconds=ttl_seconds, clock=clock)

    def append_event(self, line: str) -> None:
        """Append one line to the study's events."""
        self._events.append(check_line(line).encode())

    def read_events(self, after: int = 0) -> tuple[Sequence[str], int]:
        """Read the events after a number of lines, as in `StudyStore.read_events`."""
        contents, last = self._events.read(after)
        return [content.decode("utf-8", "replace") for content in contents], last

    def read_file(self, name: str) -> bytes | None:
        """Read a file; None if there is none."""
        found = self._get(f"files/{name}")
        return None if found is None else found.content

    def write_file(self, name: str, content: bytes) -> None:
        """Write a file."""
        check_name(name)
        self._objects.overwrite(f"files/{name}", content)

    def remove_file(self, name: str) -> None:
        """Remove a file; does nothing if there is none."""
        check_name(name)
        self._objects.remove(f"files/{name}")

    def list_files(self, prefix: str) -> list[str]:
        """List the names of the files right below a prefix, sorted."""
        return self._list("files/", prefix)

    def _get(self, name: str) -> StoredObject | None:
        check_name(name)
        return self._objects.get(name)

    def _list(self, kind: str, prefix: str) -> list[str]:
        check_name(prefix)
        names = [name.removeprefix(kind) for name in self._objects.list_names(f"{kind}{prefix}/")]
        return [name for name in names if "/" not in name.removeprefix(f"{prefix}/")]


def _split(name: str, found: StoredObject) -> tuple[int, bytes]:
    """Split the object of a record into the generation that wrote it, and the record.

    Raises:
        CorruptFileError: It has no generation.
    """
    header, _, content = found.content.partition(b"\n")
    if not header.isdigit():
        raise make_corrupt_error(Path(name), "its first line is not the generation that wrote it")
    return int(header), content
