"""Leases in a folder that their owners share."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from nasproxy.errors import CorruptFileError, NasproxyError, StaleLeaseError, StorageFullError
from nasproxy.storage.files import read_bytes
from nasproxy.storage.json_records import parse_record, write_record
from nasproxy.storage.leases import TTL_SECONDS, LeaseRecord, Patience, check_generation, try_until
from nasproxy.storage.locks import PROCESS, FileLock, describe_process
from nasproxy.trials.clock import Clock, SystemClock

RENEWAL_SECONDS = 15.0
"""Seconds between two renewals, several of which fit into the default time to live."""


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
        self._patience = Patience(ttl_seconds, self._clock)
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
        return try_until(self._try_acquire, wait_seconds, self._clock)

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
