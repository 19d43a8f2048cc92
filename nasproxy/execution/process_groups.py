"""End the process group of a worker: the worker with all processes that it started."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROUNDS = 10
"""How often the processes of a group are listed before those that do not end are left alone."""


def is_alive(pid: int) -> bool:
    """Return whether a process lives; one that has ended and waits for its parent does not."""
    try:
        return _read_stat(pid)[0] not in "ZX"
    except (OSError, ValueError):
        return False


def has_open(pid: int, path: Path) -> bool:
    """Return whether a process has a file open."""
    with suppress(OSError):  # it has ended, or is another user's
        return any(link.readlink() == path.resolve() for link in _list_open(pid))
    return False


def has_open_in(pid: int, folder: Path) -> bool:
    """Return whether a process has a file in a folder open."""
    with suppress(OSError):  # it has ended, or is another user's
        return any(link.readlink().parent == folder.resolve() for link in _list_open(pid))
    return False


def find_controller(worker: int) -> int | None:
    """Find the process whose fork server started a worker; what adopted the server if that process has ended."""
    with suppress(OSError, ValueError, IndexError):  # one of them has ended
        return _read_parent(_read_parent(worker))
    return None


def _read_parent(pid: int) -> int:
    return int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])


def _list_open(pid: int) -> Iterator[Path]:
    return (Path("/proc") / str(pid) / "fd").iterdir()


def kill_group(pid: int) -> None:
    """Kill a process and its group, if it leads one: a worker does once it is set up."""
    with suppress(ProcessLookupError):
        leads_group = os.getpgid(pid) == pid
        (os.killpg if leads_group else os.kill)(pid, signal.SIGKILL)


def kill_remaining(group: int) -> None:
    """Kill the processes that the leader of a group, which has ended, left in it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def kill_own_group() -> None:
    """Kill all other processes of this process's group, which it leads."""
    group, own = os.getpgrp(), os.getpid()
    if group != own:
        return
    for _ in range(ROUNDS):  # a process may have forked meanwhile
        members = [pid for pid in _list_group(group) if pid != own]
        if not members:
            return
        for pid in members:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _list_group(group: int) -> list[int]:
    """List the living processes of a group."""
    members = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):  # it has ended
            state, its_group = _read_stat(int(path.name))
            if its_group == group and state not in "ZX":
                members.append(int(path.name))
    return members


def _read_stat(pid: int) -> tuple[str, int]:
    """Read the state of a process and its group."""
    stat = (Path("/proc") / str(pid) / "stat").read_text()
    state, _, group = stat.rpartition(")")[2].split()[:3]  # the name, in parentheses, may hold anything
    return state, int(group)
