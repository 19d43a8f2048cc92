"""What a trial is: one training of one architecture under one proxy task with one seed; its identity and folder."""

import enum
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from nasproxy.errors import ConfigError
from nasproxy.proxy import ProxyTask, flatten, override

Choice = bool | int | float | str
Architecture = Mapping[str, Choice]

IDENTITY_SCHEMA = 2
NOT_IDENTITY = re.compile(
    r"data\.(.+\.)?(root|cache_dir|num_workers|pin_memory)|trainer\.(num_workers|pin_memory|grace_seconds|working_dir)"
)
"""Paths of the recipe that say where or how fast, not what: they leave a trial's key as it is."""


class Split(str, enum.Enum):
    """Which images train and which score a trial."""

    SEARCH = "search"
    """Train on one part of the training images, score on the other: what an architecture search may see."""
    FULL = "full"
    """Train on all training images, score on the validation images: what reference scores need."""


class State(str, enum.Enum):
    """Where a trial stands."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"


class Cause(str, enum.Enum):
    """Why a trial failed; the first two are the model's own fault."""

    OOM = "oom"
    NAN = "nan"
    CRASH = "crash"
    LOST = "lost"

    @property
    def is_models_fault(self) -> bool:
        """Whether another attempt would end the same way."""
        return self in (Cause.OOM, Cause.NAN)


@dataclass(frozen=True)
class Recipe:
    """All that a study's trials have in common: what is trained, on what, how, and for how long.

    Attributes:
        model: Hydra node that builds a model from an architecture.
        trainer: Hydra node that trains it; its `version` tells results of changed trainers apart.
        data: Hydra node that loads the dataset, with the fractions of its splits.
        data_fingerprint: What the dataset was when the study began.
        total_steps: Optimizer steps of a whole training.
        check_every_steps: Steps between two checks; the last step is always checked, and alone where this is None.
        devices: Devices that one training is spread over.
        check_at: The steps to check at, where they are not evenly spaced; the last is `total_steps`.
        device_type: `cpu` or `cuda`; numbers differ between them.
        precision: Numbers of the forward pass, in Lightning's words.
        micro_batch: Images a device holds at once; None for the trainer's batch.
    """

    model: Mapping[str, Any]
    trainer: Mapping[str, Any]
    data: Mapping[str, Any]
    data_fingerprint: str
    total_steps: int
    check_every_steps: int | None
    device_type: str = "cpu"
    precision: str = "32-true"
    micro_batch: int | None = None
    devices: int = 1
    check_at: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.total_steps < 1 or (self.check_every_steps is not None and self.check_every_steps < 1):
            raise ConfigError(
                f"training needs total_steps and check_every_steps of at least 1, got {self.total_steps} and "
                f"{self.check_every_steps}"
            )
        if self.devices < 1 or (self.micro_batch is not None and self.micro_batch < 1):
            raise ConfigError(
                f"training needs devices and micro_batch of at least 1, got {self.devices} and {self.micro_batch}: "
                f"micro_batch=null passes a batch through at once"
            )
        steps = (0, *(self.check_at or (self.total_steps,)))
        if steps[-1] != self.total_steps or any(step >= following for step, following in pairwise(steps)):
            raise ConfigError(
                f"training.check_at must rise from at least 1 to training.total_steps {self.total_steps}, got "
                f"{list(steps[1:])}: give the steps in order, the last one among them"
            )

    def under(self, task: ProxyTask) -> "Recipe":
        """The recipe with a proxy task's overrides applied, and on its devices.

        Raises:
            ConfigError: An override names what does not exist, or gives a value of another kind.
        """
        devices = task.devices or self.devices
        if not task.overrides and devices == self.devices:
            return self
        setting = (devices, *sorted(task.overrides.items()))
        if setting not in self._changed:
            self._changed[setting] = self._change(task)
        return self._changed[setting]

    @cached_property
    def identity(self) -> str:
        """Canonical JSON of what decides a result; made once, for a study has many trials of few recipes."""
        content = flatten(_plain({field.name: getattr(self, field.name) for field in fields(self)}))
        return canonical({path: value for path, value in content.items() if not NOT_IDENTITY.fullmatch(path)})

    @cached_property
    def _changed(self) -> dict[tuple[object, ...], "Recipe"]:
        """Recipes made by overrides, to make each once."""
        return {}

    def _change(self, task: ProxyTask) -> "Recipe":
        tree = {
            "model": self.model,
            "trainer": self.trainer,
            "data": self.data,
            "training": {
                "total_steps": self.total_steps,
                "check_every_steps": self.check_every_steps,
                "check_at": self.check_at,
                "micro_batch": self.micro_batch,
                "precision": self.precision,
                "devices": task.devices or self.devices,
            },
        }
        changed = override(tree, task.overrides)
        training = changed.pop("training")
        return replace(self, **changed, **training)


@dataclass(frozen=True)
class TrialSpec:
    """One training, told in full: equal specs are one trial, and are trained once."""

    architecture: Architecture
    proxy_task: ProxyTask
    split: Split
    seed: int
    recipe: Recipe

    def applied(self) -> "TrialSpec":
        """The same trial with its overrides applied: one key, told in one way however its setting was spelled."""
        return replace(
            self,
            recipe=self.recipe.under(self.proxy_task),
            proxy_task=replace(self.proxy_task.plain, devices=None, overrides={}),
        )

    @cached_property
    def key(self) -> str:
        """Name of the trial's folder: a hash of all that decides its result."""
        return self.digest[:16]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON of all that decides the result."""
        spec = self.applied()
        content = {
            "schema": IDENTITY_SCHEMA,
            "architecture": dict(spec.architecture),
            "proxy_task": {k: v for k, v in vars(spec.proxy_task).items() if k not in ("overrides", "devices")},
            "split": spec.split.value,
            "seed": spec.seed,
            "recipe": spec.recipe.identity,
        }
        return hashlib.sha256(canonical(content).encode()).hexdigest()

    @property
    def devices(self) -> int:
        """Devices that this training is spread over."""
        return self.recipe.under(self.proxy_task).devices

    @property
    def total_steps(self) -> int:
        """Optimizer steps of this training, overrides applied."""
        return self.recipe.under(self.proxy_task).total_steps

    @property
    def check_steps(self) -> tuple[int, ...]:
        """Steps after which the trial is validated, the last step among them."""
        recipe = self.recipe.under(self.proxy_task)
        return recipe.check_at or check_steps(recipe.total_steps, recipe.check_every_steps)


def check_steps(total_steps: int, every: int | None) -> tuple[int, ...]:
    """Steps after which a training is validated: every so many, and the last.

    >>> check_steps(50, 20), check_steps(50, None)
    ((20, 40, 50), (50,))
    """
    if every is None:
        return (total_steps,)
    steps = list(range(every, total_steps + 1, every))
    return (*steps, *([] if steps and steps[-1] == total_steps else [total_steps]))


def canonical(content: Any) -> str:
    """JSON that is equal for equal content: sorted keys, no spaces, 1 and 1.0 alike."""
    return json.dumps(_plain(content), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


@dataclass(frozen=True)
class Check:
    """One validation of a trial: a point of its learning curve.

    Attributes:
        step: Finished optimizer steps.
        score: Validation metric, higher is better.
        train_seconds: Training time up to here over all attempts, validation excluded.
    """

    step: int
    score: float
    train_seconds: float


@dataclass(frozen=True)
class Request:
    """What the controller asks of a trial; only controllers write it.

    Attributes:
        until_step: Stop at the first check at or after this step; None runs to the end.
        until_seconds: Stop at the first check at or after this training time; None sets no limit.
        stop: Stop at the next check.
        lease: File whose lease says that the controller lives; without it the trial stops at its next check.
    """

    until_step: int | None = None
    until_seconds: float | None = None
    stop: bool = False
    lease: str | None = None


@dataclass(frozen=True)
class Status:
    """What became of a trial; only its worker writes it while one lives.

    Attributes:
        state: Where it stands; failed is final, a failure that will be tried again is pending.
        failures: Attempts in a row that failed without a new check.
        failed_at_step: The last check that was there when it failed last; None before it ever did.
        wall_seconds: Time of all its workers that ended, start-up, validation and lost work included.
        started_at: When the living worker began, in seconds since 1970.
        threads: CPU threads it began with, and keeps: another number of them gives other last bits.
        cause: Why it failed last.
        message: That failure's own words.
    """

    state: State = State.PENDING
    failures: int = 0
    failed_at_step: int | None = None
    wall_seconds: float = 0.0
    started_at: float | None = None
    threads: int | None = None
    cause: Cause | None = None
    message: str | None = None

    def failed(self, cause: Cause, message: str, *, step: int, max_attempts: int) -> "Status":
        """The status after one more failure: pending while another attempt is allowed and could help.

        An attempt that got further than the one before counts as the first again: a trial that is often lost,
        but moves, is never given up.
        """
        has_moved = self.failed_at_step is None or step > self.failed_at_step
        failures = 1 if has_moved else self.failures + 1
        retry = not cause.is_models_fault and failures < max_attempts
        return replace(
            self,
            state=State.PENDING if retry else State.FAILED,
            failures=failures,
            failed_at_step=step,
            started_at=None,
            cause=cause,
            message=message,
        )


@dataclass(frozen=True)
class Replacement:
    """Another trial in place of one that failed.

    Attributes:
        key: The other trial.
        cause: Why the one before it failed.
        change: What the other one does differently, in words.
    """

    key: str
    cause: Cause
    change: str


@dataclass(frozen=True)
class TrialRecord:
    """What is known of a trial: its status, and its checks in order of steps.

    Attributes:
        status: What became of it.
        checks: Its learning curve.
        replacements: The trials that stand in for it, each for the one before.
        trainings: What it and each that stands in for it did alone; empty where it was read alone.
    """

    status: Status = field(default_factory=Status)
    checks: tuple[Check, ...] = ()
    replacements: tuple[Replacement, ...] = ()
    trainings: tuple["TrialRecord", ...] = field(default=(), compare=False, repr=False)

    @property
    def step(self) -> int:
        """The last step that was checked; 0 before the first check."""
        return self.checks[-1].step if self.checks else 0

    @property
    def is_failed(self) -> bool:
        """Whether no more checks will come because it failed."""
        return self.status.state is State.FAILED

    def trained_as(self, key: str) -> str:
        """The key of the last that stands in for the trial of this key, or its own."""
        return self.replacements[-1].key if self.replacements else key

    def reached(self, step: int) -> bool:
        """Whether there is a check at or after `step`."""
        return self.step >= step

    def check_at(self, step: int) -> Check | None:
        """The check after exactly `step` steps."""
        return self._by_step.get(step)

    @cached_property
    def _by_step(self) -> Mapping[int, Check]:
        return {check.step: check for check in self.checks}

    def is_missing_at(self, step: int) -> bool:
        """Whether it failed before this check for a reason that is not the model's: it then says nothing of it."""
        cause = self.status.cause
        return self.is_failed and self.check_at(step) is None and cause is not None and not cause.is_models_fault

    def has_failed_by(self, step: int) -> bool:
        """Whether the model failed, by its own fault, before it could be checked after `step` steps."""
        return self.is_failed and self.check_at(step) is None and not self.is_missing_at(step)

    @property
    def score(self) -> float | None:
        """The last check's score."""
        return self.checks[-1].score if self.checks else None


def as_one(records: Sequence[TrialRecord]) -> TrialRecord:
    """One record of a trial and of those that stand in for it.

    The check after so many steps is that of the first of them that got so far: had the training been stopped there,
    the others would never have been begun. So a decision that was taken on it would be taken again. Its training time
    is that of all trainings up to it, for each that was replaced was paid too.

    Args:
        records: What each of them did alone, in order; the first knows those that stand in for it.

    Returns:
        How the last one stands, with the checks of all, and the time of all workers.
    """
    checks: list[Check] = []
    step, paid = 0, 0.0
    for record in records:
        new = [check for check in record.checks if check.step > step]
        checks += [replace(check, train_seconds=check.train_seconds + paid) for check in new] if paid else new
        step = max(step, record.step)
        paid += record.checks[-1].train_seconds if record.checks else 0.0
    return TrialRecord(
        status=replace(records[-1].status, wall_seconds=sum(record.status.wall_seconds for record in records)),
        checks=tuple(checks),
        replacements=records[0].replacements[: len(records) - 1],
        trainings=tuple(records),
    )


@dataclass(frozen=True)
class TrialFolder:
    """Where a trial lives; the one place that knows the names of its files."""

    path: Path

    @property
    def config(self) -> Path:
        """All that decides the result."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One check a line."""
        return self.path / "metrics.jsonl"

    @property
    def request(self) -> Path:
        """From the controller."""
        return self.path / "request.json"

    @property
    def status(self) -> Path:
        """From the worker."""
        return self.path / "status.json"

    @property
    def heartbeat(self) -> Path:
        """Touched by the trainer while it trains; empty."""
        return self.path / "heartbeat"

    @property
    def successors(self) -> Path:
        """From the controller: the trials that stand in for this one, which has failed."""
        return self.path / "successors.json"

    @property
    def latency(self) -> Path:
        """Measured latency."""
        return self.path / "latency.json"

    @property
    def checkpoints(self) -> Path:
        """Where to continue from."""
        return self.path / "checkpoints"

    @property
    def weights(self) -> Path:
        """What the last check scored, for `load_state_dict`; there once a training has reached its end."""
        return self.checkpoints / "weights.pt"

    @property
    def lock(self) -> Path:
        """Held by the living worker."""
        return self.path / "worker.lock"

    @property
    def log(self) -> Path:
        """What the worker printed."""
        return self.path / "worker.log"
