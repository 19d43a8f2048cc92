"""Run one order: in a process of its own, or inline in the controller's.

Torch is imported inside functions, because the controller's process imports this module and must start fast.
"""

import bdb
import faulthandler
import os
import signal
import sys
import threading
import traceback
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, replace
from multiprocessing.process import parent_process

from nasproxy.errors import (
    ConfigError,
    ContractError,
    NasproxyError,
    StaleLeaseError,
    UntrustedTrialError,
    describe_error,
)
from nasproxy.execution.attempts import EXIT_BUSY, EXIT_ENDED, EXIT_UNWRITTEN, Attempt, settle_predecessor
from nasproxy.execution.distributed import RankProcesses, end_with_parent
from nasproxy.execution.failure_causes import TrialFailure, bound_memory, describe_failure
from nasproxy.execution.host.cores import count_cores
from nasproxy.execution.host.devices import Pool, check_fits
from nasproxy.execution.process_groups import kill_own_group
from nasproxy.execution.work_order import OrderKind, WorkOrder
from nasproxy.execution.worker.context import TrialContext, get_trainer_arguments
from nasproxy.execution.worker.log import keep_bounded, open_log
from nasproxy.execution.worker.measure import measure_zero_costs
from nasproxy.execution.worker.preflight import preflight
from nasproxy.storage.answers import Answer, write_answer
from nasproxy.storage.folder_leases import FolderLease
from nasproxy.storage.json_records import read_record
from nasproxy.storage.locks import CONTROLLER
from nasproxy.storage.scratch import remove_scratch
from nasproxy.storage.trial_files import (
    GENERATION_VARIABLE,
    digest_config,
    discard_checkpoints,
    drop_checks_beyond,
    parse_spec,
    read_config,
    read_last_step,
)
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.targets import list_targets, load_target
from nasproxy.training.reporting import METRIC_VARIABLE, is_stop_requested
from nasproxy.trials.records import Cause, Request, State
from nasproxy.trials.spec import TrialSpec

INTERRUPTIONS = (KeyboardInterrupt, bdb.BdbQuit)
"""What ends the study, and not only the trial, if the trial runs inline."""
BUSY_SECONDS = 1.0
"""Seconds to wait for the lease on a trial: the worker before may be ending, or a controller look at it."""


def run_order(order: WorkOrder, pool: Pool | None = None) -> None:
    """Run an order in this process, which is its own, and exit; the result is in the study's folder.

    Args:
        order: The order.
        pool: Pool from which a trial's devices are leased; None if whoever started the process has reserved them.
    """
    if os.getpgrp() != os.getpid():
        os.setsid()  # Ctrl-C reaches the controller only, and killing the group ends all processes of the worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    os.environ.update(order.environment)
    try:
        if order.kind is OrderKind.TRAIN:
            _train_alone(order, pool)
        else:
            _answer_alone(order, pool)
    finally:
        sys.stdout.flush()
        _end_group()
    os._exit(EXIT_ENDED)  # nothing is left to clean up, and the interpreter's shutdown takes tens of milliseconds


def _end_group() -> None:
    """End the processes that this worker has started, unless there is a host that does so after the worker's end."""
    parent = parent_process()
    if parent is None or not parent.is_alive():
        kill_own_group()


def run_inline(order: WorkOrder) -> int:
    """Run an order in this process, which goes on afterwards, with its terminal.

    Returns:
        The exit status that a worker would have.

    Raises:
        KeyboardInterrupt: The user interrupted the trial, or quit the debugger.
    """
    if order.kind is not OrderKind.TRAIN:
        write_answer(order.study, order.key, _find_answer(order, None, is_inline=True))
        return EXIT_ENDED
    folder = find_trial_folder(order)
    lease = FolderLease(folder.lock, role=CONTROLLER)
    if not lease.acquire_or_outwait(BUSY_SECONDS):
        return EXIT_BUSY
    os.environ[GENERATION_VARIABLE] = str(lease.generation)
    try:
        _run_attempt(order, folder, None, lease.generation, is_inline=True)
    except StaleLeaseError:
        return EXIT_BUSY
    finally:
        del os.environ[GENERATION_VARIABLE]
        remove_scratch(folder)
        lease.release()
    return EXIT_ENDED


def find_trial_folder(order: WorkOrder) -> TrialFolder:
    """Return the folder of the trial that an order trains."""
    return TrialFolder(order.study / "trials" / order.key)


def _train_alone(order: WorkOrder, pool: Pool | None) -> None:
    folder = find_trial_folder(order)
    lease = FolderLease(folder.lock)
    try:
        if not lease.acquire_or_outwait(BUSY_SECONDS):
            sys.exit(EXIT_BUSY)
        log = open_log(folder.log)
    except NasproxyError as error:
        sys.exit(f"trial {order.key} cannot begin: {error}")  # there is no log, and the status may not be writable
    os.environ[GENERATION_VARIABLE] = str(lease.generation)
    remove_scratch(folder)  # of an attempt that was killed, by a host that was too
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    try:
        _run_attempt(order, folder, pool, lease.generation)
    except StaleLeaseError as error:
        _leave(error)
    remove_scratch(folder)
    lease.release()


def _answer_alone(order: WorkOrder, pool: Pool | None) -> None:
    if parent_process() is not None:
        threading.Thread(target=end_with_parent, daemon=True).start()
    if order.kind is OrderKind.PREFLIGHT and order.resources.memory_gib is not None:
        try:
            bound_memory(order.resources.memory_gib)
        except ConfigError as error:
            write_answer(order.study, order.key, Answer(error=str(error)))
            return
    write_answer(order.study, order.key, _find_answer(order, pool))


def _find_answer(order: WorkOrder, pool: Pool | None, *, is_inline: bool = False) -> Answer:
    """Run a preflight or a measurement; its answer says what went wrong."""
    try:
        if order.kind is OrderKind.MEASURE:
            return Answer(scores=tuple(measure_zero_costs(order.specs)))
        for spec in order.specs:
            if pool is not None:
                check_fits(pool, spec.devices)
            if is_inline:
                _check_inline(spec)
        return Answer(notes=tuple(preflight(order.specs, architectures=order.architectures, seconds=order.seconds)))
    except NasproxyError as error:
        return Answer(error=str(error))
    except BaseException as error:  # models and loaders are user code and may raise anything
        if is_inline and isinstance(error, INTERRUPTIONS):
            raise KeyboardInterrupt from error
        return Answer(error=f"a trial cannot be put together: {describe_error(error)}")


def _run_attempt(
    order: WorkOrder, folder: TrialFolder, pool: Pool | None, generation: int, *, is_inline: bool = False
) -> None:
    status = settle_predecessor(folder, max_attempts=order.max_attempts, generation=generation)
    if status.state is State.FAILED:
        return
    has_moved = read_last_step(folder) > (status.failed_at_step or 0)  # with a checkpoint that it made anew
    if status.suspects_checkpoint and not has_moved and (place := discard_checkpoints(folder)) is not None:
        print(f"the last attempts crashed with the checkpoints in {place}: training anew", flush=True)
    threads = status.threads or order.resources.threads or count_cores()
    attempt = Attempt(folder, replace(status, threads=threads), max_attempts=order.max_attempts, generation=generation)
    with ExitStack() as held:
        try:
            spec = _read_trusted_spec(order, folder)
            device = order.device_type if pool is None else held.enter_context(pool.lease(spec.devices))
            attempt.begin()
            if is_inline:
                _check_inline(spec)
            attempt.end(_call_trainer(order, attempt, spec, device, threads, is_inline=is_inline))
        except StaleLeaseError:
            raise  # the trial is another worker's by now
        except BaseException as error:  # any exception of a trainer ends only its own trial and is recorded
            if is_inline and isinstance(error, INTERRUPTIONS):
                attempt.interrupt()
                raise KeyboardInterrupt from error
            failure = describe_failure(error, folder.path)
            if failure.cause is not Cause.NAN:
                traceback.print_exc()
            attempt.fail(failure)


def _leave(error: StaleLeaseError) -> None:
    """End this process with all that it started: its trial is another worker's by now."""
    print(error, file=sys.stderr, flush=True)
    kill_own_group()
    os._exit(EXIT_BUSY)


def _stay(_: StaleLeaseError) -> None:
    """Go on, in the controller's process: the next write of the trial fails."""


def _check_inline(spec: TrialSpec) -> None:
    """Refuse a trial that needs processes of its own.

    Raises:
        ConfigError: Its trainer runs as one process per device.
    """
    if spec.devices > 1 and getattr(load_target("trainer", spec.recipe.trainer), "runs_as_ranks", False):
        raise ConfigError(
            f"backend=inline trains in one process, got a trainer that runs as {spec.devices} (training.devices, "
            f"proxy.devices): use one device, or backend=local"
        )


def _call_trainer(
    order: WorkOrder, attempt: Attempt, spec: TrialSpec, device: str, threads: int, *, is_inline: bool
) -> State:
    folder = attempt.folder
    if order.resources.memory_gib is not None:
        bound_memory(order.resources.memory_gib)  # inherited by each forked rank
    before = read_last_step(folder)
    if before < spec.total_steps and is_stop_requested(folder, before, spec.total_steps):
        return State.PAUSED  # the request or the missing controller stops the trial before its first step

    trainer = load_target("trainer", spec.recipe.trainer)
    # A trainer without ranks gets all devices in one process, such as a program that starts its own processes.
    world_size = spec.devices if getattr(trainer, "runs_as_ranks", False) else 1

    def train(rank: int) -> None:
        import torch

        if rank == 0 and not is_inline:
            keep_bounded(folder.log)  # a thread, so it starts after the ranks were forked
        torch.set_num_threads(threads)
        name = f"{device}:{rank}" if device == "cuda" and world_size > 1 else device
        context = TrialContext(folder.path, spec, name, threads, rank, world_size)
        os.environ[METRIC_VARIABLE] = context.objective.name  # for the hooks, which are not told their trial
        with attempt.keep_renewed(_stay if is_inline else _leave) if rank == 0 else nullcontext():
            trainer(trial=context, **get_trainer_arguments(spec.recipe.trainer))

    def fail_at_once(failure: TrialFailure) -> None:
        """Write that a rank failed and end this process, which may be waiting for it."""
        exit_status = EXIT_UNWRITTEN
        try:
            attempt.fail(failure)
            exit_status = EXIT_ENDED
        except StaleLeaseError:
            exit_status = EXIT_BUSY
        except NasproxyError:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            _end_group()
            os._exit(exit_status)

    # Ranks are forked before Torch starts threads or uses a GPU, because neither works after a fork.
    ranks = RankProcesses(world_size, train, describe_failure, fail_at_once) if world_size > 1 else nullcontext()
    try:
        with ranks:
            train(0)
    finally:  # only the hooks of Vertex AI NAS, which are told another total, can report beyond the end
        beyond = drop_checks_beyond(folder, spec.total_steps)
    if beyond is not None:
        raise ContractError(
            f"the trainer must end after step {spec.total_steps}, got a report of step {beyond}: train for total_steps"
        )
    return _find_state(folder, spec, before)


def _find_state(folder: TrialFolder, spec: TrialSpec, before: int) -> State:
    """Find the state of a trial whose trainer has returned, and which had reached step `before` when it was called.

    Raises:
        ContractError: The trainer returned although nobody had asked it to stop.
    """
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
