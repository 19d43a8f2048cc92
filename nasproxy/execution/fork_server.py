"""The warm fork server: starts fresh worker processes that have torch imported already.

Each controller process has one server. The server has imported torch, Lightning and timm, but has run nothing and has
not initialised CUDA, so that a process forked from it starts within milliseconds and can still choose its device.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from nasproxy.errors import ConfigError, NasproxyError, WorkerStartError, describe_error
from nasproxy.execution import study_modules
from nasproxy.execution.distributed import end_with_parent
from nasproxy.execution.failure_causes import bound_memory
from nasproxy.execution.work_order import WorkOrder
from nasproxy.execution.worker.main import run_worker
from nasproxy.execution.worker.measure import measure_zero_costs
from nasproxy.execution.worker.preflight import preflight
from nasproxy.storage.zero_cost_scores import ZeroCost
from nasproxy.trials.spec import Architecture, TrialSpec

FRAMEWORKS = ("nasproxy.torchvision_gap", "torch", "pytorch_lightning", "timm", "nasproxy.execution.worker.main")
RESTART_SECONDS = 0.2
"""Seconds to wait until a killed server is recognised as dead."""


class _DiedError(ConfigError):
    """A process ended without sending a result."""


class ForkServer:
    """Starts workers, preflights and measurements in processes forked from the warm server."""

    def __init__(self, preload: Sequence[str] = ()) -> None:
        """Configure the modules that the server imports.

        Args:
            preload: Modules besides the frameworks, such as those of the trainer and of the dataset's loader.
        """
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([*FRAMEWORKS, study_modules.__name__])
        self._preload = tuple(preload)

    def start(self, order: WorkOrder) -> ForkServerProcess:
        """Start a worker in a fresh process, which gets only the work order."""
        return self._start(run_worker, (order,))

    def preflight(
        self,
        specs: Sequence[TrialSpec],
        *,
        architectures: Sequence[Architecture] = (),
        seconds: float = 0.0,
        memory_gib: float | None = None,
    ) -> list[str]:
        """Run the preflight in a process with the memory limit of a worker.

        Args:
            specs: One trial of each kind.
            architectures: As in `nasproxy.execution.worker.preflight.preflight`, like the following.
            seconds: Time limit of programs.
            memory_gib: Memory limit in GiB; None for no limit.

        Returns:
            Notes, without repetitions.

        Raises:
            ConfigError: The preflight failed.
        """
        work = partial(_preflight, architectures=tuple(architectures), seconds=seconds, memory_gib=memory_gib)
        notes: list[str] = self._ask(work, specs)
        return notes

    def zero_costs(self, specs: Sequence[TrialSpec]) -> list[ZeroCost | None]:
        """Score the trials' models without training them.

        Raises:
            ConfigError: The data cannot be loaded.
        """
        try:
            scores: list[ZeroCost | None] = self._ask(measure_zero_costs, specs)
        except _DiedError:  # one model is too large or ends its process: score each alone
            return [None] if len(specs) == 1 else [self.zero_costs([spec])[0] for spec in specs]
        return scores

    def _ask(self, work: Callable[[Sequence[TrialSpec]], Any], specs: Sequence[TrialSpec]) -> Any:
        """Call a function with trials in a fresh process and return its result."""
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._start(_answer, (theirs, work, tuple(specs)))
        theirs.close()
        try:
            result, problem = ours.recv()
        except EOFError:
            process.join()
            is_killed = process.exitcode == -signal.SIGKILL
            raise _DiedError(
                f"the preflight process must return a result, got exit status {process.exitcode}: "
                + ("free memory for data and model" if is_killed else "remove the exit from the study's code")
            ) from None
        except BaseException:
            process.kill()  # its result is no longer needed
            raise
        process.join()
        if problem is not None:
            raise ConfigError(problem)
        return result

    def _start(self, target: Callable[..., None], arguments: tuple[object, ...]) -> ForkServerProcess:
        """Start a process from the server, and the server first if none is running.

        A server that dies is started again, the last time without the study's modules, as importing one may end it.

        Raises:
            WorkerStartError: The third server died too.
        """
        for modules in (self._preload, self._preload, ()):
            process = self._context.Process(target=_run, args=(target, *arguments))
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


def _run(target: Callable[..., None], *arguments: object) -> None:
    """Run the function of a process, ignoring Ctrl-C, which only the controller handles."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    target(*arguments)


def _answer(answer: Connection, work: Callable[[Sequence[TrialSpec]], Any], specs: Sequence[TrialSpec]) -> None:
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        result = work(specs)
    except NasproxyError as error:
        answer.send((None, str(error)))
    except BaseException as error:  # models and loaders are user code and may raise anything
        answer.send((None, f"a trial cannot be put together: {describe_error(error)}"))
    else:
        answer.send((result, None))


def _preflight(
    specs: Sequence[TrialSpec], *, architectures: Sequence[Architecture], seconds: float, memory_gib: float | None
) -> list[str]:
    if memory_gib is not None:
        bound_memory(memory_gib)
    return preflight(specs, architectures=architectures, seconds=seconds)


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
