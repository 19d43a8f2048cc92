"""Work orders: what a backend has a worker do. Plain data, so that any engine can hand one to another process."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from nasproxy.errors import CorruptFileError
from nasproxy.storage.json_records import read_record, write_record
from nasproxy.trials.spec import Architecture, TrialSpec, to_canonical_json

KEY_LENGTH = 16
"""Hexadecimal digits of the keys of preflights and measurements."""


class OrderKind(str, Enum):
    """What a worker does: train a trial, preflight kinds of trials, or measure untrained models."""

    TRAIN = "train"
    PREFLIGHT = "preflight"
    MEASURE = "measure"


@dataclass(frozen=True)
class Resources:
    """What a worker uses.

    Attributes:
        devices: Devices that it needs at once.
        threads: CPU threads per process; None for the share that the host computes, or all cores.
        is_exclusive: Whether nothing else may run on the host meanwhile, as for a measurement of time.
        memory_gib: CPU memory limit in GiB; None for the host's limit.
    """

    devices: int = 1
    threads: int | None = None
    is_exclusive: bool = False
    memory_gib: float | None = None


@dataclass(frozen=True)
class WorkOrder:
    """All that a worker needs to know; it reads and writes the rest in the study's folder.

    Attributes:
        kind: What to do.
        key: Key of the trial; of a preflight or a measurement, a digest of what is asked.
        study: The study's folder, as an absolute path.
        digest: Digest of the submitted config of a trial; a folder with another config is not run.
        specs: Trials to preflight, or whose models to measure.
        architectures: Architectures that a preflight chooses the smallest and the largest model from.
        seconds: Time limit of a preflight for programs that train; 0 runs none.
        trusted_modules: Top-level modules that a trial's config may name as targets.
        device_type: `cpu` or `cuda`.
        max_attempts: Consecutive attempts of a trial that crashes or is lost without a new check.
        resources: What the worker uses.
        environment: Environment variables that the worker sets first.
    """

    kind: OrderKind
    key: str
    study: Path
    digest: str = ""
    specs: tuple[TrialSpec, ...] = ()
    architectures: tuple[Architecture, ...] = ()
    seconds: float = 0.0
    trusted_modules: tuple[str, ...] = ("nasproxy",)
    device_type: str = "cpu"
    max_attempts: int = 3
    resources: Resources = Resources()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class OrderTemplate:
    """What all orders of a study share; makes the orders.

    Attributes:
        study: The study's folder.
        trusted_modules: Top-level modules that a trial's config may name as targets.
        device_type: `cpu` or `cuda`.
        max_attempts: Consecutive attempts of a trial that crashes or is lost without a new check.
    """

    study: Path
    trusted_modules: tuple[str, ...] = ("nasproxy",)
    device_type: str = "cpu"
    max_attempts: int = 3

    def train(self, spec: TrialSpec, digest: str) -> WorkOrder:
        """Make the order to train a trial.

        Args:
            spec: The trial, which exists in the study's store.
            digest: Digest of its config, from `TrialStore.create`.
        """
        return self._make(OrderKind.TRAIN, spec.key, digest=digest, resources=Resources(devices=spec.devices))

    def preflight(
        self, specs: Sequence[TrialSpec], *, architectures: Sequence[Architecture] = (), seconds: float = 0.0
    ) -> WorkOrder:
        """Make the order to preflight kinds of trials.

        Args:
            specs: One trial of each kind.
            architectures: Architectures of which the smallest and the largest model are tried with each kind, instead
                of those of the trials; none if the trials' own are tried.
            seconds: Time limit of programs that train; 0 runs none.
        """
        content = [OrderKind.PREFLIGHT, [spec.digest for spec in specs], list(architectures), seconds]
        return self._make(
            OrderKind.PREFLIGHT,
            _digest(content),
            specs=tuple(specs),
            architectures=tuple(architectures),
            seconds=seconds,
        )

    def measure(self, specs: Sequence[TrialSpec]) -> WorkOrder:
        """Make the order to compute the zero-cost scores of the trials' untrained models."""
        content = [OrderKind.MEASURE, [spec.digest for spec in specs]]
        return self._make(OrderKind.MEASURE, _digest(content), specs=tuple(specs))

    def _make(self, kind: OrderKind, key: str, **content: object) -> WorkOrder:
        return WorkOrder(
            kind,
            key,
            self.study,
            trusted_modules=self.trusted_modules,
            device_type=self.device_type,
            max_attempts=self.max_attempts,
            **content,  # type: ignore[arg-type]
        )


def write_order(path: Path, order: WorkOrder) -> None:
    """Write an order as JSON, for a worker in another process: `python -m nasproxy.execution.worker PATH`."""
    write_record(path, order)


def read_order(path: Path) -> WorkOrder:
    """Read an order that `write_order` wrote.

    Raises:
        CorruptFileError: The file is missing or not valid.
    """
    order = read_record(path, WorkOrder)
    if order is None:
        raise CorruptFileError(f"a work order must exist, got {path}: submit it again")
    return order


def _digest(content: Sequence[object]) -> str:
    return hashlib.sha256(to_canonical_json(content).encode()).hexdigest()[:KEY_LENGTH]
