"""A work order: one trial for a worker to run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nasproxy.execution.devices import Pool


@dataclass(frozen=True)
class WorkOrder:
    """One trial to run, as submitted.

    Attributes:
        folder: The trial's folder.
        digest: Digest of the config that was submitted; a folder with another is not run.
        trusted_modules: Top-level modules that the config may name as targets.
        threads: Threads of the trial, on each of its devices.
        pool: Where to lease what the trial runs on.
        max_attempts: Failures after which the trial is given up.
        environment: Variables to set before anything starts.
        memory_gib: CPU memory that the worker may take; None for no limit.
    """

    folder: Path
    digest: str
    trusted_modules: tuple[str, ...]
    pool: Pool
    threads: int = 1
    max_attempts: int = 2
    environment: Mapping[str, str] = field(default_factory=dict)
    memory_gib: float | None = None
