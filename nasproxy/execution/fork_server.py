"""The warm fork server: starts fresh worker processes that have torch imported already.

Each controller process has one server. The server has imported torch, Lightning and timm, but has run nothing and has
not initialised CUDA, so that a process forked from it starts within milliseconds and can still choose its device.
"""

import multiprocessing
import os
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from nasproxy.data.loading import Datasets
from nasproxy.errors import ConfigError, NasproxyError, describe_error
from nasproxy.execution.failure_causes import bound_memory
from nasproxy.execution.work_order import WorkOrder
from nasproxy.execution.worker.main import run_worker
from nasproxy.execution.worker.measure import measure_zero_costs
from nasproxy.execution.worker.preflight import preflight
from nasproxy.storage.zero_cost_scores import ZeroCost
from nasproxy.trials.spec import TrialSpec

FRAMEWORKS = ("nasproxy.torchvision_gap", "torch", "pytorch_lightning", "timm", "nasproxy.execution.worker.main")


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
        self._context.set_forkserver_preload([*FRAMEWORKS, *preload])

    def start(self, order: WorkOrder) -> ForkServerProcess:
        """Start a worker in a fresh process, which gets only the work order."""
        return self._start(run_worker, (order,))

    def preflight(self, specs: Sequence[TrialSpec], memory_gib: float | None = None) -> list[str]:
        """Run the preflight of each trial in a process with the memory limit of a worker.

        Args:
            specs: The trials.
            memory_gib: Memory limit in GiB; None for no limit.

        Returns:
            Notes of `nasproxy.execution.worker.preflight.preflight`, without repetitions.

        Raises:
            ConfigError: A preflight failed.
        """
        notes: list[str] = self._ask(partial(_preflight, memory_gib=memory_gib), specs)
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
            raise _DiedError(
                "the process that puts a trial together died: is there enough memory for data and model?"
            ) from None
        process.join()
        if problem is not None:
            raise ConfigError(problem)
        return result

    def _start(self, target: object, arguments: tuple[object, ...]) -> ForkServerProcess:
        process = self._context.Process(target=target, args=arguments)  # type: ignore[arg-type]
        with _without_main_module(), _by_forkserver(), _importable_as_here():
            process.start()
        return process


def _answer(answer: Connection, work: Callable[[Sequence[TrialSpec]], Any], specs: Sequence[TrialSpec]) -> None:
    try:
        result = work(specs)
    except NasproxyError as error:
        answer.send((None, str(error)))
    except Exception as error:  # models and loaders are user code and may raise anything
        answer.send((None, f"a trial cannot be put together: {describe_error(error)}"))
    else:
        answer.send((result, None))


def _preflight(specs: Sequence[TrialSpec], *, memory_gib: float | None) -> list[str]:
    if memory_gib is not None:
        bound_memory(memory_gib)
    datasets: Datasets = {}
    return list(dict.fromkeys(note for spec in specs for note in preflight(spec, datasets)))


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
    """Set a start method that the child knows: inside joblib's workers the default is a method of joblib's."""
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("forkserver", force=True)
    try:
        yield
    finally:
        multiprocessing.set_start_method(before, force=True)


@contextmanager
def _importable_as_here() -> Iterator[None]:
    """Export this process's `sys.path`, so that a server that starts now finds the same modules."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
