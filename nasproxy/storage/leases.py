"""Leases: who works on something, with a generation that tells the writes of an owner from those of the one before.

A process that was stopped, or whose machine was cut off, may wake after another has taken over its work. Each take-over
raises the generation, every write carries its owner's, and one that is too old is refused.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from nasproxy.errors import CorruptFileError, NasproxyError, StaleLeaseError, StorageFullError, StudyBusyError
from nasproxy.storage.files import parse_record, read_bytes, write_record
from nasproxy.storage.locks import PROCESS, FileLock, describe_process
from nasproxy.trials.clock import Clock, SystemClock

TTL_SECONDS = 60.0
"""Default time without a renewal after which an owner on another node counts as gone."""
RENEWAL_SECONDS = 15.0
"""Seconds between two renewals, several of which fit into the default time to live."""
POLL_SECONDS = 0.05
"""Seconds between two attempts to acquire a lease."""


class Lease(Protocol):
    """The right to work on something, held by one owner at a time."""

    @property
    def name(self) -> str:
        """What the lease is for."""
        ...

    @property
    def generation(self) -> int:
        """Number of the owner, which rises at each take-over; 0 before this object has acquired the lease."""
        ...

    def acquire(self, wait_seconds: float | None = 0.0) -> bool:
        """Acquire the lease; one whose owner has not renewed it for the lease's time to live is taken over.

        An observer measures that time itself, by its own clock, from the first time that it sees the lease: call this
        repeatedly on one object, or wait.

        Args:
            wait_seconds: Seconds to wait for it; None waits without limit.

        Returns:
            Whether it was acquired.
        """
        ...

    def renew(self) -> None:
        """Show that the owner is alive; call it several times in the lease's time to live.

        Raises:
            StaleLeaseError: Another owner has taken the lease over.
        """
        ...

    def release(self) -> None:
        """Release the lease; does nothing if it is not held, or was taken over."""
        ...

    def owner(self) -> str:
        """Describe the last owner."""
        ...


@contextmanager
def hold_lease(lease: Lease, what: str, *, wait_seconds: float | None = 0.0) -> Iterator[None]:
    """Hold a lease during a block.

    Args:
        lease: The lease.
        what: What it protects, for the error message.
        wait_seconds: Seconds to wait for it; None waits without limit.

    Raises:
        StudyBusyError: Another process holds it.
    """
    if not lease.acquire(wait_seconds):
        raise StudyBusyError(
            f"{what} is being worked on by {lease.owner()}: wait until it is done, stop it, "
            f"or name another study with study=NAME"
        )
    try:
        yield
    finally:
        lease.release()


@dataclass(frozen=True)
class LeaseRecord:
    """What is stored of a lease.

    Attributes:
        generation: Number of owners so far.
        owner: The owner, for messages; None if it was released.
        node: Machine of the owner.
        beat: Number of the owner's renewals.
    """

    generation: int = 0
    owner: str | None = None
    node: str = ""
    beat: int = 0


class _Patience:
    """Measures for how long an observer has seen a lease unchanged."""

    def __init__(self, ttl_seconds: float, clock: Clock) -> None:
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._seen: tuple[int, int] | None = None
        self._since = 0.0

    def is_over(self, record: LeaseRecord) -> bool:
        """Return whether the lease has not changed for its time to live."""
        now, seen = self._clock.now(), (record.generation, record.beat)
        if seen != self._seen:
            self._seen, self._since = seen, now
        return now - self._since >= self._ttl_seconds


class FolderLease:
    """A lease in a folder that its owners share.

    Next to the lock file `NAME.lock`, which its owner keeps locked, `NAME.lease` has the generation. On the owner's own
    node the kernel's lock decides: a dead owner is taken over at once, a living one never, however long it is silent.
    For an owner on another node, whose locks this kernel may not see, its renewals decide.

    `NAME.guard` is locked for moments: while the lease changes hands, and during each write that carries a generation,
    so that none comes after a take-over.

    Args:
        path: The lock file, `NAME.lock`.
        ttl_seconds: Time without a renewal after which an owner on another node counts as gone.
        clock: The observer's clock.
        node: Name of this machine; None for its host name.
        role: What the owner is, as in `FileLock`.
    """

    def __init__(
        self,
        path: Path,
        *,
        ttl_seconds: float = TTL_SECONDS,
        clock: Clock | None = None,
        node: str | None = None,
        role: str = PROCESS,
    ) -> None:
        self.path = path
        self._ttl_seconds = ttl_seconds
        self._role = role
        self._clock = clock or SystemClock()
        self._patience = _Patience(ttl_seconds, self._clock)
        self._node = os.uname().nodename if node is None else node
        self._lock: FileLock | None = None
        self._generation = 0

    @property
    def name(self) -> str:
        """Name of the lock file without its ending."""
        return self.path.stem

    @property
    def generation(self) -> int:
        """Number of the owner; 0 before this object has acquired the lease."""
        return self._generation

    def acquire(self, wait_seconds: float | None = 0.0) -> bool:
        """Acquire the lease, as in `Lease.acquire`.

        Raises:
            CorruptFileError: There is a link, a folder or a device in place of one of the lease's files.
        """
        return _try_until(self._try_acquire, wait_seconds, self._clock)

    def acquire_or_outwait(self, wait_seconds: float = 0.0) -> bool:
        """Acquire the lease; from an owner on another node, wait for its time to live, in which a live one renews it.

        A study whose machine was renamed, such as a container that was started again, has only such owners.

        Args:
            wait_seconds: Seconds to wait for an owner on this node.

        Raises:
            CorruptFileError: As in `acquire`.
        """
        if self.acquire(wait_seconds):
            return True
        return self._is_elsewhere(_read_lease(self.path)) and self.acquire(self._ttl_seconds)

    def take_over_from(self, generation: int) -> bool:
        """Acquire the lease from an owner on another node that is known to have ended, without waiting.

        Args:
            generation: Number of that owner.

        Returns:
            Whether it was acquired; not if another owner has it by now.

        Raises:
            CorruptFileError: As in `acquire`.
        """
        return self._try_acquire(ended=generation)

    def renew(self) -> None:
        """Show that the owner is alive.

        Raises:
            StaleLeaseError: Another owner has taken the lease over.
        """
        renew_generation(self.path, self._generation)

    def release(self) -> None:
        """Release the lease; does nothing if it is not held, or was taken over."""
        if self._lock is None:
            return
        with _hold_guard(self.path):
            record = _read_lease(self.path)
            # It is older if its folder was moved away: the generation goes on in the new one.
            if record.generation <= self._generation:
                with suppress(StorageFullError):  # the lock is released, which is enough on this node
                    _write_lease(self.path, replace(record, generation=self._generation, owner=None))
        self._lock.release()
        self._lock = None

    def owner(self) -> str:
        """Describe the last owner: its process id and node."""
        return _read_lease(self.path).owner or FileLock(self.path).owner()

    def _try_acquire(self, ended: int | None = None) -> bool:
        with _hold_guard(self.path):
            record = _read_lease(self.path)
            is_elsewhere = self._is_elsewhere(record)
            if is_elsewhere and record.generation != ended and not self._patience.is_over(record):
                return False
            lock = FileLock(self.path, role=self._role)
            if not lock.acquire():
                if not is_elsewhere:
                    return False
                lock.take_over()
            self._lock, self._generation = lock, record.generation + 1
            try:
                _write_lease(self.path, LeaseRecord(self._generation, describe_process(self._role), self._node))
            except BaseException:
                lock.release()
                self._lock = None
                raise
            return True

    def _is_elsewhere(self, record: LeaseRecord) -> bool:
        return record.owner is not None and record.node != self._node


@contextmanager
def hold_generation(path: Path, generation: int | None) -> Iterator[LeaseRecord]:
    """Hold off a take-over of a lease in a folder during a block that writes as its owner.

    Args:
        path: The lock file of the lease.
        generation: Generation of the writer; None for one that needs no lease.

    Raises:
        StaleLeaseError: The lease has a newer generation; the block is not run.
    """
    with _hold_guard(path):
        record = _read_lease(path)
        if generation is not None:
            check_generation(str(path.parent), generation, record.generation, record.owner)
        yield record


def renew_generation(path: Path, generation: int) -> None:
    """Renew a lease in a folder in the name of its owner, from any process that knows its generation.

    Raises:
        StaleLeaseError: The lease has a newer generation.
    """
    with hold_generation(path, generation) as record:
        _write_lease(path, replace(record, beat=record.beat + 1))


@contextmanager
def keep_renewed(path: Path, generation: int, lost: Callable[[StaleLeaseError], object]) -> Iterator[None]:
    """Renew a lease in a folder during a block, in a thread of its own.

    Args:
        path: The lock file of the lease.
        generation: Generation of its owner.
        lost: Called in the thread with the error if another owner has taken the lease over.
    """
    has_ended = threading.Event()

    def renew() -> None:
        while not has_ended.wait(RENEWAL_SECONDS):
            try:
                renew_generation(path, generation)
            except StaleLeaseError as error:
                lost(error)
                return
            except (NasproxyError, OSError):
                continue  # the disk is full, or its server does not answer: the next renewal may succeed

    thread = threading.Thread(target=renew, daemon=True, name="lease")
    thread.start()
    try:
        yield
    finally:
        has_ended.set()
        thread.join()


def begin_above(path: Path) -> None:
    """Begin a lease whose files are lost with a generation above all before it, in case an owner of these lives."""
    _write_lease(path, LeaseRecord(int(time.time())))


def check_generation(what: str, generation: int, newest: int, owner: str | None = None) -> None:
    """Refuse a generation that is too old.

    Args:
        what: What is written, for the message.
        generation: Generation of the writer.
        newest: Newest generation that is known.
        owner: The newest owner.

    Raises:
        StaleLeaseError: The writer's generation is older.
    """
    if generation < newest:
        raise StaleLeaseError(
            f"a write to {what} needs generation {newest}, got {generation}: {owner or 'another process'} has taken "
            f"over, so nothing was written; leave the work to it"
        )


def _try_until(attempt: Any, wait_seconds: float | None, clock: Clock) -> bool:
    deadline = None if wait_seconds is None else clock.now() + wait_seconds
    while not attempt():
        if deadline is not None and clock.now() >= deadline:
            return False
        clock.sleep(POLL_SECONDS)
    return True


@contextmanager
def _hold_guard(path: Path) -> Iterator[None]:
    guard = FileLock(path.with_suffix(".guard"), is_signed=False)
    guard.acquire(wait_seconds=None)
    try:
        yield
    finally:
        guard.release()


def _write_lease(path: Path, record: LeaseRecord) -> None:
    write_record(path.with_suffix(".lease"), record, durable=False)


def _read_lease(path: Path) -> LeaseRecord:
    """Read a lease; one that a loss of power left empty is free, with a generation above all before it."""
    place = path.with_suffix(".lease")
    content = read_bytes(place)
    if content is None:
        return LeaseRecord()
    try:
        return parse_record(place, content, LeaseRecord)
    except CorruptFileError:
        return LeaseRecord(int(time.time()))


class VersionConflictError(Exception):
    """An object has another version than the one that was to be replaced."""


class MemoryObjects:
    """Objects by name in this process's memory, created and replaced on condition of their version, as in the cloud."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[Any, int]] = {}
        self._lock = threading.Lock()
        self._versions = 0

    def get(self, name: str) -> tuple[Any, int] | None:
        """Return an object and its version; None if it does not exist."""
        return self._objects.get(name)

    def put(self, name: str, value: Any, *, replaces: int | None) -> int:
        """Write an object and return its new version.

        Args:
            name: Name of the object.
            value: Its new value.
            replaces: Version that it must have; None if it must not exist.

        Raises:
            VersionConflictError: It has another version.
        """
        with self._lock:
            found = self._objects.get(name)
            if (None if found is None else found[1]) != replaces:
                raise VersionConflictError(name)
            self._versions += 1
            self._objects[name] = value, self._versions
            return self._versions

    def remove(self, name: str) -> None:
        """Remove an object; does nothing if it does not exist."""
        with self._lock:
            self._objects.pop(name, None)

    def list_names(self, prefix: str) -> list[str]:
        """List the names of all objects with a prefix, sorted."""
        with self._lock:
            return sorted(name for name in self._objects if name.startswith(prefix))


class MemoryLease:
    """A lease as one object that is replaced on condition of its version; only renewals show that its owner lives.

    Args:
        objects: Where it is.
        name: What the lease is for.
        ttl_seconds: Time without a renewal after which an owner counts as gone.
        clock: The observer's clock.
        node: Name of the owner's machine, for messages.
    """

    def __init__(
        self,
        objects: MemoryObjects,
        name: str,
        *,
        ttl_seconds: float = TTL_SECONDS,
        clock: Clock | None = None,
        node: str | None = None,
    ) -> None:
        self._objects = objects
        self._name = name
        self._clock = clock or SystemClock()
        self._patience = _Patience(ttl_seconds, self._clock)
        self._node = os.uname().nodename if node is None else node
        self._generation = 0
        self._is_held = False

    @property
    def name(self) -> str:
        """What the lease is for."""
        return self._name

    @property
    def generation(self) -> int:
        """Number of the owner; 0 before this object has acquired the lease."""
        return self._generation

    def acquire(self, wait_seconds: float | None = 0.0) -> bool:
        """Acquire the lease, as in `Lease.acquire`."""
        return _try_until(self._try_acquire, wait_seconds, self._clock)

    def renew(self) -> None:
        """Show that the owner is alive.

        Raises:
            StaleLeaseError: Another owner has taken the lease over.
        """
        record, version = self._read()
        check_generation(self._name, self._generation, record.generation, record.owner)
        try:
            self._write(replace(record, beat=record.beat + 1), version)
        except VersionConflictError:
            self.renew()  # it was renewed by a copy of this owner, or has been taken over

    def release(self) -> None:
        """Release the lease; does nothing if it is not held, or was taken over."""
        record, version = self._read()
        if self._is_held and record.generation == self._generation:
            with suppress(VersionConflictError):  # it has just been taken over
                self._write(replace(record, owner=None), version)
        self._is_held = False

    def owner(self) -> str:
        """Describe the last owner: its process id and node."""
        return self._read()[0].owner or "another process"

    def _try_acquire(self) -> bool:
        record, version = self._read()
        if record.owner is not None and not self._patience.is_over(record):
            return False
        try:
            self._write(LeaseRecord(record.generation + 1, describe_process(), self._node), version)
        except VersionConflictError:
            return False
        self._generation, self._is_held = record.generation + 1, True
        return True

    def _read(self) -> tuple[LeaseRecord, int | None]:
        return self._objects.get(f"leases/{self._name}") or (LeaseRecord(), None)

    def _write(self, record: LeaseRecord, version: int | None) -> None:
        self._objects.put(f"leases/{self._name}", record, replaces=version)
