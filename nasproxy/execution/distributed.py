"""Start, connect and end the processes of one training on several devices.

The worker is rank 0 and, like torchrun, the agent of the other ranks: it forks them before Torch has run anything,
opens a store at a port that the system picks, and passes the port in the variables that Torch and Lightning read.
The port is open before it is passed on, so two trials on one machine never use the same.
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
from nasproxy.execution.process_groups import kill_own_group
from nasproxy.trials.records import Cause

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

ADDRESS = "127.0.0.1"
ORIGINAL_FAILURE_SECONDS = 1.0
"""Seconds to wait for another rank's failure after rank 0 failed, because a failed rank makes rank 0 fail as well."""


class RankProcesses:
    """Context manager for the other ranks of a training; all of them have ended when the block ends.

    A rank reports its failure before its connections break, so the first failure reported is the original one. The
    trial then ends at once, because the other ranks may wait for each other without limit.
    """

    def __init__(
        self,
        world_size: int,
        work: Callable[[int], None],
        failure: Callable[[BaseException], TrialFailure],
        on_failure: Callable[[TrialFailure], None],
    ) -> None:
        """Configure the ranks; they start when the block is entered.

        Args:
            world_size: Number of ranks, including this process.
            work: Function that another rank runs, called with the rank.
            failure: Function that turns an exception of a rank into the trial's failure.
            on_failure: Called in this process with the first failure; must end the process.
        """
        self._world_size = world_size
        self._work = work
        self._failure = failure
        self._on_failure = on_failure
        self._ending = threading.Lock()
        self._others: dict[Connection, BaseProcess] = {}
        self._store: TCPStore | None = None

    def __enter__(self) -> "RankProcesses":
        """Start the other ranks and send them the port of the store."""
        context = multiprocessing.get_context("fork")
        for rank in range(1, self._world_size):
            ours, theirs = context.Pipe()
            process = context.Process(target=self._run_rank, args=(rank, theirs))
            process.start()
            theirs.close()
            self._others[ours] = process
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        # Opened here and not by rank 0's training, which would need a port chosen before it is opened.
        self._store = TCPStore(ADDRESS, 0, is_master=True, wait_for_workers=False)
        for connection in self._others:
            connection.send(self._store.port)
        _set_rendezvous(self._store.port, 0, self._world_size)
        self._watch = threading.Thread(target=self._watch_others, daemon=True)
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until the other ranks have ended; after an error in the block, kill them."""
        self._watch.join(None if error is None else ORIGINAL_FAILURE_SECONDS)
        self._ending.acquire()  # never released, so that the watching thread cannot end the trial as well
        self._kill()

    def _run_rank(self, rank: int, connection: Connection) -> None:
        """Run the work of another rank, in its own process."""
        threading.Thread(target=end_with_parent, daemon=True).start()
        try:
            _set_rendezvous(connection.recv(), rank, self._world_size)
            self._work(rank)
        except BaseException as error:  # any exception of a trainer ends only its own trial and is recorded
            traceback.print_exc()
            connection.send(self._failure(error))
            os._exit(1)
        os._exit(0)

    def _watch_others(self) -> None:
        running = dict(self._others)
        while running:
            for connection in [one for one in wait(list(running)) if isinstance(one, Connection)]:
                failed = _receive_failure(running.pop(connection), connection)
                if failed is not None:
                    self._ending.acquire()
                    self._kill()
                    self._on_failure(failed)

    def _kill(self) -> None:
        for process in self._others.values():
            process.kill()
            process.join()


def _receive_failure(process: BaseProcess, connection: Connection) -> TrialFailure | None:
    """Receive the failure of a rank whose connection is readable or closed; None if it ended without failure."""
    try:
        failed: TrialFailure = connection.recv()
        return failed
    except EOFError:
        process.join()
    if process.exitcode == 0:
        return None
    return TrialFailure(Cause.LOST, f"a rank ended without reporting an error, with exit status {process.exitcode}")


def _set_rendezvous(port: int, rank: int, world_size: int) -> None:
    os.environ.update(
        MASTER_ADDR=ADDRESS,
        MASTER_PORT=str(port),
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world_size),
        TORCHELASTIC_USE_AGENT_STORE="True",  # the store is open already, all ranks connect as clients
    )


def end_with_parent() -> None:
    """End this process as soon as the one that started it has ended; for a thread of its own.

    The leader of a process group ends the group.
    """
    parent = parent_process()
    assert parent is not None
    parent.join()
    kill_own_group()
    os._exit(1)
