"""Classify why a training failed from its exception, and limit memory so that it fails instead of being killed.

Torch is imported inside functions, because the controller's process imports this module and must start fast.
"""

import errno
import resource
import shutil
from dataclasses import dataclass
from pathlib import Path

from nasproxy.errors import (
    ConfigError,
    ContractError,
    DataError,
    MissingExtraError,
    NasproxyError,
    NonFiniteScoreError,
    StorageFullError,
    StorageUnavailableError,
)
from nasproxy.storage.files import FULL
from nasproxy.trials.records import Cause

OUT_OF_MEMORY_MESSAGES = (
    "can't allocate memory",
    "not enough memory",
    "Cannot allocate memory",
    "out of memory",
    "ALLOC_FAILED",
    "bad_alloc",
    "could not create a primitive",
)
"""Parts of out-of-memory messages: PyTorch on CPU and GPU, CUDA's libraries, the kernel, oneDNN."""

TRANSIENT = (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO, errno.ENOLCK)
"""Error numbers of a file system, or a machine, that may work again."""
FREE_BYTES = 2**20
"""Free bytes below which a disk counts as full; what could not be written whole has taken the rest."""
SETUP_ERRORS = (ConfigError, ContractError, DataError, MissingExtraError)
"""Errors in what all models share: a trial of any model would fail."""


@dataclass(frozen=True)
class TrialFailure:
    """Cause and error message of a failed training."""

    cause: Cause
    message: str


def find_cause(error: BaseException) -> Cause:
    """Find the cause of a failure from the exception, and from the exceptions that it wraps (`__cause__`).

    Only CUDA's allocator raises an error type of its own; errors of the CPU allocator, cuBLAS and cuDNN are recognised
    by their messages. Messages of `NasproxyError` are not searched, because they quote files and output of programs;
    a program reports {"failure": "oom"} instead.

    Of several errors of nasproxy, the outermost one decides whether the setup is at fault: a `ModelError` may wrap a
    `ConfigError` of the code that builds the model.
    """
    chain = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    results = filter(None, map(_find_result, chain))
    ours = next((link for link in chain if isinstance(link, NasproxyError)), None)
    return next(results, Cause.SETUP if isinstance(ours, SETUP_ERRORS) else _find_storage_fault(error) or Cause.CRASH)


def _find_storage_fault(error: BaseException) -> Cause | None:
    """Return the cause of a failure of the file system, which says nothing about the model and its checkpoints.

    A full disk is full for all models, so that it stops the study; what may work again is a lost attempt. A damaged
    file is neither: it may be the checkpoint, which only crashes bring under suspicion.
    """
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, StorageFullError) or (isinstance(link, OSError) and link.errno in FULL):
            return Cause.SETUP
        if isinstance(link, StorageUnavailableError) or (isinstance(link, OSError) and link.errno in TRANSIENT):
            return Cause.LOST
        link = link.__cause__ or link.__context__  # torch.save raises another error, without a cause
    return None


def _find_result(error: BaseException) -> Cause | None:
    """Return the cause of a failure that is a result of the model, from one exception; None for all others."""
    import torch

    if isinstance(error, NonFiniteScoreError | FloatingPointError):
        return Cause.NAN
    text = "" if isinstance(error, NasproxyError) else str(error)
    is_oom = isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        part in text for part in OUT_OF_MEMORY_MESSAGES
    )
    return Cause.OOM if is_oom else None


def describe_failure(error: BaseException, folder: Path | None = None) -> TrialFailure:
    """Make the cause and message that go into the status of a trial whose trainer raised an exception.

    Args:
        error: The exception.
        folder: The trial's folder: a crash on a full disk counts as caused by it, since libraries hide the reason.
    """
    cause = find_cause(error)
    is_message_enough = str(error) and (cause is not Cause.CRASH or isinstance(error, NasproxyError))
    message = str(error) if is_message_enough else f"{type(error).__name__}: {error}"
    is_hidden = cause is Cause.CRASH and folder is not None and shutil.disk_usage(folder).free < FREE_BYTES
    is_known = cause is Cause.SETUP and _find_storage_fault(error) is Cause.SETUP
    if isinstance(error, StorageFullError) or not (is_hidden or is_known):
        return TrialFailure(cause, message)
    return TrialFailure(Cause.SETUP, f"the disk is full: free space and run the command again ({message})")


def bound_memory(gib: float) -> None:
    """Limit the memory of this process, so that allocations beyond it fail and the process is not killed.

    Args:
        gib: Limit in GiB (2**30 bytes).

    Raises:
        ConfigError: The process already uses more.
    """
    held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    limit = int(gib * 2**30)
    if held > limit:
        raise ConfigError(
            f"backend.memory_gib must exceed the memory of a worker before training, {held / 2**30:.2f} GiB, got "
            f"{gib:g}: raise it, or use null for no limit"
        )
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
