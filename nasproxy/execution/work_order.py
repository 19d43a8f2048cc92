"""Work orders: one trial for a worker to run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nasproxy.execution.devices import Pool


@dataclass(frozen=True)
class WorkOrder:
    """A submitted trial and all that a worker needs to run it.

    Attributes:
        folder: The trial's folder.
        digest: Digest of the submitted config; a folder with another config is not run.
        trusted_modules: Top-level modules that the config may name as targets.
        threads: CPU threads of the trial, for each of its devices.
        pool: Pool from which the worker leases the trial's devices.
        max_attempts: Consecutive failures without a new check after which the trial fails.
        environment: Environment variables that the worker sets first.
        memory_gib: CPU memory limit of the worker in GiB; None for no limit.
    """

    folder: Path
    digest: str
    trusted_modules: tuple[str, ...]
    pool: Pool
    threads: int = 1
    max_attempts: int = 2
    environment: Mapping[str, str] = field(default_factory=dict)
    memory_gib: float | None = None
