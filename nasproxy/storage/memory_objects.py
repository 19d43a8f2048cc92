"""Objects in this process's memory that are replaced on condition of their version, and leases made of them."""

import os
import threading
from contextlib import suppress
from dataclasses import replace
from typing import Any

from nasproxy.storage.leases import TTL_SECONDS, LeaseRecord, Patience, check_generation, try_until
from nasproxy.storage.locks import describe_process
from nasproxy.trials.clock import Clock, SystemClock


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

    def _read(self) -> tuple[LeaseRecord, int | None]:
        return self._objects.get(f"leases/{self._name}") or (LeaseRecord(), None)

    def _write(self, record: LeaseRecord, version: int | None) -> None:
        self._objects.put(f"leases/{self._name}", record, replaces=version)
