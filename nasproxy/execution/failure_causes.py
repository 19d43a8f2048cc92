"""Why a training failed, told from what it raised; and a bound on memory, so that it fails in place of being killed.

Torch is imported where it is used: the controller's process imports this module, and stays light.
"""

import resource
from dataclasses import dataclass
from pathlib import Path

from nasproxy.errors import ConfigError, NasproxyError, NonFiniteScoreError
from nasproxy.trials.records import Cause

NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "Cannot allocate memory",
    "out of memory",
    "ALLOC_FAILED",
    "bad_alloc",
    "could not create a primitive",
)
"""Words of errors that mean that memory ran out: of PyTorch on either device, CUDA's libraries, the kernel, oneDNN."""


@dataclass(frozen=True)
class TrialFailure:
    """Why a training failed, and its own words."""

    cause: Cause
    message: str


def find_cause(error: BaseException) -> Cause:
    """Why a training failed, by what it raised; libraries that wrap an error name it as their cause.

    Only CUDA's allocator has an error of its own: that of the CPU, cuBLAS and cuDNN are known by their words. Errors of
    ours are not searched for these: they quote files and programs, which say {"failure": "oom"} where they mean it.
    """
    import torch

    if isinstance(error, NonFiniteScoreError | FloatingPointError):
        return Cause.NAN
    words = "" if isinstance(error, NasproxyError) else str(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or any(telling in words for telling in NO_MEMORY):
        return Cause.OOM
    return Cause.CRASH if error.__cause__ is None else find_cause(error.__cause__)


def describe_failure(error: BaseException) -> TrialFailure:
    """What goes into the status of a trial whose trainer raised."""
    cause = find_cause(error)
    has_words = cause is not Cause.CRASH and str(error)
    return TrialFailure(cause, str(error) if has_words else f"{type(error).__name__}: {error}")


def bound_memory(gib: float) -> None:
    """Have this process fail where it asks for more memory, in place of being killed.

    Raises:
        ConfigError: It holds more already.
    """
    held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    limit = int(gib * 2**30)
    if held > limit:
        raise ConfigError(
            f"backend.memory_gib must hold a worker before it trains, which takes {held / 2**30:.2f} GiB, got {gib:g}: "
            f"give more, or null for no limit"
        )
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
