"""Leases as objects that are replaced on condition of their version; only renewals show that an owner lives."""

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from nasproxy.storage.json_records import encode_record, parse_record
from nasproxy.storage.leases import TTL_SECONDS, LeaseRecord, Patience, check_generation, try_until
from nasproxy.storage.locks import describe_process
from nasproxy.storage.objects import Objects, VersionConflictError
from nasproxy.trials.clock import Clock, SystemClock


class ObjectLease:
    """A lease as one object.

    Args:
        objects: Where it is.
        name: What the lease is for.
        ttl_seconds: Time without a renewal after which an owner counts as gone.
        clock: The observer's clock.
        node: Name of the owner's machine, for messages.
    """

    def __init__(
        self,
        objects: Objects,
        name: str,
        *,
        ttl_seconds: float = TTL_SECONDS,
        clock: Clock | None = None,
        node: str | None = None,
    ) -> None:
        self._objects = objects
        self._name = name
        self._clock = clock or SystemClock()
        self._patience = Patience(ttl_seconds, self._clock)
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
        return try_until(self._try_acquire, wait_seconds, self._clock)

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

    def _read(self) -> tuple[LeaseRecord, str | None]:
        return read_lease(self._objects, self._name)

    def _write(self, record: LeaseRecord, version: str | None) -> None:
        self._objects.put(_place(self._name), encode_record(record), replaces=version)


def read_lease(objects: Objects, name: str) -> tuple[LeaseRecord, str | None]:
    """Read what is stored of a lease, and the version of its object; None if nobody has acquired it yet."""
    found = objects.get(_place(name))
    if found is None:
        return LeaseRecord(), None
    return parse_record(Path(_place(name)), found.content, LeaseRecord), found.version


def _place(name: str) -> str:
    return f"leases/{name}"
