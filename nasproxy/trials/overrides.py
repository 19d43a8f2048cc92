"""Overrides of a nested configuration by dotted path."""

from collections.abc import Mapping
from typing import Any

from nasproxy.errors import ConfigError

Override = bool | int | float | str | tuple[int, ...] | None


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a nested mapping to one level, keyed by dotted path; `prefix` is put before each path."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{path}."))
        else:
            flat[path] = value
    return flat


def number_lists(tree: Any) -> Any:
    """Replace lists in a nested mapping by mappings from 0-based index to entry, so that entries have dotted paths."""
    if isinstance(tree, list | tuple):
        tree = dict(enumerate(tree))
    return {key: number_lists(value) for key, value in tree.items()} if isinstance(tree, Mapping) else tree


def apply_overrides(tree: Mapping[str, Any], overrides: Mapping[str, Override]) -> dict[str, Any]:
    """Copy a configuration and replace values by dotted path.

    Args:
        tree: Nested configuration; stays unchanged.
        overrides: New values by dotted path; None is allowed for every path.

    Returns:
        The changed copy.

    Raises:
        ConfigError: A path does not exist, or the type of a new value differs from the old one's.
    """
    result = _copy(tree)
    for path, value in overrides.items():
        *parents, last = path.split(".")
        node: Any = result
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        is_open = node == {}  # an empty mapping, such as an optimizer's options, takes any key
        if not isinstance(node, dict) or (last not in node and not is_open):
            raise ConfigError(
                f"a proxy task overrides {path!r}, which the configuration does not have: use one of "
                f"{', '.join(sorted(flatten(tree)))}"
            )
        old = node.get(last)
        if None not in (old, value) and not _is_same_type(old, value):
            raise ConfigError(f"a proxy task's override of {path!r} must be a value like {old!r}, got {value!r}")
        node[last] = value
    return result


def _copy(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in tree.items()}


def _is_same_type(old: Any, new: Any) -> bool:
    if isinstance(old, bool) or isinstance(new, bool):
        return isinstance(old, bool) and isinstance(new, bool)
    if isinstance(old, int | float):
        return isinstance(new, int) or (isinstance(new, float) and isinstance(old, float))
    return isinstance(new, type(old))
