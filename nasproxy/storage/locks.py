"""Locks on files, which the kernel releases when the process that holds them ends."""

import fcntl
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nasproxy.errors import CorruptFileError, StudyBusyError
from nasproxy.storage.files import make_folder, open_file, read_bytes

PROCESS = "process"
"""Role of an owner in the texts that describe it."""
CONTROLLER = "controller"
"""Role of a controller that holds, for a moment, what workers hold: no host may adopt and kill it."""
_OPEN: set[int] = set()
"""Descriptors of the lock files that this process has open."""
_OPENING = threading.Lock()
"""Held while a lock file is opened or closed, so that a fork by another thread copies no descriptor unseen."""


def _close_forked_copies() -> None:
    """Close descriptors that a fork copied: the kernel keeps a lock until all copies of its descriptor are closed."""
    for descriptor in _OPEN:
        os.close(descriptor)
    _OPEN.clear()
    _OPENING.release()


os.register_at_fork(before=_OPENING.acquire, after_in_parent=_OPENING.release, after_in_child=_close_forked_copies)


def _open(path: Path, flags: int) -> int:
    """Open a lock file, known to forks from the beginning."""
    with _OPENING:
        descriptor = open_file(path, flags)
        _OPEN.add(descriptor)
    return descriptor


def _close(descriptor: int) -> None:
    """Unlock and close a lock file."""
    with _OPENING:
        # A child that another thread starts without these rules, such as a program before its exec, may have a copy.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        _OPEN.discard(descriptor)
        os.close(descriptor)


class FileLock:
    """A file lock that ends at the latest with the process that holds it.

    It has one exclusive owner, or several shared owners; processes forked by an owner do not hold it. The file
    contains the last owner, for error messages only: the kernel decides whether the lock is held, so a dead owner
    never blocks anyone.

    Args:
        path: The lock file.
        is_signed: Whether to write the owner into it; not worth the time for one that is held for a moment.
        role: What the owner is; `owner_pid` returns only an owner with the default.
    """

    def __init__(self, path: Path, *, is_signed: bool = True, role: str = PROCESS) -> None:
        self.path = path
        self._is_signed = is_signed
        self._role = role
        self._is_shared = False
        self._descriptor: int | None = None

    def acquire(self, *, shared: bool = False, wait_seconds: float | None = 0.0) -> bool:
        """Acquire the lock.

        Args:
            shared: Acquire it together with other shared owners.
            wait_seconds: Seconds to wait for it; None waits without limit.

        Returns:
            Whether it was acquired.

        Raises:
            CorruptFileError: There is a link, a folder or a device in place of the lock file, or something else in
                place of its folder.
        """
        make_folder(self.path.parent)
        descriptor = _open(self.path, os.O_RDWR | os.O_CREAT)
        try:
            is_acquired = _lock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, wait_seconds)
            is_replaced = is_acquired and not _is_at(self.path, descriptor)  # by another process in between
            if is_acquired and not is_replaced:
                self._is_shared = shared
                self._keep(descriptor)
                return True
        except BaseException:  # Ctrl-C too must leave nothing locked
            self._descriptor = None
            _close(descriptor)
            raise
        _close(descriptor)
        return is_replaced and self.acquire(shared=shared, wait_seconds=wait_seconds)

    def take_over(self) -> None:
        """Replace the lock file by a new one and lock that: the owner before, if it lives, locks nothing any more."""
        temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.tmp")
        descriptor = _open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        temporary.replace(self.path)
        self._keep(descriptor)

    def _keep(self, descriptor: int) -> None:
        self._descriptor = descriptor
        if not self._is_signed:
            return
        with suppress(OSError):  # a full disk; the owner is for messages
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{describe_process(self._role)}\n".encode(), 0)

    def release(self) -> None:
        """Release the lock; does nothing if it is not held."""
        if self._descriptor is None:
            return
        if self._is_signed and not self._is_shared:
            with suppress(OSError):
                os.ftruncate(self._descriptor, 0)  # its process id may soon be that of another process
        _close(self._descriptor)
        self._descriptor = None

    def owner_pid(self) -> int | None:
        """Return the process id of the last owner; None if it ran on another machine, had a role, or is unknown."""
        role, *parts = self.owner().split()  # "process PID on HOST"
        is_on_this_host = len(parts) == 3 and parts[2] == os.uname().nodename and parts[0].isdecimal()
        return int(parts[0]) if is_on_this_host and role == PROCESS else None

    def owner(self) -> str:
        """Describe the last owner: its process id and host."""
        try:
            content = read_bytes(self.path) or b""
        except CorruptFileError:
            content = b""
        return content.decode("utf-8", "replace").strip() or "another process"

    @contextmanager
    def hold(self, what: str, *, shared: bool = False, wait_seconds: float | None = 0.0) -> Iterator[None]:
        """Hold the lock during a block.

        Args:
            what: What the lock protects, for the error message.
            shared: Acquire it together with other shared owners.
            wait_seconds: Seconds to wait for it; None waits without limit.

        Raises:
            StudyBusyError: Another process holds it.
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


def describe_process(role: str = PROCESS) -> str:
    """Describe this process: its role, id and node."""
    return f"{role} {os.getpid()} on {os.uname().nodename}"


def _is_at(path: Path, descriptor: int) -> bool:
    """Return whether an open file is the one that is at `path` now."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _lock(descriptor: int, kind: int, wait_seconds: float | None) -> bool:
    """Lock an open file and return whether that succeeded; the kernel serves unlimited waits in order of arrival."""
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


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock on `path`, exclusive or shared.

    Raises:
        CorruptFileError: There is a link, a folder or a device in place of the lock file.
    """
    try:
        descriptor = _open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        _close(descriptor)
    return False
