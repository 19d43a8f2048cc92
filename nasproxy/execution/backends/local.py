"""The local backend: each trial runs in a fresh process on this machine."""

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
from nasproxy.storage.files import read_record
from nasproxy.storage.leases import FolderLease
from nasproxy.storage.locks import FileLock, is_locked
from nasproxy.storage.trial_files import measure_wall_seconds, read_last_step, settle_status, write_status
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.storage.trial_stores import FolderTrialStore
from nasproxy.storage.zero_cost_scores import ZeroCost
from nasproxy.trials.records import Cause, State, Status
from nasproxy.trials.spec import Architecture, TrialSpec

SILENT_EXIT_STATUSES = (EXIT_ENDED, EXIT_BUSY)
"""Exit statuses without information on the trial: its status, or another worker, has it."""
ADOPTED_POLL_SECONDS = 0.2
"""Seconds between two polls of workers that another controller started, because they are not our children."""
MAX_MEMORY_GIB = 2.0**20
"""A limit beyond every machine that still fits the kernel's numbers."""


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
        """Configure slots, devices and limits.

        Args:
            store: Store of the trials' folders.
            slots: Trials that run at once; None for one per core, or as many as fit on the GPUs.
            gpus: Number of visible GPUs to use; None for all.
            gpus_per_trial: GPUs of one trial, a whole number or a fraction.
            device_type: `cpu` or `cuda`.
            max_attempts: Consecutive attempts of a trial that crashes or is lost without a new check.
            hang_seconds: Heartbeat timeout in seconds: a worker without a check, output or call of
                `trial.report_alive` for so long is killed; None for no timeout.
            memory_gib: CPU memory limit of a worker in GiB; None for no limit.
            trusted_modules: Top-level modules that a trial's config may name.
            preload: Modules that the warm server imports.

        Raises:
            ConfigError: A number is out of range, or there are fewer GPUs than asked for.
        """
        self._store = store
        self._cores = len(os.sched_getaffinity(0))
        if slots is not None and slots < 1:
            raise ConfigError(f"backend.slots must be at least 1, got {slots}")
        if max_attempts < 1:
            raise ConfigError(f"backend.max_attempts must be at least 1, got {max_attempts}: 1 retries no trial")
        if hang_seconds is not None and not hang_seconds > 0:
            raise ConfigError(f"backend.hang_seconds must be above 0, got {hang_seconds:g}: use null to wait for ever")
        if memory_gib is not None and not 0 < memory_gib < MAX_MEMORY_GIB:
            raise ConfigError(f"backend.memory_gib must be above 0, got {memory_gib:g}: use null for no limit")
        if not gpus_per_trial > 0 or (gpus is not None and gpus < 1):
            raise ConfigError(
                f"backend needs gpus of at least 1 and gpus_per_trial above 0, got {gpus} and {gpus_per_trial:g}: "
                f"gpus=null uses all visible GPUs"
            )
        gpu_pool = _make_gpu_pool(gpus, gpus_per_trial) if device_type == "cuda" else None
        self._slots = slots or (gpu_pool.slots if gpu_pool else self._cores)
        # The lease folder is in the study's folder, so that the controllers of a sweep share the slots.
        self._pool: Pool = gpu_pool or CorePool(self._slots, store.root.parent / "locks")
        self._max_attempts = max_attempts
        self._hang_seconds = hang_seconds
        self._memory_gib = memory_gib
        self._trusted = tuple(trusted_modules)
        self._fork_server = ForkServer(preload)
        self._queue: OrderedDict[str, WorkOrder] = OrderedDict()
        self._running: dict[str, _Running] = {}
        self._adopted: set[str] = set()
        self._devices: dict[str, int] = {}

    @property
    def slots(self) -> int:
        """Trials that run at once."""
        return self._slots

    def preflight(
        self, specs: Sequence[TrialSpec], *, architectures: Sequence[Architecture] = (), seconds: float = 0.0
    ) -> list[str]:
        """Run the preflight in a process like a worker's.

        Returns:
            Notes on settings that are valid, but perhaps not intended.

        Raises:
            ConfigError: A preflight failed, or a trial needs more devices than there are.
        """
        for spec in specs:
            check_fits(self._pool, spec.devices)
        return self._fork_server.preflight(
            specs, architectures=architectures, seconds=seconds, memory_gib=self._memory_gib
        )

    def zero_costs(self, specs: Sequence[TrialSpec]) -> list[ZeroCost | None]:
        """Score the trials' models in a process like a worker's, without training them."""
        return self._fork_server.zero_costs(specs)

    def submit(self, key: str, digest: str) -> None:
        """Queue the trial; if a worker of an earlier controller still trains it, this worker is adopted."""
        if key in self.live():
            return
        folder = self._store.folder(key)
        if is_locked(folder.lock):
            self._adopted.add(key)
            return
        self._queue[key] = WorkOrder(
            folder=folder.path,
            digest=digest,
            trusted_modules=self._trusted,
            pool=self._pool,
            threads=self._compute_threads(self._get_devices(key)),
            max_attempts=self._max_attempts,
            memory_gib=self._memory_gib,
        )
        self._start_queued()

    def live(self) -> set[str]:
        """Return the keys of the trials that run or wait for a slot."""
        return {*self._queue, *self._running, *self._adopted}

    def running(self) -> set[str]:
        """Return the keys of the trials that run."""
        return {*self._running, *self._adopted}

    def wait(self, seconds: float) -> set[str]:
        """Wait until a worker of this backend ends, for at most so many seconds; returns all keys that ended."""
        self._start_queued()
        timeout = min(seconds, ADOPTED_POLL_SECONDS) if self._adopted else seconds
        sentinels = [running.process.sentinel for running in self._running.values()]
        if sentinels:
            wait_for_any(sentinels, timeout)
        else:
            time.sleep(timeout)
        return self._collect_ended()

    def cancel(self, key: str) -> None:
        """Remove the trial from the queue, or kill its worker with all processes that it started."""
        self._queue.pop(key, None)
        if key in self._adopted:
            self._kill_adopted(key)
        running = self._running.get(key)
        if running is not None:
            _kill_group(running.process.pid)
            running.process.join()
            self._finish(key, is_cancelled=True)

    def close(self) -> None:
        """Cancel all trials that run or wait."""
        for key in self.live():
            self.cancel(key)

    def _get_devices(self, key: str) -> int:
        """Return a trial's number of devices; cached, because a trial that is paused and resumed is submitted often."""
        if key not in self._devices:
            try:
                self._devices[key] = self._store.spec(key).devices
            except CorruptFileError:
                return 1  # the worker will report the corrupt file
        return self._devices[key]

    def _compute_threads(self, devices: int) -> int:
        """Compute the threads per process of a trial on so many devices, if the machine is full of such trials."""
        at_once = min(self._slots, self._pool.slots / self._pool.slots_of(devices))
        return max(1, int(self._cores / (at_once * devices) + 1e-3))

    def _start_queued(self) -> None:
        """Start queued trials that fit, in order, so that a trial that waits for several slots is not overtaken."""
        while self._queue and self._has_room(next(iter(self._queue))):
            key, order = self._queue.popitem(last=False)
            self._running[key] = _Running(self._fork_server.start(order), order, time.time())

    def _has_room(self, key: str) -> bool:
        busy = self.running()
        # A trial that is too large for the pool starts alone and fails at once.
        occupied_slots = sum(
            min(self._pool.slots_of(self._get_devices(other)), self._pool.slots) for other in (*busy, key)
        )
        return len(busy) < self._slots and occupied_slots <= self._pool.slots + 1e-3

    def _collect_ended(self) -> set[str]:
        hung = {key for key in self._adopted if self._is_hung(self._store.folder(key))}
        for key in hung:
            self._kill_adopted(key)
        ended = {key for key in self._adopted if not is_locked(self._store.folder(key).lock)}
        self._adopted -= ended
        for key in ended:
            why = self._hang_message if key in hung else _describe_exit(EXIT_ENDED)
            self._write_ended_status(self._store.folder(key), EXIT_ENDED, why)
        for key, running in list(self._running.items()):
            folder = TrialFolder(running.order.folder)
            is_hung = running.process.is_alive() and self._is_hung(folder, running.started)
            if is_hung:
                _kill_group(running.process.pid)
                running.process.join()
            if not running.process.is_alive():
                ended.add(key)
                self._finish(key, is_hung=is_hung)
        self._start_queued()
        return ended

    def _finish(self, key: str, *, is_cancelled: bool = False, is_hung: bool = False) -> None:
        running = self._running.pop(key)
        running.process.join()
        exitcode = running.process.exitcode
        running.process.close()
        why = self._hang_message if is_hung else _describe_exit(exitcode)
        self._write_ended_status(TrialFolder(running.order.folder), exitcode, why, is_cancelled=is_cancelled)

    def _write_ended_status(
        self, folder: TrialFolder, exitcode: int | None, why: str, *, is_cancelled: bool = False
    ) -> None:
        """Write the status of a trial whose worker ended without writing it."""
        lease = FolderLease(folder.lock)
        if not lease.acquire():
            return  # a worker of another controller runs the trial
        try:
            before = read_record(folder.status, Status) or Status()
            if is_cancelled and before.state is State.RUNNING:
                seconds = measure_wall_seconds(folder, before)
                after = replace(before, state=State.PENDING, wall_seconds=seconds, started_at=None)
            elif (
                not is_cancelled and before.state is not State.RUNNING and exitcode not in (*SILENT_EXIT_STATUSES, None)
            ):
                after = before.failed(Cause.LOST, why, step=read_last_step(folder), max_attempts=self._max_attempts)
            else:
                after = settle_status(folder, max_attempts=self._max_attempts, why=why)
            if after != before:
                write_status(folder, after, generation=lease.generation)
        except CorruptFileError:
            return  # whoever reads the trial next sets it aside
        finally:
            lease.release()

    def _kill_adopted(self, key: str) -> None:
        """Kill a worker that an earlier controller started; its lock file contains the process id."""
        lock = self._store.folder(key).lock
        if is_locked(lock):
            _kill_group(FileLock(lock).owner_pid())

    def _is_hung(self, folder: TrialFolder, started: float = 0.0) -> bool:
        if self._hang_seconds is None:
            return False
        status = read_record(folder.status, Status)
        if status is None or status.state is not State.RUNNING:
            return False  # it waits for devices
        heartbeat_files = (folder.status, folder.metrics, folder.heartbeat, folder.log)
        last_heartbeat = max(path.stat().st_mtime for path in heartbeat_files if path.exists())
        return time.time() - max(started, last_heartbeat) > self._hang_seconds

    @property
    def _hang_message(self) -> str:
        return (
            f"its worker was killed after {self._hang_seconds:g} s without a heartbeat: if it was training, call "
            f"trial.report_alive between checks, or raise backend.hang_seconds"
        )


def _describe_exit(exitcode: int | None) -> str:
    """Describe why a worker ended, from its exit status."""
    if exitcode in (*SILENT_EXIT_STATUSES, None):
        return "its worker ended without a status"
    if exitcode == -signal.SIGKILL:
        return (
            "its worker was killed by another process, often by the kernel because memory ran out: set "
            "backend.memory_gib, with which a trial that is too large fails as oom"
        )
    return f"its worker ended with exit status {exitcode}, see worker.log"


def _make_gpu_pool(count: int | None, per_trial: float) -> GpuPool:
    visible = list_gpus()
    if count is not None and count > len(visible):
        raise ConfigError(f"backend.gpus must be at most the visible GPUs, {len(visible)}, got {count}: lower it")
    return GpuPool(visible if count is None else visible[:count], per_trial, find_lease_folder())


def _kill_group(pid: int | None) -> None:
    """Kill a worker with all processes that it started; a worker leads its own process group once it is set up."""
    if pid is None:
        return
    try:
        leads_group = os.getpgid(pid) == pid
        (os.killpg if leads_group else os.kill)(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
