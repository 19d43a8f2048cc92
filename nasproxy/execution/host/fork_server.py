"""The warm fork server: starts fresh worker processes that have torch imported already.

Each controller process has one server. The server has imported torch, Lightning and timm, but has run nothing and has
not initialised CUDA, so that a process forked from it starts within milliseconds and can still choose its device.
"""

import multiprocessing
import os
import signal
import sys
import time
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from nasproxy.errors import WorkerStartError
from nasproxy.execution.host import study_modules
from nasproxy.execution.host.devices import Pool
from nasproxy.execution.work_order import WorkOrder
from nasproxy.execution.worker.main import run_order

FRAMEWORKS = ("nasproxy.torchvision_gap", "torch", "pytorch_lightning", "timm", "nasproxy.execution.worker.main")
RESTART_SECONDS = 0.2
"""Seconds to wait until a killed server is recognised as dead."""


class ForkServer:
    """Starts workers in processes forked from the warm server."""

    def __init__(self, preload: Sequence[str] = ()) -> None:
        """Configure the modules that the server imports.

        Args:
            preload: Modules besides the frameworks, such as those of the trainer and of the dataset's loader.
        """
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([*FRAMEWORKS, study_modules.__name__])
        self._preload = tuple(preload)

    def start(self, order: WorkOrder, pool: Pool) -> ForkServerProcess:
        """Start a worker in a fresh process, and the server first if none is running.

        A server that dies is started again, the last time without the study's modules, as importing one may end it.

        Args:
            order: What the worker does.
            pool: Pool from which it leases its devices.

        Raises:
            WorkerStartError: The third server died too.
        """
        for modules in (self._preload, self._preload, ()):
            process = self._context.Process(target=_run, args=(order, pool))
            new_server = None
            try:
                with _without_main_module(), _by_forkserver(), _importing(modules):
                    new_server = _ensure_server()
                    process.start()
            except (EOFError, ConnectionError):
                time.sleep(RESTART_SECONDS)
            except KeyboardInterrupt:
                if new_server is not None:
                    os.kill(new_server, signal.SIGKILL)  # else it imports on for seconds before it sees our end
                raise
            else:
                return process
        raise WorkerStartError(
            f"the server process must import {', '.join(FRAMEWORKS[1:-1])}, got one that ended three times while it "
            f"did: free memory, and run the command again; finished trials are kept"
        )


def _run(order: WorkOrder, pool: Pool) -> None:
    """Run an order in this process, ignoring Ctrl-C, which only the controller handles."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    run_order(order, pool)


@contextmanager
def _without_main_module() -> Iterator[None]:
    """Hide the program's main module, which a child would import again together with Hydra or pytest."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _by_forkserver() -> Iterator[None]:
    """Set the start method `forkserver` during a block: in joblib's workers the child does not know the default."""
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("forkserver", force=True)
    try:
        yield
    finally:
        multiprocessing.set_start_method(before, force=True)


@contextmanager
def _importing(modules: Sequence[str]) -> Iterator[None]:
    """Make a server that starts in this block import these modules, with the `sys.path` of this process."""
    path = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    environment = {"PYTHONPATH": path, study_modules.VARIABLE: " ".join(modules)}
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _ensure_server() -> int | None:
    """Start the server if none is running; Ctrl-C is blocked in it and its processes from their start.

    Returns:
        The process id of the new server; None if one was running.
    """
    resource_tracker.ensure_running()  # before the block: it would unblock SIGINT at its end
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    before = _server_pid()
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    pid = _server_pid()
    return pid if pid != before else None


def _server_pid() -> int | None:
    """Return the process id of the server, which Python keeps private."""
    return getattr(forkserver._forkserver, "_forkserver_pid", None)
