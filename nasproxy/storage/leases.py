"""Leases: who works on something, with a generation that tells the writes of an owner from those of the one before.

A process that was stopped, or whose machine was cut off, may wake after another has taken over its work. Each take-over
raises the generation, every write carries its owner's, and one that is too old is refused.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from nasproxy.errors import StaleLeaseError, StudyBusyError
from nasproxy.trials.clock import Clock

TTL_SECONDS = 60.0
"""Default time without a renewal after which an owner on another node counts as gone."""
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


class Patience:
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


def try_until(attempt: Callable[[], bool], wait_seconds: float | None, clock: Clock) -> bool:
    """Attempt to acquire a lease until that succeeds or the time is over, and return whether it succeeded."""
    deadline = None if wait_seconds is None else clock.now() + wait_seconds
    while not attempt():
        if deadline is not None and clock.now() >= deadline:
            return False
        clock.sleep(POLL_SECONDS)
    return True
