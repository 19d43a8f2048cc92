"""The processes of one training on several devices: started together, met at a free port, ended together.

The worker is rank 0 and the agent of the others, as torchrun is: it forks them before Torch has run anything, opens
a store at a port that the system picks, and names it to all in the variables that Torch and Lightning read. No port
is chosen before it is opened, so two trials of one machine never meet at the same.
"""

import multiprocessing
import os
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess, parent_process
from types import TracebackType
from typing import TYPE_CHECKING

from nasproxy.execution.failure_causes import TrialFailure
from nasproxy.trials.records import Cause

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

ADDRESS = "127.0.0.1"
DERIVED_SECONDS = 1.0
"""How long to wait for another rank's word of what went wrong: a rank that fails makes rank 0 fail after it."""


class RankProcesses:
    """The ranks beside this process, as a block: at its end all of them have ended.

    A rank tells of its failure before its connections break, so the first that is told of is the one that matters;
    the trial then ends at once, for ranks that wait for each other may wait for ever.
    """

    def __init__(
        self,
        world_size: int,
        work: Callable[[int], None],
        failure: Callable[[BaseException], TrialFailure],
        on_failure: Callable[[TrialFailure], None],
    ) -> None:
        """Say what the ranks do.

        Args:
            world_size: Ranks, this process among them.
            work: What another rank does, by its number.
            failure: Why it failed, by what it raised.
            on_failure: What to do once one has failed: it does not return, and this process ends with it.
        """
        self._world_size = world_size
        self._work = work
        self._failure = failure
        self._on_failure = on_failure
        self._ending = threading.Lock()
        self._others: dict[Connection, BaseProcess] = {}
        self._store: TCPStore | None = None

    def __enter__(self) -> "RankProcesses":
        """Start the other ranks, and say where all of them meet."""
        context = multiprocessing.get_context("fork")
        for rank in range(1, self._world_size):
            ours, theirs = context.Pipe()
            process = context.Process(target=self._run, args=(rank, theirs))
            process.start()
            theirs.close()
            self._others[ours] = process
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        # Opened by this process and not by rank 0's training, which would have to be told a port that is still free.
        self._store = TCPStore(ADDRESS, 0, is_master=True, wait_for_workers=False)
        for connection in self._others:
            connection.send(self._store.port)
        _meet_at(self._store.port, 0, self._world_size)
        self._watch = threading.Thread(target=self._watch_others, daemon=True)
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the other ranks to end; after an error here, end them."""
        self._watch.join(None if error is None else DERIVED_SECONDS)
        self._ending.acquire()  # and never release it: nobody else ends this trial now
        self._kill()

    def _run(self, rank: int, connection: Connection) -> None:
        """What another rank's process does."""
        threading.Thread(target=end_with_parent, daemon=True).start()
        try:
            _meet_at(connection.recv(), rank, self._world_size)
            self._work(rank)
        except BaseException as error:  # whatever a trainer raises ends its own trial, with the reason on record
            traceback.print_exc()
            connection.send(self._failure(error))
            os._exit(1)
        os._exit(0)

    def _watch_others(self) -> None:
        running = dict(self._others)
        while running:
            for connection in [one for one in wait(list(running)) if isinstance(one, Connection)]:
                failed = _end_of(running.pop(connection), connection)
                if failed is not None:
                    self._ending.acquire()
                    self._kill()
                    self._on_failure(failed)

    def _kill(self) -> None:
        for process in self._others.values():
            process.kill()
            process.join()


def _end_of(process: BaseProcess, connection: Connection) -> TrialFailure | None:
    """Why a rank failed that has said its last word; None where it has not."""
    try:
        failed: TrialFailure = connection.recv()
        return failed
    except EOFError:
        process.join()
    if process.exitcode == 0:
        return None
    return TrialFailure(Cause.LOST, f"a process of the trial ended without a word, with exit status {process.exitcode}")


def _meet_at(port: int, rank: int, world_size: int) -> None:
    os.environ.update(
        MASTER_ADDR=ADDRESS,
        MASTER_PORT=str(port),
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world_size),
        TORCHELASTIC_USE_AGENT_STORE="True",  # the store is open already: all ranks are its guests
    )


def end_with_parent() -> None:
    """End this process as soon as the one that started it has ended; for a thread of its own."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
