"""The grid of proxy tasks that a `proxy` configuration spans, and the name of each."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nasproxy.errors import ConfigError
from nasproxy.trials.overrides import flatten
from nasproxy.trials.proxy_task import COMPOUND_BASES, DIMENSIONS, NAME_PATTERN, ProxyTask

FOLLOW = "follow"
"""Value of a strength that is computed from the proxy task's scale, see `follow_strength`."""
STRENGTHS = ("augmentation", "regularisation")


DIGITS = 4
"""Decimals to which computed multipliers and strengths are rounded."""
AXES = ("data_fraction", "compound", *(name for name in DIMENSIONS if name != "data_fraction"))
"""Keys of a `proxy` configuration that span the grid, in its order."""


def name_tasks(tasks: Sequence[tuple[str | None, ProxyTask]]) -> dict[str, ProxyTask]:
    """Name the proxy tasks and check that names and settings are unique.

    Args:
        tasks: Name and task, in order; None as a name takes the task's default name.

    Returns:
        Proxy tasks by name, in the same order.

    Raises:
        ConfigError: There are no tasks, two share a name or a setting, or a name is not valid as a file name.
    """
    result: dict[str, ProxyTask] = {}
    names: dict[object, str] = {}
    for given, task in tasks:
        name = given or task.default_name
        if not NAME_PATTERN.fullmatch(name):
            raise ConfigError(
                f"a proxy task's name must be 1 to 64 letters, digits, '.', '_' or '-', got {name!r}: rename it"
            )
        same = names.setdefault(_make_setting_key(task), name)
        if same != name:
            raise ConfigError(
                f"proxy tasks must differ in more than their names, got {same!r} and {name!r} with equal settings: "
                f"remove one"
            )
        if name in result:
            raise ConfigError(
                f"names of proxy tasks must be unique, got {name!r} twice: rename one of them, or remove the "
                f"repeated value from the grid"
            )
        result[name] = task
    if not result:
        raise ConfigError(
            "proxy needs at least one proxy task, got an empty grid: give every axis a value, such as "
            "proxy.data_fraction=[0.25,0.5]"
        )
    return result


def _make_setting_key(task: ProxyTask) -> tuple[object, ...]:
    """Return a hashable key that is equal for tasks with equal settings."""
    return (*(getattr(task.plain, name) for name in DIMENSIONS), *sorted(task.overrides.items()))


def span_grid(settings: Mapping[str, Any]) -> dict[str, ProxyTask]:
    """Span the proxy tasks of a `proxy` configuration.

    Args:
        settings: The dimensions of `ProxyTask` and `compound`, each one value or a list (an axis of the grid; the
            last one varies fastest), or `tasks`: a list of mappings, each with `name`, dimensions and dotted
            overrides. Axes and `tasks` exclude each other. A point with a `follow` strength is left out if the
            computed strength makes it equal to another point.

    Returns:
        Proxy tasks by name, in the order of the grid.

    Raises:
        ConfigError: A value, name or key is invalid, or the grid is empty.
    """
    listed = settings.get("tasks")
    axes = {name: settings[name] for name in AXES if settings.get(name) is not None}
    unknown = sorted(set(settings) - set(AXES) - {"tasks", "generator"})
    if unknown:
        raise ConfigError(f"proxy has no {unknown[0]!r}: its dimensions are {', '.join(AXES)}")
    if listed is not None:
        if axes:
            raise ConfigError(
                f"proxy takes axes or a list of tasks, not both, got {', '.join(axes)} and tasks: set the "
                f"dimension inside each task"
            )
        if isinstance(listed, Mapping | str) or not isinstance(listed, Sequence):
            raise ConfigError(f"proxy.tasks must be a list of settings, got {listed!r}")
        return name_tasks([read_task(entry) for entry in listed])
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
    return name_tasks(_drop_equal_follow_points([(point, *_resolve_setting(point)) for point in points]))


def _drop_equal_follow_points(
    points: Sequence[tuple[Mapping[str, Any], str, ProxyTask]],
) -> list[tuple[str | None, ProxyTask]]:
    """Drop `follow` points that equal another point; explicit duplicates stay, so that they are refused."""
    kept = {_make_setting_key(task) for point, _, task in points if FOLLOW not in point.values()}
    written = [point for point, _, _ in points]
    tasks: list[tuple[str | None, ProxyTask]] = []
    for point, name, task in points:
        is_duplicate = FOLLOW in point.values() and _make_setting_key(task) in kept and written.count(point) == 1
        if not is_duplicate:
            kept.add(_make_setting_key(task))
            tasks.append((name, task))
    return tasks


def _resolve_setting(setting: Mapping[str, Any]) -> tuple[str, ProxyTask]:
    """Compute a task's name and numbers: compound scaling first, then strengths that follow the scale."""
    values = dict(setting)
    phi = values.pop("compound", None)
    if phi is not None:
        scaled = scale_compound(phi)
        conflicting = [name for name in COMPOUND_BASES if values.get(name) is not None]
        if conflicting:
            raise ConfigError(
                f"proxy.compound sets width, depth and image_size together, got {conflicting[0]} as well: remove one "
                f"of them; proxy=full proxy.compound={phi:g} replaces the default grid"
            )
        values.update(scaled)
    following = [name for name in STRENGTHS if values.get(name) == FOLLOW]
    scale = ProxyTask(**{name: value for name, value in values.items() if name not in following})
    strength = follow_strength(scale.width, scale.depth, scale.image_size)
    task = ProxyTask(**{**values, **dict.fromkeys(following, strength)})
    return task.name_with_compound(phi or 0.0), task


def scale_compound(phi: Any) -> dict[str, float]:
    """Compute width, depth and image size by EfficientNet's compound scaling.

    Args:
        phi: Compound coefficient, at most 0; each -1 about halves the computation of a step.

    Returns:
        The multipliers of `width`, `depth` and `image_size`: 1.1, 1.2 and 1.15 to the power of phi, rounded to
        4 decimals.

    Raises:
        ConfigError: Phi is not a finite number, or above 0.

    Source: Tan and Le, EfficientNet (2019), equation 3 and section 4.

    >>> scale_compound(-2)
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


def follow_strength(width: float, depth: float, image_size: float) -> float:
    """Compute the strength of augmentation or regularisation for a smaller model or image.

    The computation of a step is proportional to `width**2 * depth * image_size**2`; each halving lowers the strength
    by a quarter of the trainer's own.

    Args:
        width: Multiplier of the channels.
        depth: Multiplier of the repeats of a block.
        image_size: Multiplier of the image's side.

    Returns:
        A share of the trainer's own strength, in [0, 1], rounded to 4 decimals.

    Source: EfficientNet (Tan and Le, 2019) raises dropout linearly from 0.2 for B0 to 0.5 for B7, which has 95 times
    the FLOPs: by 0.23 of B0's per doubling. EfficientNetV2 (Tan and Le, 2021, table 6) trains its S at 128 px with
    RandAugment 5 and dropout 0.1, at 300 px with 15 and 0.3; this rule gives 5.8 and 0.12.

    >>> follow_strength(1.0, 1.0, 128 / 300), follow_strength(0.5, 1.0, 1.0)
    (0.3856, 0.5)
    """
    doublings = math.log2(width**2 * depth * image_size**2)
    return round(min(1.0, max(0.0, 1.0 + doublings / 4)), DIGITS)


def read_task(entry: Any) -> tuple[str | None, ProxyTask]:
    """Read one entry of `proxy.tasks`: keys are dimensions, or overrides of the configuration by dotted path.

    Args:
        entry: Mapping with `name` (optional), dimensions and overrides; nested mappings are flattened to paths.

    Returns:
        Name and task.

    Raises:
        ConfigError: The entry is not a mapping, or a key is neither a dimension nor a dotted path.
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
    _, task = _resolve_setting(setting)
    task = replace(task, overrides=overrides)
    return name or task.name_with_compound(setting.get("compound") or 0.0), task
