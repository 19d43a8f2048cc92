"""End a process that a launcher started when the process that started it has died."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

POLL_SECONDS = 0.5
GRACE_SECONDS = 5.0
"""Seconds for a job to stop its trials at their next check, as after Ctrl-C, before they are killed."""

_is_watching = False
_idle = threading.Event()


@contextmanager
def end_with(parent: int) -> Iterator[None]:
    """End this process soon after its parent has died, in this block and after it.

    Workers of joblib wait minutes for further jobs; nothing else tells them that none will come.

    Args:
        parent: Process id of the sweep's parent. A process that is not its direct child is not watched: SLURM's jobs
            are meant to outlive the process that submitted them.
    """
    global _is_watching
    if os.getppid() == parent and not _is_watching:
        _is_watching = True
        threading.Thread(target=_watch, args=(parent,), daemon=True, name="parent watch").start()
    _idle.clear()
    try:
        yield
    finally:
        _idle.set()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    if not _idle.is_set():
        os.kill(os.getpid(), signal.SIGTERM)  # a job handles it like Ctrl-C
        _idle.wait(GRACE_SECONDS)
    for process in multiprocessing.active_children():
        _kill_group(process.pid)
    os._exit(1)


def _kill_group(leader: int | None) -> None:
    """Kill a worker and the processes that it started; one that has not made its group yet is killed alone."""
    if leader is None:
        return
    for kill in (os.killpg, os.kill):
        try:
            kill(leader, signal.SIGKILL)
        except ProcessLookupError:
            continue
        else:
            return
