"""The host: starts workers for work orders from a warm server, within its slots, and watches them until they end."""

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerProcess
from selectors import EVENT_READ, DefaultSelector

from nasproxy.errors import CorruptFileError
from nasproxy.execution.attempts import Ended
from nasproxy.execution.host.devices import Pool
from nasproxy.execution.host.fork_server import ForkServer
from nasproxy.execution.process_groups import (
    find_controller,
    has_open,
    has_open_in,
    is_alive,
    kill_group,
    kill_remaining,
)
from nasproxy.execution.work_order import OrderKind, WorkOrder
from nasproxy.execution.worker.log import bound_log
from nasproxy.execution.worker.main import find_trial_folder
from nasproxy.storage.locks import FileLock, is_locked
from nasproxy.storage.scratch import remove_scratch
from nasproxy.storage.trial_files import Progress, read_generation, read_progress
from nasproxy.trials.clock import Clock, SystemClock

POLL_SECONDS = 0.2
"""Seconds between two polls of workers that are no children of this host's server."""
SERVER_LOST = 255
"""Exit status that Python reports for all children of a fork server that died, whether they live or not."""
KILL_SECONDS = 5.0
"""Longest wait for the end of a killed worker that is no child of the server; it takes milliseconds."""
NO_SIGN: Progress = (0, 0, 0, None)
"""Heartbeat of an order that gives none until its end."""
HANG_CHECKS = 4
"""Looks at the heartbeats of a worker within the time after which it counts as hung."""


@dataclass
class _Running:
    """A worker of an order.

    Attributes:
        order: The order.
        pid: Its process id; None for one that another controller started on another machine.
        process: Its process; None for that of another controller.
        generation: Generation of the trial's status before; a heartbeat of an earlier worker says nothing.
        heartbeat: What `_read_heartbeat` last gave.
        silent_seconds: How long that has not changed.
    """

    order: WorkOrder
    pid: int | None
    process: ForkServerProcess | None = None
    generation: int = -1
    heartbeat: Progress | None = None
    silent_seconds: float = 0.0


class Host:
    """Runs work orders on the cores and GPUs of this machine."""

    def __init__(
        self,
        pool: Pool,
        *,
        slots: int,
        cores: int,
        preload: Sequence[str] = (),
        hang_seconds: float | None = None,
        memory_gib: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Configure the host; it starts its server with the first order.

        Args:
            pool: Devices that trials lease.
            slots: Orders that run at once.
            cores: Cores that the orders share.
            preload: Modules that the warm server imports.
            hang_seconds: Heartbeat timeout in seconds; None for no timeout.
            memory_gib: CPU memory limit of a worker in GiB; None for no limit.
            clock: Source of the time between two heartbeats; None for the machine's monotonic clock.
        """
        self.slots = slots
        self._pool = pool
        self._cores = cores
        self._hang_seconds = hang_seconds
        self._memory_gib = memory_gib
        self._clock = clock or SystemClock()
        self._fork_server = ForkServer(preload)
        self._queue: OrderedDict[str, WorkOrder] = OrderedDict()
        self._running: dict[str, _Running] = {}
        self._polled: set[str] = set()
        """Keys of running workers that are no children of the server, so that nothing announces their end."""
        self._selector = DefaultSelector()
        self._ended: list[Ended] = []
        self._hang_checked_at = self._clock.now()

    def submit(self, order: WorkOrder) -> None:
        """Queue an order; if a worker of an earlier controller still trains its trial, this worker is adopted."""
        if order.key in self._queue or order.key in self._running:
            return
        lock = find_trial_folder(order).lock
        if order.kind is OrderKind.TRAIN and is_locked(lock):
            pid = FileLock(lock).owner_pid()
            # The file may name a worker that has ended, while another process looks whether it is locked.
            self._running[order.key] = _Running(order, pid if pid is not None and has_open(pid, lock) else None)
            self._polled.add(order.key)
            return
        self._queue[order.key] = order
        self._start_queued()

    def poll(self, seconds: float) -> list[Ended]:
        """Return the orders that ended; if there are none, wait for one, for at most so many seconds."""
        deadline = self._clock.now() + seconds
        while True:
            self._watch(0.0 if self._ended else max(0.0, deadline - self._clock.now()))
            self._end_hung()
            if self._ended or self._clock.now() >= deadline:
                ended, self._ended = self._ended, []
                return ended

    def cancel(self, key: str) -> None:
        """Remove an order from the queue, or kill its worker with all processes that it started."""
        if self._queue.pop(key, None) is not None:
            self._ended.append(Ended(key, is_cancelled=True))
        elif key in self._running:
            if self._is_of_living_host(key):
                self._forget(key, Ended(key, is_cancelled=True))
                return
            self._kill(key)
            self._finish(key, Ended(key, is_cancelled=True))

    def close(self) -> None:
        """Cancel all orders."""
        self._queue.clear()
        for key in list(self._running):
            self.cancel(key)
        self._ended.clear()
        self._selector.close()

    def _start_queued(self) -> None:
        """Start queued orders that fit, in order, so that one that waits for several slots is not overtaken."""
        while self._queue and self._has_room(next(iter(self._queue.values()))):
            key, order = self._queue.popitem(last=False)
            resources = replace(
                order.resources,
                threads=order.resources.threads or self._compute_threads(order.resources.devices),
                memory_gib=order.resources.memory_gib or self._memory_gib,
            )
            generation = _read_generation(order)
            process = self._fork_server.start(replace(order, resources=resources), self._pool)
            self._running[key] = _Running(order, process.pid, process, generation)
            self._selector.register(process.sentinel, EVENT_READ, key)

    def _has_room(self, order: WorkOrder) -> bool:
        busy = [running.order for running in self._running.values()]
        if any(other.resources.is_exclusive for other in busy) or (order.resources.is_exclusive and busy):
            return False
        # A trial that is too large for the pool starts alone and fails at once.
        occupied_slots = sum(
            min(self._pool.slots_of(other.resources.devices), self._pool.slots) for other in (*busy, order)
        )
        return len(busy) < self.slots and occupied_slots <= self._pool.slots + 1e-3

    def _compute_threads(self, devices: int) -> int:
        """Compute the threads per process of a trial on so many devices, if the machine is full of such trials."""
        at_once = min(self.slots, self._pool.slots / self._pool.slots_of(devices))
        return max(1, int(self._cores / (at_once * devices) + 1e-3))

    def _watch(self, seconds: float) -> None:
        """Wait until a worker ends, for at most so many seconds; costs nothing per running worker."""
        if self._polled:
            seconds = min(seconds, POLL_SECONDS)
        if self._hang_seconds is not None and self._running:
            seconds = min(seconds, self._hang_seconds / HANG_CHECKS)
        if not self._selector.get_map():
            time.sleep(seconds)
        for key, _ in self._selector.select(seconds) if self._selector.get_map() else ():
            self._collect(key.data)
        for polled in [other for other in self._polled if not _is_alive(self._running[other])]:
            self._finish(polled, Ended(polled))

    def _collect(self, key: str) -> None:
        """Collect a worker that ended, or whose server did."""
        running = self._running[key]
        process = running.process
        assert process is not None
        process.join()
        self._selector.unregister(process.sentinel)
        status = process.exitcode
        if status == SERVER_LOST and _is_alive(running):
            self._polled.add(key)
        elif status is not None and status < 0:
            self._finish(key, Ended(key, signal=-status))
        else:
            self._finish(key, Ended(key, exit_status=status))

    def _finish(self, key: str, ended: Ended) -> None:
        """Forget a worker that has ended, end what it left in its process group, and start the next orders."""
        running = self._running[key]
        if running.process is not None:
            running.process.close()  # not before its end: it would look to the worker like that of the controller
        if running.pid is not None:
            kill_remaining(running.pid)
        if running.order.kind is OrderKind.TRAIN:
            folder = find_trial_folder(running.order)
            bound_log(folder.log)
            remove_scratch(folder)
        self._forget(key, ended)

    def _forget(self, key: str, ended: Ended) -> None:
        """Say that an order has ended, and start the next ones."""
        del self._running[key]
        self._polled.discard(key)
        self._ended.append(ended)
        self._start_queued()

    def _is_of_living_host(self, key: str) -> bool:
        """Return whether another controller of the study started this worker, so that it is not this one's to kill."""
        running = self._running[key]
        if running.process is not None or running.pid is None:
            return False
        controller = find_controller(running.pid)
        return controller is not None and has_open_in(controller, running.order.study / "locks")

    def _kill(self, key: str) -> None:
        """Kill a worker with all processes that it started, and wait until it has ended."""
        running = self._running[key]
        if running.pid is not None and (key not in self._polled or _is_alive(running)):
            kill_group(running.pid)
        if running.process is not None and key not in self._polled:
            self._selector.unregister(running.process.sentinel)
            running.process.join()
        deadline = self._clock.now() + KILL_SECONDS
        while key in self._polled and _is_alive(running) and self._clock.now() < deadline:
            self._clock.sleep(0.01)

    def _end_hung(self) -> None:
        """Kill the workers whose heartbeats have not changed for too long, by this host's monotonic clock."""
        if self._hang_seconds is None:
            return
        now, interval = self._clock.now(), self._hang_seconds / HANG_CHECKS
        if now - self._hang_checked_at < interval:
            return
        passed = min(now - self._hang_checked_at, 2 * interval)  # this process may have been stopped meanwhile
        self._hang_checked_at = now
        for key, running in list(self._running.items()):
            heartbeat = _read_heartbeat(running)
            is_silent = heartbeat is not None and heartbeat == running.heartbeat
            running.heartbeat, running.silent_seconds = heartbeat, is_silent * (running.silent_seconds + passed)
            if running.silent_seconds > self._hang_seconds:
                self._kill(key)
                self._finish(key, Ended(key, reason=self._hang_message))

    @property
    def _hang_message(self) -> str:
        return (
            f"its worker was killed after {self._hang_seconds:g} s without a heartbeat: if it was training, call "
            f"trial.report_alive between checks, or raise backend.hang_seconds if it needs longer"
        )


def _is_alive(running: _Running) -> bool:
    """Return whether a worker that is no child of a living server lives."""
    if running.order.kind is OrderKind.TRAIN:
        return is_locked(find_trial_folder(running.order).lock)
    return running.pid is not None and is_alive(running.pid)


def _read_generation(order: WorkOrder) -> int:
    try:
        return read_generation(find_trial_folder(order)) if order.kind is OrderKind.TRAIN else 0
    except CorruptFileError:
        return 0


def _read_heartbeat(running: _Running) -> Progress | None:
    """Read what changes while a trial trains; None for one that waits for devices or its lease.

    A preflight or a measurement gives no sign until its end.
    """
    if running.order.kind is not OrderKind.TRAIN:
        return NO_SIGN
    try:
        return read_progress(find_trial_folder(running.order), after=running.generation)
    except CorruptFileError:
        return None  # the controller sets the trial aside
