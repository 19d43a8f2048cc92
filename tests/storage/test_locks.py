"""Locks on files while this process forks, starts programs, or is interrupted."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from nasproxy.execution.process_groups import has_open
from nasproxy.storage.locks import FileLock, is_locked


def test_a_fork_while_a_lock_is_acquired_copies_no_lock(tmp_path: Path) -> None:
    lock, children, really_lock = FileLock(tmp_path / "x.lock"), [], fcntl.flock
    reader, writer = os.pipe()

    def fork_and_lock(descriptor: int, kind: int) -> Any:
        if not children:
            child = os.fork()
            if child == 0:
                os.write(writer, b"forked")
                signal.pause()
            children.append(child)
        return really_lock(descriptor, kind)

    with mock.patch("nasproxy.storage.locks.fcntl.flock", fork_and_lock):
        assert lock.acquire()
    try:
        assert has_open(os.getpid(), lock.path)
        assert os.read(reader, 6), "the child has run what follows a fork"
        assert not has_open(children[0], lock.path)
    finally:
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)
        os.close(reader)
        os.close(writer)


def test_a_released_lock_is_free_although_a_program_has_a_copy_of_its_descriptor(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "x.lock")
    assert lock.acquire()
    assert lock._descriptor is not None
    os.set_inheritable(lock._descriptor, True)
    program = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[lock._descriptor], text=True
    )
    try:
        lock.release()
        assert not is_locked(lock.path)
        assert FileLock(lock.path).acquire()
    finally:
        program.communicate("\n")


def test_an_interrupt_while_a_lock_is_acquired_leaves_it_free(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "x.lock")
    with (
        mock.patch("nasproxy.storage.locks.os.pwrite", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt, match=r"^$"),
    ):
        lock.acquire()
    assert not is_locked(lock.path)


def test_a_free_lock_names_no_owner_whose_process_id_may_be_that_of_another_by_now(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "x.lock")
    assert lock.acquire()
    assert FileLock(lock.path).owner_pid() == os.getpid()
    lock.release()
    assert FileLock(lock.path).owner_pid() is None
