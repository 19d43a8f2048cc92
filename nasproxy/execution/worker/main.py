"""Runs one trial in a process of its own: sets the process up, calls the trainer, writes down how it ended.

Torch is imported where it is used: the controller's process imports this module to start workers, and stays light.
"""

import os
import signal
import sys
import time
import traceback
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, replace

from nasproxy.errors import ConfigError, UntrustedTrialError
from nasproxy.execution.distributed import RankProcesses
from nasproxy.execution.failure_causes import TrialFailure, bound_memory, describe_failure
from nasproxy.execution.work_order import WorkOrder
from nasproxy.execution.worker.context import TrialContext, get_trainer_arguments
from nasproxy.storage.files import read_record, write_record
from nasproxy.storage.leases import Lease
from nasproxy.storage.trial_files import digest_config, read_last_step, read_spec, settle_status
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.targets import list_targets, load_target
from nasproxy.training.hooks import get_stop_training
from nasproxy.trials.records import Cause, Request, State, Status
from nasproxy.trials.spec import TrialSpec

EXIT_ENDED = 0
"""The worker wrote its own end."""
EXIT_BUSY = 75
"""Another living worker has the trial; nothing was touched."""


def run_worker(order: WorkOrder) -> None:
    """Run one trial in this process and exit; the status tells the rest."""
    os.setsid()  # the terminal's Ctrl-C is for the controller, and killing this group ends all it started
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(order.environment)
    folder = TrialFolder(order.folder)
    lock = Lease(folder.lock)
    if not lock.acquire(wait_seconds=1.0):
        sys.exit(EXIT_BUSY)
    with folder.log.open("ab", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    _train(order, folder)
    sys.stdout.flush()
    os._exit(EXIT_ENDED)  # nothing is left to tidy, and the interpreter's own tidying costs tens of milliseconds


def _train(order: WorkOrder, folder: TrialFolder) -> None:
    status = settle_status(folder, max_attempts=order.max_attempts)
    if status.state is State.FAILED:
        write_record(folder.status, status)
        return
    attempt = _Attempt(order, folder, replace(status, threads=status.threads or order.threads))
    with ExitStack() as held:
        try:
            spec = _trusted_spec(order, folder)
            device = held.enter_context(order.pool.lease(spec.devices))
            attempt.begin()
            attempt.end(_call_trainer(attempt, spec, device))
        except BaseException as error:  # whatever a trainer raises ends its own trial, with the reason on record
            failure = describe_failure(error)
            if failure.cause is not Cause.NAN:
                traceback.print_exc()
            attempt.fail(failure)


class _Attempt:
    """One worker's try at a trial, and how it goes into the trial's status."""

    def __init__(self, order: WorkOrder, folder: TrialFolder, status: Status) -> None:
        self.order = order
        self.folder = folder
        self.threads = status.threads or 1
        self._status = status
        self._started = time.time()

    def begin(self) -> None:
        """It has its devices."""
        self._started = time.time()
        write_record(self.folder.status, replace(self._status, state=State.RUNNING, started_at=self._started))

    def end(self, state: State) -> None:
        """It has come as far as it was asked to."""
        self._write(replace(self._status, state=state))

    def fail(self, failure: TrialFailure) -> None:
        """It has failed."""
        step, attempts = read_last_step(self.folder), self.order.max_attempts
        self._write(self._status.failed(failure.cause, failure.message, step=step, max_attempts=attempts))

    def fail_at_once(self, failure: TrialFailure) -> None:
        """It has failed while this process waits, perhaps for ever."""
        self.fail(failure)
        sys.stdout.flush()
        os._exit(EXIT_ENDED)

    def _write(self, ended: Status) -> None:
        seconds = self._status.wall_seconds + time.time() - self._started
        write_record(self.folder.status, replace(ended, wall_seconds=seconds, started_at=None))


def _call_trainer(attempt: _Attempt, spec: TrialSpec, device: str) -> State:
    folder = attempt.folder
    if attempt.order.memory_gib is not None:
        bound_memory(attempt.order.memory_gib)  # for the ranks that are forked too, each of them
    before = read_last_step(folder)
    if before < spec.total_steps and get_stop_training(folder.path, before - 1, spec.total_steps):
        return State.PAUSED  # asked to stop, or left by its controller, before it began

    trainer = load_target("trainer", spec.recipe.trainer)
    # One that does not know of ranks has all devices to itself, as a program that starts its own processes needs them.
    world_size = spec.devices if getattr(trainer, "runs_as_ranks", False) else 1

    def train(rank: int) -> None:
        import torch

        torch.set_num_threads(attempt.threads)
        name = f"{device}:{rank}" if device == "cuda" and world_size > 1 else device
        context = TrialContext(folder.path, spec, name, attempt.threads, rank, world_size)
        trainer(trial=context, **get_trainer_arguments(spec.recipe.trainer))

    # Ranks are forked before Torch has started threads or a GPU, neither of which a fork survives.
    with RankProcesses(world_size, train, describe_failure, attempt.fail_at_once) if world_size > 1 else nullcontext():
        train(0)
    step = read_last_step(folder)
    if step >= spec.total_steps:
        return State.DONE
    # A request may be extended after the trainer has obeyed it, so only a trainer that did nothing is at fault.
    if step == before and not get_stop_training(folder.path, step - 1, spec.total_steps):
        request = read_record(folder.request, Request) or Request()
        raise ConfigError(
            f"the trainer must train until step {request.until_step or spec.total_steps}, and returned after step "
            f"{step}: stop only where get_stop_training says so"
        )
    return State.PAUSED


def _trusted_spec(order: WorkOrder, folder: TrialFolder) -> TrialSpec:
    text = folder.config.read_text(encoding="utf-8")
    if digest_config(text) != order.digest:
        raise UntrustedTrialError(
            f"{folder.config} is not the config that was submitted (digest {digest_config(text)[:12]}, submitted "
            f"{order.digest[:12]}): remove the folder, and the study will make it again"
        )
    spec = read_spec(folder.config)
    for target in list_targets(asdict(spec.recipe)):
        if target.partition(".")[0] not in order.trusted_modules:
            raise UntrustedTrialError(
                f"{folder.config} names {target}, which the study's configuration does not: trusted are "
                f"{', '.join(order.trusted_modules)}"
            )
    return spec
