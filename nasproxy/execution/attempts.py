"""Attempts at a trial: their start and end in its status, and how an end without one is classified and counted.

A worker writes how its own attempt ended. What it cannot write, because it was killed or never began, the controller
writes from what the backend knows of its end, in the same way for every backend.
"""

import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from nasproxy.errors import CorruptFileError, StaleLeaseError
from nasproxy.execution.failure_causes import TrialFailure
from nasproxy.storage.folder_leases import FolderLease, keep_renewed
from nasproxy.storage.json_records import read_record
from nasproxy.storage.locks import CONTROLLER
from nasproxy.storage.trial_files import measure_wall_seconds, read_generation, read_last_step, write_status
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.storage.trial_stores import FolderTrialStore, TrialStore
from nasproxy.trials.records import Cause, State, Status

EXIT_ENDED = 0
"""Exit status of a worker that wrote how its attempt ended, or the answer to its order."""
EXIT_BUSY = 75
"""Exit status of a worker that found another worker on its trial; nothing was changed."""
EXIT_UNWRITTEN = 1
"""Exit status of a worker that could not write how its attempt ended."""
SETTLE_SECONDS = 0.2
"""Seconds to wait for the lease on a trial whose worker ended: another controller may look at it just now."""
NO_STATUS = "its worker ended without a status"


@dataclass(frozen=True)
class Ended:
    """How the process of an order ended, as far as the backend knows; it says nothing on the trial's result.

    Attributes:
        key: Key of the order.
        exit_status: Exit status of the worker; None if it is unknown, or a signal ended the worker.
        signal: Signal that ended the worker; None if none did, or it is unknown.
        is_host_lost: Whether the machine, or the host process on it, is gone.
        is_cancelled: Whether `cancel` ended the order, or removed it from the queue.
        reason: Why the backend ended the worker, for the trial's status; None if it did not.
    """

    key: str
    exit_status: int | None = None
    signal: int | None = None
    is_host_lost: bool = False
    is_cancelled: bool = False
    reason: str | None = None

    @property
    def is_normal(self) -> bool:
        """Whether the worker ended by itself, having written all that it knows, or its end is unknown."""
        is_known = self.signal is not None or self.exit_status not in (EXIT_ENDED, EXIT_BUSY, None)
        return not (is_known or self.is_host_lost or self.is_cancelled or self.reason)


def describe_end(ended: Ended) -> str:
    """Describe why a worker ended, for the status of its trial."""
    if ended.reason is not None:
        return ended.reason
    if ended.is_host_lost:
        return "the machine of its worker was lost"
    if ended.signal == signal.SIGKILL:
        return (
            "its worker was killed by another process, often by the kernel because memory ran out: free memory, or "
            "limit a trial's (backend.memory_gib of the local backend), so that one that is too large fails as oom"
        )
    if ended.signal is not None:
        return f"its worker was ended by {name_signal(ended.signal)}, see worker.log"
    if ended.is_normal:
        return NO_STATUS
    return f"its worker ended with exit status {ended.exit_status}, see worker.log"


def classify_end(status: Status, ended: Ended, *, step: int, max_attempts: int, has_begun: bool = False) -> Status:
    """Compute the status of a trial from its last status and from how its worker ended.

    Args:
        status: Its last status.
        ended: How the worker ended.
        step: Step of the trial's last check; 0 if it has none.
        max_attempts: Consecutive failures without a new check after which the trial fails.
        has_begun: Whether the worker wrote the status; else one that ended otherwise than by itself is counted also if
            the trial is not marked as running.

    Returns:
        The same status if the worker wrote how the attempt ended, or had not begun one; pending if it was cancelled;
        else that of a lost attempt.
    """
    is_running = status.state is State.RUNNING
    if ended.is_cancelled:
        return replace(status, state=State.PENDING, started_at=None) if is_running else status
    is_waiting = status.state in (State.PENDING, State.PAUSED)
    died_before_it_began = is_waiting and not has_begun and not ended.is_normal
    if is_running or died_before_it_began:
        return status.failed(Cause.LOST, describe_end(ended), step=step, max_attempts=max_attempts)
    return status


def settle(trials: TrialStore, ended: Ended, *, max_attempts: int, submitted: int = 0) -> None:
    """Write the status of a trial whose worker ended without writing it.

    Args:
        trials: Store of the trial; one in memory has hosts that write every end themselves.
        ended: How the worker ended.
        max_attempts: Consecutive failures without a new check after which the trial fails.
        submitted: Generation of the trial's status when its order was submitted.
    """
    if not isinstance(trials, FolderTrialStore):
        return
    folder = trials.folder(ended.key)
    lease = FolderLease(folder.lock, role=CONTROLLER)
    try:
        if not (lease.acquire(SETTLE_SECONDS) or _take_over_from_ended(lease, folder, submitted)):
            return  # another worker runs the trial
        try:
            _settle(folder, ended, max_attempts, lease.generation, submitted)
        finally:
            lease.release()
    except CorruptFileError:
        return  # whoever reads the trial next sets it aside


def _take_over_from_ended(lease: FolderLease, folder: TrialFolder, submitted: int) -> bool:
    """Take the lease over from a worker on another node that began an attempt and is known to have ended."""
    begun = read_generation(folder)
    return begun > submitted and lease.take_over_from(begun)


def settle_predecessor(folder: TrialFolder, *, max_attempts: int, generation: int) -> Status:
    """Write and return the status of a trial whose earlier worker, if it is marked as running, is dead.

    Args:
        folder: Folder of the trial.
        max_attempts: Consecutive failures without a new check after which the trial fails.
        generation: Generation of the trial's lease, which this process holds.
    """
    return _settle(folder, Ended(folder.path.name), max_attempts, generation, submitted=0)


def _settle(folder: TrialFolder, ended: Ended, max_attempts: int, generation: int, submitted: int) -> Status:
    before, step = read_record(folder.status, Status) or Status(), read_last_step(folder)
    has_begun = before.generation > submitted
    after = classify_end(before, ended, step=step, max_attempts=max_attempts, has_begun=has_begun)
    if after != before:
        after = replace(after, wall_seconds=measure_wall_seconds(folder, before))
        write_status(folder, after, generation=generation)
    return after


class Attempt:
    """One attempt at a trial: writes its start and its end to the trial's status.

    Args:
        folder: The trial's folder.
        status: Its status before.
        max_attempts: Consecutive failures without a new check after which the trial fails.
        generation: Generation of the trial's lease, which this process holds.
    """

    def __init__(self, folder: TrialFolder, status: Status, *, max_attempts: int, generation: int) -> None:
        self.folder = folder
        self._status = status
        self._max_attempts = max_attempts
        self._generation = generation
        self._began = time.monotonic()

    def begin(self) -> None:
        """Write that the attempt runs; called once it holds its devices."""
        self._began = time.monotonic()
        running = replace(self._status, state=State.RUNNING, started_at=time.time())
        write_status(self.folder, running, generation=self._generation)

    def end(self, state: State) -> None:
        """Write that the attempt ended without failure, in this state."""
        self._write(replace(self._status, state=state))

    def fail(self, failure: TrialFailure) -> None:
        """Write that the attempt failed."""
        step = read_last_step(self.folder)
        self._write(self._status.failed(failure.cause, failure.message, step=step, max_attempts=self._max_attempts))

    def keep_renewed(self, lost: Callable[[StaleLeaseError], object]) -> AbstractContextManager[None]:
        """Renew the lease on the trial during a block; `lost` is called if another worker takes it over."""
        return keep_renewed(self.folder.lock, self._generation, lost)

    def interrupt(self) -> None:
        """Write that the user ended the attempt, which is no failure."""
        self._write(replace(self._status, state=State.PENDING))

    def _write(self, ended: Status) -> None:
        seconds = self._status.wall_seconds + time.monotonic() - self._began
        ended = replace(ended, wall_seconds=seconds, started_at=None)
        write_status(self.folder, ended, generation=self._generation)


def name_signal(number: int) -> str:
    """Return the name of a signal, such as SIGKILL."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
