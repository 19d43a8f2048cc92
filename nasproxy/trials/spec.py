"""Specification and identity of a trial: one training of one architecture under one proxy task with one seed."""

import enum
import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cached_property
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from nasproxy.errors import ConfigError
from nasproxy.trials.identity import flatten_identity, list_excluded
from nasproxy.trials.objective import Objective
from nasproxy.trials.overrides import apply_overrides
from nasproxy.trials.proxy_task import ProxyTask

Choice = bool | int | float | str
Architecture = Mapping[str, Choice]

IDENTITY_SCHEMA = 3
DATA_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {"holdout_fraction": 0.1, "order_seed": 0, "balance": "proportional", "fingerprint": None}
)
"""Defaults of `nasproxy.config.schema.DataConfig`; a value that has its default is no part of a trial's identity."""
MOST_CHECKS = 100_000
"""Maximum number of checks of one training, because all their steps are listed."""


class Split(str, enum.Enum):
    """Which images a trial trains on and which it is validated on."""

    SEARCH = "search"
    """Train on one part of the training images, validate on the rest; an architecture search uses these scores."""
    FULL = "full"
    """Train on all training images, validate on the validation images; reference scores use it."""


@dataclass(frozen=True)
class Recipe:
    """The configuration that all trials of a study share: model, trainer, data and schedule.

    Attributes:
        model: Hydra node that builds a model from an architecture. `nasproxy.trials.identity` describes which keys of
            this and the following two nodes enter a trial's key.
        trainer: Hydra node that trains it.
        data: Hydra node that loads the dataset, with the fractions of its splits.
        data_fingerprint: Fingerprint of the dataset when the study was created.
        total_steps: Optimizer steps of a whole training.
        check_every_steps: Steps between two checks; None checks the last step only. The last step is always checked.
        devices: Devices that one training uses.
        check_at: Steps to check at, increasing, instead of `check_every_steps`. Steps beyond `total_steps` are dropped,
            and the last step is always added.
        device_type: `cpu` or `cuda`; floating-point results differ between them.
        precision: Lightning's `precision` argument.
        micro_batch: Images that a device holds at once; None for its share of the batch.
        objective: Metric that a trial must report, and its direction; it changes no training and no key.
        identity_exclude: Dotted paths of `model`, `trainer` and `data` that decide no result, as the user states.
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
    objective: Objective = field(default_factory=Objective)
    identity_exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_types(self)
        if self.total_steps < 1 or (self.check_every_steps is not None and self.check_every_steps < 1):
            raise ConfigError(
                f"training needs total_steps and check_every_steps of at least 1, got {self.total_steps} and "
                f"{self.check_every_steps}"
            )
        if self.check_every_steps is not None and self.total_steps // self.check_every_steps > MOST_CHECKS:
            raise ConfigError(
                f"a training has at most {MOST_CHECKS} checks, got {self.total_steps // self.check_every_steps}: raise "
                f"training.check_every_steps"
            )
        if self.devices < 1 or (self.micro_batch is not None and self.micro_batch < 1):
            raise ConfigError(
                f"training needs devices and micro_batch of at least 1, got {self.devices} and {self.micro_batch}: "
                f"use micro_batch=null for undivided batches"
            )
        if self.check_at is not None:
            if any(step >= following for step, following in pairwise((0, *self.check_at))):
                raise ConfigError(
                    f"training.check_at must hold increasing steps of at least 1, got {list(self.check_at)}: sort the "
                    f"steps and remove duplicates"
                )
            within = (*(step for step in self.check_at if step < self.total_steps), self.total_steps)
            object.__setattr__(self, "check_at", within)  # a shorter training keeps the earlier steps
            object.__setattr__(self, "check_every_steps", None)

    def under(self, task: ProxyTask) -> "Recipe":
        """Apply a proxy task's overrides and devices to the recipe.

        Raises:
            ConfigError: The path of an override does not exist, or its value has another type.
        """
        devices = task.devices or self.devices
        if not task.overrides and devices == self.devices:
            return self
        setting = (devices, *sorted(task.overrides.items()))
        if setting not in self._changed_recipes:
            self._changed_recipes[setting] = self._change(task)
        return self._changed_recipes[setting]

    @cached_property
    def identity(self) -> str:
        """Canonical JSON of all values that decide a result; cached, because many trials share a recipe."""
        content = _drop_defaults(self)
        for name in ("objective", "identity_exclude"):
            content.pop(name, None)
        content["data"] = {
            name: value
            for name, value in self.data.items()
            if name not in DATA_DEFAULTS or value != DATA_DEFAULTS[name]
        }
        return to_canonical_json(flatten_identity(content, self.identity_exclude))

    @property
    def excluded(self) -> tuple[str, ...]:
        """Dotted paths of the values that decide no result, as nodes and the user state."""
        declared = list_excluded({"model": self.model, "trainer": self.trainer, "data": self.data})
        return (*declared, *self.identity_exclude)

    @cached_property
    def _changed_recipes(self) -> dict[tuple[object, ...], "Recipe"]:
        """Cache of recipes with overrides applied, by devices and overrides."""
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
        changed = apply_overrides(tree, task.overrides)
        training = changed.pop("training")
        return replace(self, **changed, **training)


def _check_types(recipe: Recipe) -> None:
    """Refuse numbers of steps, images or devices that are not whole: an override can give a null field any type.

    Raises:
        ConfigError: A value is not a whole number, or `check_at` is not a list of them.
    """
    whole = {name: getattr(recipe, name) for name in ("total_steps", "check_every_steps", "micro_batch", "devices")}
    needed = ("total_steps", "devices")
    for name, value in whole.items():
        if (value is None and name in needed) or (value is not None and not _is_whole(value)):
            raise ConfigError(f"training.{name} must be a whole number, got {value!r}")
    steps = recipe.check_at
    if steps is not None and not (isinstance(steps, list | tuple) and all(map(_is_whole, steps))):
        raise ConfigError(f"training.check_at must be a list of steps or null, got {steps!r}")


def _drop_defaults(content: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that differ from their defaults, so that a new field changes no key."""
    values = {field: getattr(content, field.name) for field in fields(content)}
    return {
        field.name: value
        for field, value in values.items()
        if not (value == field.default or (field.default_factory is not MISSING and value == field.default_factory()))
    }


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True)
class TrialSpec:
    """Full specification of one training; specs with equal keys are the same trial, which is trained once."""

    architecture: Architecture
    proxy_task: ProxyTask
    split: Split
    seed: int
    recipe: Recipe

    def applied(self) -> "TrialSpec":
        """Return the same trial in normal form: overrides and devices moved from the proxy task into the recipe."""
        return replace(
            self,
            recipe=self.recipe.under(self.proxy_task),
            proxy_task=replace(self.proxy_task.plain, devices=None, overrides={}),
        )

    @cached_property
    def key(self) -> str:
        """Identity of the trial and name of its folder: the first 16 hex digits of `digest`."""
        return self.digest[:16]

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON of all that decides the result."""
        spec = self.applied()
        content = {
            "schema": IDENTITY_SCHEMA,
            "architecture": dict(spec.architecture),
            "proxy_task": _drop_defaults(spec.proxy_task),
            "split": spec.split.value,
            "seed": spec.seed,
            "recipe": spec.recipe.identity,
        }
        return hashlib.sha256(to_canonical_json(content).encode()).hexdigest()

    @property
    def devices(self) -> int:
        """Devices that this training uses."""
        return self.recipe.under(self.proxy_task).devices

    @property
    def total_steps(self) -> int:
        """Optimizer steps of this training, overrides applied."""
        return self.recipe.under(self.proxy_task).total_steps

    @property
    def check_steps(self) -> tuple[int, ...]:
        """Steps after which a validation is requested, including the last one."""
        recipe = self.recipe.under(self.proxy_task)
        return recipe.check_at or list_check_steps(recipe.total_steps, recipe.check_every_steps)


def list_check_steps(total_steps: int, every: int | None) -> tuple[int, ...]:
    """List the steps after which a training is validated.

    Args:
        total_steps: Optimizer steps of the training.
        every: Steps between two checks; None for the last step only.

    >>> list_check_steps(50, 20), list_check_steps(50, None)
    ((20, 40, 50), (50,))
    """
    if every is None:
        return (total_steps,)
    steps = list(range(every, total_steps + 1, every))
    return (*steps, *([] if steps and steps[-1] == total_steps else [total_steps]))


def to_canonical_json(content: Any) -> str:
    """Encode content as JSON that is equal for equal content: sorted keys, no spaces, 1.0 written as 1."""
    return json.dumps(_normalize(content), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _normalize(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _normalize(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_normalize(v) for v in value]
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
