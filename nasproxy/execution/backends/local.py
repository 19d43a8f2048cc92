"""Trials as fresh processes on this machine, one for each slot."""

import os
import signal
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import wait as wait_for_any
from multiprocessing.context import ForkServerProcess

from nasproxy.errors import ConfigError, CorruptFileError
from nasproxy.execution.devices import CorePool, GpuPool, Pool, check_fits, find_lease_folder, list_gpus
from nasproxy.execution.fork_server import ForkServer
from nasproxy.execution.work_order import WorkOrder
from nasproxy.execution.worker.main import EXIT_BUSY, EXIT_ENDED
from nasproxy.storage.files import read_record, write_record
from nasproxy.storage.leases import Lease, is_held
from nasproxy.storage.trial_files import measure_wall_seconds, read_last_step, settle_status
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.storage.trial_stores import FolderTrialStore
from nasproxy.storage.zero_cost_scores import ZeroCost
from nasproxy.trials.records import Cause, State, Status
from nasproxy.trials.spec import TrialSpec

QUIET = (EXIT_ENDED, EXIT_BUSY)
"""Exit statuses that say nothing of a trial."""
MOST_MEMORY_GIB = 2.0**20
"""A limit that no machine has, and that still fits the kernel's numbers."""
FOREIGN_POLL_SECONDS = 0.2
"""How often to look after workers that another controller left behind: they are not our children."""


@dataclass
class _Running:
    process: ForkServerProcess
    order: WorkOrder
    started: float


class LocalBackend:
    """Runs trials on this machine's cores and GPUs."""

    def __init__(
        self,
        store: FolderTrialStore,
        *,
        slots: int | None = None,
        gpus: int | None = None,
        gpus_per_trial: float = 1.0,
        device_type: str = "cpu",
        max_attempts: int = 2,
        hang_seconds: float | None = 1800.0,
        memory_gib: float | None = None,
        trusted_modules: Sequence[str] = ("nasproxy",),
        preload: Sequence[str] = (),
    ) -> None:
        """Divide the machine.

        Args:
            store: Where the trials' folders are.
            slots: Trials at once; None for one a core, or as many as the GPUs hold.
            gpus: How many of the visible GPUs to use; None for all.
            gpus_per_trial: GPUs of one trial, a whole number or a fraction.
            device_type: `cpu` or `cuda`.
            max_attempts: Attempts of a trial that crashes or is lost.
            hang_seconds: A worker that gives no sign of life for so long, such as a check, `hooks.report_alive` or
                output, is taken for hung; None waits for ever.
            memory_gib: CPU memory of a trial's worker, beyond which its training is out of memory; None for no limit.
            trusted_modules: Top-level modules that a trial's config may name.
            preload: Modules that the warm server imports.

        Raises:
            ConfigError: There are fewer slots or GPUs than asked for, or a number is out of range.
        """
        self._store = store
        self._cores = len(os.sched_getaffinity(0))
        if slots is not None and slots < 1:
            raise ConfigError(f"backend.slots must be at least 1, got {slots}")
        if max_attempts < 1:
            raise ConfigError(f"backend.max_attempts must be at least 1, got {max_attempts}: 1 repeats no trial")
        if hang_seconds is not None and not hang_seconds > 0:
            raise ConfigError(f"backend.hang_seconds must be above 0, got {hang_seconds:g}: give null to wait for ever")
        if memory_gib is not None and not 0 < memory_gib < MOST_MEMORY_GIB:
            raise ConfigError(f"backend.memory_gib must be above 0, got {memory_gib:g}: give null for no limit")
        if not gpus_per_trial > 0 or (gpus is not None and gpus < 1):
            raise ConfigError(
                f"backend needs gpus of at least 1 and gpus_per_trial above 0, got {gpus} and {gpus_per_trial:g}: "
                f"gpus=null takes all that are visible"
            )
        gpus_pool = _gpu_pool(gpus, gpus_per_trial) if device_type == "cuda" else None
        self._slots = slots or (gpus_pool.slots if gpus_pool else self._cores)
        # The controllers of a sweep share the slots through the study's folder, as they share its trials.
        self._pool: Pool = gpus_pool or CorePool(self._slots, store.root.parent / "locks")
        self._max_attempts = max_attempts
        self._hang_seconds = hang_seconds
        self._memory_gib = memory_gib
        self._trusted = tuple(trusted_modules)
        self._host = ForkServer(preload)
        self._queue: OrderedDict[str, WorkOrder] = OrderedDict()
        self._running: dict[str, _Running] = {}
        self._foreign: set[str] = set()
        self._devices: dict[str, int] = {}

    @property
    def slots(self) -> int:
        """Trials that run at once."""
        return self._slots

    def preflight(self, specs: Sequence[TrialSpec]) -> list[str]:
        """Put trials together in a process like a worker's, without training them.

        Returns:
            What their trainers say of them.

        Raises:
            ConfigError: One cannot be put together, or asks for more devices than there are.
        """
        for spec in specs:
            check_fits(self._pool, spec.devices)
        return self._host.preflight(specs, self._memory_gib)

    def zero_costs(self, specs: Sequence[TrialSpec]) -> list[ZeroCost | None]:
        """Score the trials' models in a process like a worker's, without training them."""
        return self._host.zero_costs(specs)

    def submit(self, key: str, digest: str) -> None:
        """Queue the trial; one that a worker of an earlier controller still trains is taken over as it is."""
        if key in self.live():
            return
        folder = self._store.folder(key)
        if is_held(folder.lock):
            self._foreign.add(key)
            return
        self._queue[key] = WorkOrder(
            folder=folder.path,
            digest=digest,
            trusted_modules=self._trusted,
            pool=self._pool,
            threads=self._threads_on(self._devices_of(key)),
            max_attempts=self._max_attempts,
            memory_gib=self._memory_gib,
        )
        self._fill()

    def live(self) -> set[str]:
        """Keys of the trials that run or wait for a slot."""
        return {*self._queue, *self._running, *self._foreign}

    def running(self) -> set[str]:
        """Keys of the trials that run."""
        return {*self._running, *self._foreign}

    def wait(self, seconds: float) -> set[str]:
        """Let trials run until one of ours ends, or for so many seconds at most."""
        self._fill()
        timeout = min(seconds, FOREIGN_POLL_SECONDS) if self._foreign else seconds
        sentinels = [running.process.sentinel for running in self._running.values()]
        if sentinels:
            wait_for_any(sentinels, timeout)
        else:
            time.sleep(timeout)
        return self._reap()

    def cancel(self, key: str) -> None:
        """Take the trial from the queue, or kill its worker and all that the worker started."""
        self._queue.pop(key, None)
        if key in self._foreign:
            self._kill_foreign(key)
        running = self._running.get(key)
        if running is not None:
            _kill_group(running.process.pid)
            running.process.join()
            self._ended(key, is_cancelled=True)

    def close(self) -> None:
        """Cancel what still runs."""
        for key in self.live():
            self.cancel(key)

    def _devices_of(self, key: str) -> int:
        """Read once: a trial that is paused and resumed is submitted often."""
        if key not in self._devices:
            try:
                self._devices[key] = self._store.spec(key).devices
            except CorruptFileError:
                return 1  # the worker will say what is wrong
        return self._devices[key]

    def _threads_on(self, devices: int) -> int:
        """Threads of each process of a trial on so many devices, when the machine is full of such trials."""
        at_once = min(self._slots, self._pool.slots / self._pool.slots_of(devices))
        return max(1, int(self._cores / (at_once * devices) + 1e-3))

    def _fill(self) -> None:
        """Start what fits, in order: a trial that waits for several slots is not overtaken for ever."""
        while self._queue and self._fits(next(iter(self._queue))):
            key, order = self._queue.popitem(last=False)
            self._running[key] = _Running(self._host.start(order), order, time.time())

    def _fits(self, key: str) -> bool:
        busy = self.running()
        # One that never fits is started alone, and fails at once.
        taken = sum(min(self._pool.slots_of(self._devices_of(other)), self._pool.slots) for other in (*busy, key))
        return len(busy) < self._slots and taken <= self._pool.slots + 1e-3

    def _reap(self) -> set[str]:
        hung = {key for key in self._foreign if self._is_hung(self._store.folder(key))}
        for key in hung:
            self._kill_foreign(key)
        ended = {key for key in self._foreign if not is_held(self._store.folder(key).lock)}
        self._foreign -= ended
        for key in ended:
            why = self._why_hung if key in hung else _why(EXIT_ENDED)
            self._settle(self._store.folder(key), EXIT_ENDED, why)
        for key, running in list(self._running.items()):
            folder = TrialFolder(running.order.folder)
            is_hung = running.process.is_alive() and self._is_hung(folder, running.started)
            if is_hung:
                _kill_group(running.process.pid)
                running.process.join()
            if not running.process.is_alive():
                ended.add(key)
                self._ended(key, is_hung=is_hung)
        self._fill()
        return ended

    def _ended(self, key: str, *, is_cancelled: bool = False, is_hung: bool = False) -> None:
        running = self._running.pop(key)
        running.process.join()
        exitcode = running.process.exitcode
        running.process.close()
        why = self._why_hung if is_hung else _why(exitcode)
        self._settle(TrialFolder(running.order.folder), exitcode, why, is_cancelled=is_cancelled)

    def _settle(self, folder: TrialFolder, exitcode: int | None, why: str, *, is_cancelled: bool = False) -> None:
        """Write the end of a worker that could not write its own."""
        lock = Lease(folder.lock)
        if not lock.acquire():
            return  # another controller's worker has it already
        try:
            before = read_record(folder.status, Status) or Status()
            if is_cancelled and before.state is State.RUNNING:
                seconds = measure_wall_seconds(folder, before)
                after = replace(before, state=State.PENDING, wall_seconds=seconds, started_at=None)
            elif not is_cancelled and before.state is not State.RUNNING and exitcode not in (*QUIET, None):
                after = before.failed(Cause.LOST, why, step=read_last_step(folder), max_attempts=self._max_attempts)
            else:
                after = settle_status(folder, max_attempts=self._max_attempts, why=why)
            if after != before:
                write_record(folder.status, after)
        finally:
            lock.release()

    def _kill_foreign(self, key: str) -> None:
        """Kill a worker that an earlier controller left behind; its lock says which process it is."""
        lock = self._store.folder(key).lock
        if is_held(lock):
            _kill_group(Lease(lock).owner_pid())

    def _is_hung(self, folder: TrialFolder, started: float = 0.0) -> bool:
        if self._hang_seconds is None:
            return False
        status = read_record(folder.status, Status)
        if status is None or status.state is not State.RUNNING:
            return False  # it waits for its share of the machine
        signs = (folder.status, folder.metrics, folder.heartbeat, folder.log)
        last_sign = max(path.stat().st_mtime for path in signs if path.exists())
        return time.time() - max(started, last_sign) > self._hang_seconds

    @property
    def _why_hung(self) -> str:
        return (
            f"its worker gave no sign of life for {self._hang_seconds:g} s and was killed: if it was training, call "
            f"nasproxy.training.hooks.report_alive between checks, or raise backend.hang_seconds"
        )


def _why(exitcode: int | None) -> str:
    """What a worker's exit status says of its death."""
    if exitcode in (*QUIET, None):
        return "its worker ended without a word"
    if exitcode == -signal.SIGKILL:
        return (
            "its worker was killed from outside, as the kernel does when memory runs out: with backend.memory_gib set, "
            "a trial that is too large fails as oom instead"
        )
    return f"its worker ended with exit status {exitcode}, see worker.log"


def _gpu_pool(count: int | None, per_trial: float) -> GpuPool:
    visible = list_gpus()
    if count is not None and count > len(visible):
        raise ConfigError(f"backend.gpus asks for {count} GPUs, and {len(visible)} are visible: ask for fewer")
    return GpuPool(visible if count is None else visible[:count], per_trial, find_lease_folder())


def _kill_group(pid: int | None) -> None:
    """Kill a worker with all that it started; a worker leads a group of its own once it is set up."""
    if pid is None:
        return
    try:
        leads_group = os.getpgid(pid) == pid
        (os.killpg if leads_group else os.kill)(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
