"""Proxy tasks: settings of the fidelity dimensions, the grids they span and the names they bear."""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from nasproxy.errors import ConfigError

Override = bool | int | float | str | tuple[int, ...] | None
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SHORT_NAMES = {
    "data_fraction": "data",
    "width": "width",
    "depth": "depth",
    "image_size": "image",
    "augmentation": "augment",
    "regularisation": "regular",
    "batch_size": "batch",
}
ResizeMode = Literal["resize", "crop"]
COMPOUND_BASES = {"width": 1.1, "depth": 1.2, "image_size": 1.15}
"""EfficientNet's beta, alpha and gamma: each dimension's multiplier is its base to the power of phi."""
FOLLOW = "follow"
"""A strength that follows the scale of the task, see `followed_strength`."""
STRENGTHS = ("augmentation", "regularisation")
DIGITS = 4
"""Decimals that are kept of multipliers and strengths that a rule gives."""


@dataclass(frozen=True)
class ProxyTask:
    """One cheap training setting; the defaults reduce nothing.

    Attributes:
        data_fraction: Share of the training images, in (0, 1].
        width: Multiplier of the channels, above 0.
        depth: Multiplier of the repeats of a block, above 0.
        image_size: Multiplier of the image's side, in (0, 1].
        image_mode: How images shrink: `resize`, or `crop` the centre.
        augmentation: Strength of augmentation against the trainer's own, at least 0.
        regularisation: Strength of weight decay and dropout against the trainer's own, at least 0.
        batch_size: Multiplier of the trainer's batch, above 0; its learning rate follows.
        devices: Devices that a training is spread over; None for as many as full training takes.
        overrides: Values of the configuration by dotted path, such as `trainer.batch_size`.
    """

    data_fraction: float = 1.0
    width: float = 1.0
    depth: float = 1.0
    image_size: float = 1.0
    image_mode: ResizeMode = "resize"
    augmentation: float = 1.0
    regularisation: float = 1.0
    batch_size: float = 1.0
    devices: int | None = None
    overrides: Mapping[str, Override] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in SHORT_NAMES:
            _check_number(name, getattr(self, name))
        if self.devices is not None and (isinstance(self.devices, bool) or not isinstance(self.devices, int)):
            raise ConfigError(f"proxy.devices must be a whole number, got {self.devices!r}: give one such as 2")
        if self.devices is not None and self.devices < 1:
            raise ConfigError(f"proxy.devices must be at least 1, got {self.devices}: null takes training.devices")
        if self.image_mode not in get_args(ResizeMode):
            raise ConfigError(f"proxy.image_mode must be one of {get_args(ResizeMode)}, got {self.image_mode!r}")

    def batch(self, size: int, multiple: int = 1) -> int:
        """Images of one optimizer step, where the trainer's own batch has so many; one of another size is a multiple.

        >>> half = ProxyTask(batch_size=0.5)
        >>> half.batch(12), half.batch(12, multiple=4), ProxyTask().batch(6, multiple=4)
        (6, 8, 6)
        """
        return size if self.batch_size == 1.0 else multiple * max(1, round(size * self.batch_size / multiple))

    @property
    def plain(self) -> "ProxyTask":
        """The same setting without what says nothing: how images shrink where they do not."""
        return replace(self, image_mode="resize") if self.image_size == 1.0 else self

    @property
    def default_name(self) -> str:
        """The name that the setting gives itself: `data50_width25`, or `full` where nothing is reduced."""
        return self._name()

    def _name(self, phi: float = 0.0) -> str:
        """The name, in which `compound-2` stands for the dimensions that a compound scaling by -2 gave."""
        parts = [
            f"{short}{_percent(getattr(self, name))}"
            for name, short in SHORT_NAMES.items()
            if getattr(self, name) != 1.0 and not (phi and name in COMPOUND_BASES)
        ]
        if phi:
            parts.insert(0 if self.data_fraction == 1.0 else 1, f"compound{phi:g}")
        parts += [] if self.devices is None else [f"devices{self.devices}"]
        parts += [f"{path.rsplit('.', 1)[-1]}-{value}" for path, value in sorted(self.overrides.items())]
        return re.sub(r"[^A-Za-z0-9._-]", "-", "_".join(parts))[:64] or "full"


DIMENSIONS = tuple(f.name for f in fields(ProxyTask) if f.name != "overrides")
AXES = ("data_fraction", "compound", *(name for name in DIMENSIONS if name != "data_fraction"))
"""What a `proxy` configuration may set, in the order of the grid."""


def _percent(fraction: float) -> str:
    return f"{fraction * 100:g}"


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"proxy.{name} must be a number, got {value!r}: give one such as 0.5, or a list of them")
    advice = f"give a fraction, {value / 100:g}, not a percentage" if value > 1 else "give a fraction such as 0.5"
    if name in ("data_fraction", "image_size") and not 0 < value <= 1:
        raise ConfigError(f"proxy.{name} must lie in (0, 1], got {value:g}: {advice}")
    if name in ("width", "depth", "batch_size") and not 0 < value <= 10:
        raise ConfigError(f"proxy.{name} must be a multiplier in (0, 10], got {value:g}: {advice}")
    if name in ("augmentation", "regularisation") and not 0 <= value <= 10:
        raise ConfigError(f"proxy.{name} must be a strength in [0, 10], got {value:g}: {advice}")


def named(tasks: Sequence[tuple[str | None, ProxyTask]]) -> dict[str, ProxyTask]:
    """Give every proxy task its name, in order.

    Raises:
        ConfigError: There is none, or two bear one name, or a name does not fit a file name.
    """
    result: dict[str, ProxyTask] = {}
    names: dict[object, str] = {}
    for given, task in tasks:
        name = given or task.default_name
        if not NAME_PATTERN.fullmatch(name):
            raise ConfigError(
                f"a proxy task's name must be 1 to 64 letters, digits, '.', '_' or '-', got {name!r}: rename it"
            )
        same = names.setdefault(_setting(task), name)
        if same != name:
            raise ConfigError(
                f"proxy tasks must differ in more than their names, got {same!r} and {name!r} of one setting: drop one"
            )
        if name in result:
            raise ConfigError(
                f"every proxy task needs a name of its own, got {name!r} twice: rename one of them, or remove "
                f"the repeated value from the grid"
            )
        result[name] = task
    if not result:
        raise ConfigError(
            "proxy needs at least one proxy task, got an empty grid: give every axis a value, such as "
            "proxy.data_fraction=[0.25,0.5]"
        )
    return result


def _setting(task: ProxyTask) -> tuple[object, ...]:
    """What tells a task from others, to look it up by."""
    return (*(getattr(task.plain, name) for name in DIMENSIONS), *sorted(task.overrides.items()))


def grid(settings: Mapping[str, Any]) -> dict[str, ProxyTask]:
    """Span the proxy tasks of a `proxy` configuration.

    Args:
        settings: The dimensions of `ProxyTask` and `compound`, each one value or a list (an axis of the grid; the last
            one varies fastest), and `tasks`: named settings that are no product, each a mapping with `name`,
            dimensions and dotted overrides. Where `tasks` is given, the axes must be left alone. Where a strength
            that follows the scale comes out as one that stands in the grid already, the point is left out.

    Returns:
        Proxy tasks by name, in the order in which they are tried.

    Raises:
        ConfigError: A value, name or key is wrong, or the grid is empty.
    """
    listed = settings.get("tasks")
    axes = {name: settings[name] for name in AXES if settings.get(name) is not None}
    unknown = sorted(set(settings) - set(AXES) - {"tasks", "generator"})
    if unknown:
        raise ConfigError(f"proxy has no {unknown[0]!r}: its dimensions are {', '.join(AXES)}")
    if listed is not None:
        if axes:
            raise ConfigError(
                f"proxy takes axes or a list of tasks, not both, got {', '.join(axes)} beside tasks: set the "
                f"dimension inside each task"
            )
        if isinstance(listed, Mapping | str) or not isinstance(listed, Sequence):
            raise ConfigError(f"proxy.tasks must be a list of settings, got {listed!r}")
        return named([from_mapping(entry) for entry in listed])
    if not axes:
        raise ConfigError(
            "proxy needs at least one proxy task, got none: choose one, such as proxy=data50, or proxy=full to reduce "
            "nothing"
        )
    values = [value if isinstance(value, list | tuple) else [value] for value in axes.values()]
    empty = [name for name, axis in zip(axes, values, strict=True) if not axis]
    if empty:
        raise ConfigError(f"proxy.{empty[0]} must hold at least one value, got an empty list: the grid would be empty")
    points = [dict(zip(axes, point, strict=True)) for point in itertools.product(*values)]
    return named(_without_echoes([(point, *_resolved(point)) for point in points]))


def _without_echoes(points: Sequence[tuple[Mapping[str, Any], str, ProxyTask]]) -> list[tuple[str | None, ProxyTask]]:
    """Leave out what only follows to a setting that another point has; what is written twice stays, to be refused."""
    kept = {_setting(task) for point, _, task in points if FOLLOW not in point.values()}
    written = [point for point, _, _ in points]
    tasks: list[tuple[str | None, ProxyTask]] = []
    for point, name, task in points:
        is_echo = FOLLOW in point.values() and _setting(task) in kept and written.count(point) == 1
        if not is_echo:
            kept.add(_setting(task))
            tasks.append((name, task))
    return tasks


def _resolved(setting: Mapping[str, Any]) -> tuple[str, ProxyTask]:
    """A task of which all values are numbers, and its name: compound scaling first, then what follows the scale."""
    values = dict(setting)
    phi = values.pop("compound", None)
    if phi is not None:
        scaled = compound(phi)
        beside = [name for name in COMPOUND_BASES if values.get(name) is not None]
        if beside:
            raise ConfigError(
                f"proxy.compound sets width, depth and image_size together, got {beside[0]} beside it: leave "
                f"one out, such as all of the default grid with proxy=full proxy.compound={phi:g}"
            )
        values.update(scaled)
    following = [name for name in STRENGTHS if values.get(name) == FOLLOW]
    scale = ProxyTask(**{name: value for name, value in values.items() if name not in following})
    strength = followed_strength(scale.width, scale.depth, scale.image_size)
    task = ProxyTask(**{**values, **dict.fromkeys(following, strength)})
    return task._name(phi or 0.0), task


def compound(phi: Any) -> dict[str, float]:
    """Width, depth and image size of EfficientNet's compound scaling.

    Args:
        phi: Below 0 for smaller models on smaller images; each -1 about halves the work of a step.

    Returns:
        Multipliers 1.1, 1.2 and 1.15 to the power of phi, rounded to 4 decimals.

    Raises:
        ConfigError: Phi is no number, or above 0.

    Source: Tan and Le, EfficientNet (2019), equation 3 and section 4.

    >>> compound(-2)
    {'width': 0.8264, 'depth': 0.6944, 'image_size': 0.7561}
    """
    if isinstance(phi, bool) or not isinstance(phi, int | float) or not math.isfinite(phi):
        raise ConfigError(f"proxy.compound must be a number, got {phi!r}: give one such as -1, or a list of them")
    if phi > 0:
        raise ConfigError(
            f"proxy.compound must be at most 0, got {phi:g}: images cannot be larger than full training's; to enlarge "
            f"the model alone set proxy.width and proxy.depth"
        )
    return {name: round(base**phi, DIGITS) for name, base in COMPOUND_BASES.items()}


def followed_strength(width: float, depth: float, image_size: float) -> float:
    """Strength of augmentation or regularisation that fits a smaller model or image, as a share of the trainer's own.

    The work of a step goes with `width**2 * depth * image_size**2`; each halving of it takes a quarter of the strength.

    Returns:
        A share in [0, 1], rounded to 4 decimals.

    Source: EfficientNet (Tan and Le, 2019) raises dropout evenly from 0.2 for B0 to 0.5 for B7, which has 95 times the
    FLOPs: by 0.23 of B0's with each doubling. EfficientNetV2 (Tan and Le, 2021, table 6) trains its S at 128 px with
    RandAugment 5 and dropout 0.1, at 300 px with 15 and 0.3; this rule gives 5.8 and 0.12.

    >>> followed_strength(1.0, 1.0, 128 / 300), followed_strength(0.5, 1.0, 1.0)
    (0.3856, 0.5)
    """
    doublings = math.log2(width**2 * depth * image_size**2)
    return round(min(1.0, max(0.0, 1.0 + doublings / 4)), DIGITS)


def from_mapping(entry: Any) -> tuple[str | None, ProxyTask]:
    """Read one named setting: dimensions by name, anything else an override of the configuration.

    Raises:
        ConfigError: The entry is no mapping, or a key is neither a dimension nor a dotted path.
    """
    if not isinstance(entry, Mapping):
        raise ConfigError(f"a proxy task must be a mapping such as {{name: small, width: 0.5}}, got {entry!r}")
    content = dict(entry)
    name = content.pop("name", None)
    setting = {key: content.pop(key) for key in AXES if key in content}
    overrides = {path: tuple(v) if isinstance(v, list) else v for path, v in flatten(content).items()}
    wrong = [path for path in overrides if "." not in path]
    if wrong:
        raise ConfigError(
            f"proxy task {name or ''!r} has no dimension {wrong[0]!r}: the dimensions are {', '.join(AXES)}; "
            f"anything else is an override by path, such as trainer.batch_size"
        )
    _, task = _resolved(setting)
    task = replace(task, overrides=overrides)
    return name or task._name(setting.get("compound") or 0.0), task


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Write a nested mapping as one level of dotted paths."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{path}."))
        else:
            flat[path] = value
    return flat


def numbered(tree: Any) -> Any:
    """Write lists in a nested mapping as mappings by place, from 0: their entries have paths then."""
    if isinstance(tree, list | tuple):
        tree = dict(enumerate(tree))
    return {key: numbered(value) for key, value in tree.items()} if isinstance(tree, Mapping) else tree


def override(tree: Mapping[str, Any], overrides: Mapping[str, Override]) -> dict[str, Any]:
    """Copy a configuration with values replaced by dotted path; any may become null.

    Raises:
        ConfigError: A path does not exist, or the new value is of another kind than the old one.
    """
    result = _copy(tree)
    for path, value in overrides.items():
        *parents, last = path.split(".")
        node: Any = result
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        is_open = node == {}  # further arguments, such as an optimizer's, have no names beforehand
        if not isinstance(node, dict) or (last not in node and not is_open):
            raise ConfigError(
                f"a proxy task overrides {path!r}, which the configuration does not have: it has "
                f"{', '.join(sorted(flatten(tree)))}"
            )
        old = node.get(last)
        if None not in (old, value) and not _same_kind(old, value):
            raise ConfigError(f"a proxy task overrides {path!r} with {value!r}: a value like {old!r} was needed")
        node[last] = value
    return result


def _copy(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in tree.items()}


def _same_kind(old: Any, new: Any) -> bool:
    if isinstance(old, bool) or isinstance(new, bool):
        return isinstance(old, bool) and isinstance(new, bool)
    if isinstance(old, int | float):
        return isinstance(new, int) or (isinstance(new, float) and isinstance(old, float))
    return isinstance(new, type(old))
