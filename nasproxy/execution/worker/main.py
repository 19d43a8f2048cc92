"""Run one trial in its own process: set the process up, call the trainer, write the final status.

Torch is imported inside functions, because the controller's process imports this module and must start fast.
"""

import os
import signal
import sys
import time
import traceback
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, replace

from nasproxy.errors import ContractError, StaleLeaseError, UntrustedTrialError
from nasproxy.execution.distributed import RankProcesses
from nasproxy.execution.failure_causes import TrialFailure, bound_memory, describe_failure
from nasproxy.execution.work_order import WorkOrder
from nasproxy.execution.worker.context import TrialContext, get_trainer_arguments
from nasproxy.storage.files import open_file, read_record
from nasproxy.storage.leases import FolderLease
from nasproxy.storage.trial_files import (
    GENERATION_VARIABLE,
    WORKER_TTL_SECONDS,
    digest_config,
    discard_checkpoints,
    drop_checks_beyond,
    parse_spec,
    read_config,
    read_last_step,
    settle_status,
    write_status,
)
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.targets import list_targets, load_target
from nasproxy.training.reporting import METRIC_VARIABLE, is_stop_requested
from nasproxy.trials.records import Cause, Request, State, Status
from nasproxy.trials.spec import TrialSpec

EXIT_ENDED = 0
"""The worker wrote the final status of its attempt."""
EXIT_BUSY = 75
"""Another worker runs the trial, or has taken it over; nothing was changed."""


def run_worker(order: WorkOrder) -> None:
    """Run one trial in this process and exit; the result is in the trial's status."""
    os.setsid()  # Ctrl-C reaches the controller only, and killing the group ends all processes that the worker started
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(order.environment)
    folder = TrialFolder(order.folder)
    lease = FolderLease(folder.lock, ttl_seconds=WORKER_TTL_SECONDS)
    if not lease.acquire(wait_seconds=1.0):
        sys.exit(EXIT_BUSY)
    os.environ[GENERATION_VARIABLE] = str(lease.generation)
    log = open_file(folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    try:
        _run_attempt(order, folder, lease.generation)
        lease.release()
    except StaleLeaseError as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(EXIT_BUSY)
    sys.stdout.flush()
    os._exit(EXIT_ENDED)  # nothing is left to clean up, and the interpreter's shutdown takes tens of milliseconds


def _run_attempt(order: WorkOrder, folder: TrialFolder, generation: int) -> None:
    status = settle_status(folder, max_attempts=order.max_attempts)
    if status.state is State.FAILED:
        write_status(folder, status, generation=generation)
        return
    if status.suspects_checkpoint and (place := discard_checkpoints(folder)) is not None:
        print(f"the last attempts crashed with the checkpoints in {place}: training anew", flush=True)
    attempt = _Attempt(order, folder, replace(status, threads=status.threads or order.threads), generation)
    with ExitStack() as held:
        try:
            spec = _read_trusted_spec(order, folder)
            device = held.enter_context(order.pool.lease(spec.devices))
            attempt.begin()
            attempt.end(_call_trainer(attempt, spec, device))
        except StaleLeaseError:
            raise  # the trial is another worker's by now
        except BaseException as error:  # any exception of a trainer ends only its own trial and is recorded
            failure = describe_failure(error)
            if failure.cause is not Cause.NAN:
                traceback.print_exc()
            attempt.fail(failure)


class _Attempt:
    """One attempt at a trial: writes its start and its end to the trial's status."""

    def __init__(self, order: WorkOrder, folder: TrialFolder, status: Status, generation: int) -> None:
        self.order = order
        self.folder = folder
        self._generation = generation
        self.threads = status.threads or 1
        self._status = status
        self._started = time.time()

    def begin(self) -> None:
        """Write that the attempt runs; called once it holds its devices."""
        self._started = time.time()
        running = replace(self._status, state=State.RUNNING, started_at=self._started)
        write_status(self.folder, running, generation=self._generation)

    def end(self, state: State) -> None:
        """Write that the attempt ended without failure, in this state."""
        self._write(replace(self._status, state=state))

    def fail(self, failure: TrialFailure) -> None:
        """Write that the attempt failed."""
        step, attempts = read_last_step(self.folder), self.order.max_attempts
        self._write(self._status.failed(failure.cause, failure.message, step=step, max_attempts=attempts))

    def fail_at_once(self, failure: TrialFailure) -> None:
        """Write that the attempt failed and end this process, which may be waiting for a failed rank."""
        self.fail(failure)
        sys.stdout.flush()
        os._exit(EXIT_ENDED)

    def _write(self, ended: Status) -> None:
        seconds = self._status.wall_seconds + time.time() - self._started
        ended = replace(ended, wall_seconds=seconds, started_at=None)
        write_status(self.folder, ended, generation=self._generation)


def _call_trainer(attempt: _Attempt, spec: TrialSpec, device: str) -> State:
    folder = attempt.folder
    if attempt.order.memory_gib is not None:
        bound_memory(attempt.order.memory_gib)  # inherited by each forked rank
    before = read_last_step(folder)
    if before < spec.total_steps and is_stop_requested(folder, before, spec.total_steps):
        return State.PAUSED  # the request or the missing controller stops the trial before its first step

    trainer = load_target("trainer", spec.recipe.trainer)
    # A trainer without ranks gets all devices in one process, such as a program that starts its own processes.
    world_size = spec.devices if getattr(trainer, "runs_as_ranks", False) else 1

    def train(rank: int) -> None:
        import torch

        torch.set_num_threads(attempt.threads)
        name = f"{device}:{rank}" if device == "cuda" and world_size > 1 else device
        context = TrialContext(folder.path, spec, name, attempt.threads, rank, world_size)
        os.environ[METRIC_VARIABLE] = context.objective.name  # for the hooks, which are not told their trial
        trainer(trial=context, **get_trainer_arguments(spec.recipe.trainer))

    # Ranks are forked before Torch starts threads or uses a GPU, because neither works after a fork.
    ranks = (
        RankProcesses(world_size, train, describe_failure, attempt.fail_at_once) if world_size > 1 else nullcontext()
    )
    try:
        with ranks:
            train(0)
    finally:  # only the hooks of Vertex AI NAS, which are told another total, can report beyond the end
        beyond = drop_checks_beyond(folder, spec.total_steps)
    if beyond is not None:
        raise ContractError(
            f"the trainer must end after step {spec.total_steps}, got a report of step {beyond}: train for total_steps"
        )
    step = read_last_step(folder)
    if step == spec.total_steps:
        return State.DONE
    # The request may be extended after the trainer has stopped, so only a trainer without a new check is refused.
    if step == before and not is_stop_requested(folder, step, spec.total_steps):
        request = read_record(folder.request, Request) or Request()
        raise ContractError(
            f"the trainer must train until step {request.until_step or spec.total_steps}, and returned after step "
            f"{step}: return only after the last step, or when trial.should_stop(step) returns True"
        )
    return State.PAUSED


def _read_trusted_spec(order: WorkOrder, folder: TrialFolder) -> TrialSpec:
    text = read_config(folder.config)
    if digest_config(text) != order.digest:
        raise UntrustedTrialError(
            f"{folder.config} is not the config that was submitted (digest {digest_config(text)[:12]}, submitted "
            f"{order.digest[:12]}): remove the folder, the study creates it again"
        )
    spec = parse_spec(folder.config, text)
    for target in list_targets(asdict(spec.recipe)):
        if target.partition(".")[0] not in order.trusted_modules:
            raise UntrustedTrialError(
                f"{folder.config} may only name targets in the trusted modules {', '.join(order.trusted_modules)}, got "
                f"{target}: remove the folder, the study creates it again"
            )
    return spec
