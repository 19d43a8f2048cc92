"""Leases: locks on files that last as long as the process that holds them."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nasproxy.errors import StudyBusyError

_HELD: set[int] = set()
"""Descriptors of the leases that this process holds."""


def _let_go() -> None:
    """Close what a fork has copied: the kernel holds a lock for as long as anybody has its descriptor."""
    for descriptor in _HELD:
        os.close(descriptor)
    _HELD.clear()


os.register_at_fork(after_in_child=_let_go)


class Lease:
    """A lock on a file that lasts as long as its process holds it, and not longer.

    One owner at a time, or several that share it; processes that the owner forks do not hold it on. The file
    names the last owner for the error message only: whether the lease is held is the kernel's word, so a dead
    owner never blocks anyone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self, *, shared: bool = False, wait_seconds: float | None = 0.0) -> bool:
        """Take the lease.

        Args:
            shared: Hold it together with others that share it.
            wait_seconds: How long to try; None waits for ever.

        Returns:
            Whether it is held now.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        if not _lock(descriptor, kind, wait_seconds):
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        _HELD.add(descriptor)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
        return True

    def release(self) -> None:
        """Give the lease back; nothing happens if it is not held."""
        if self._descriptor is not None:
            _HELD.discard(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def owner_pid(self) -> int | None:
        """Process id of whoever took it last, if that was on this machine."""
        words = self.owner().split()
        is_here = len(words) == 4 and words[3] == os.uname().nodename
        return int(words[1]) if is_here else None

    def owner(self) -> str:
        """Who took it last, in words."""
        try:
            return self.path.read_text(encoding="utf-8").strip() or "another process"
        except OSError:
            return "another process"

    @contextmanager
    def hold(self, what: str, *, shared: bool = False, wait_seconds: float | None = 0.0) -> Iterator[None]:
        """Hold the lease for a block.

        Raises:
            StudyBusyError: Somebody else holds it; `what` says of what.
        """
        if not self.acquire(shared=shared, wait_seconds=wait_seconds):
            raise StudyBusyError(
                f"{what} is being worked on by {self.owner()}: wait until it is done, stop it, "
                f"or name another study with study=NAME"
            )
        try:
            yield
        finally:
            self.release()


def _lock(descriptor: int, kind: int, wait_seconds: float | None) -> bool:
    """Lock an open file within so many seconds; the kernel lets those in who wait for ever in the order they came."""
    if wait_seconds is None:
        fcntl.flock(descriptor, kind)
        return True
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        else:
            return True


def is_held(path: Path) -> bool:
    """Whether a living process holds the lease on `path`, alone or with others."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
