"""Identity of code and values: what a trial's key hashes of a configuration.

A node that names code by `_target_` may hold three more keys, which are not arguments of the code: `identity_name`
replaces the import path in the key, so that code can be moved; `version` is raised when its results change; and
`identity_exclude` lists arguments that decide no result, such as a number of workers.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from nasproxy.errors import ConfigError
from nasproxy.trials.overrides import flatten

IDENTITY_KEYS = ("identity_name", "version", "identity_exclude")
PACKAGE = "nasproxy."
"""Prefix of the names, and of the import paths, of this package's code."""


def list_arguments(node: Any) -> Any:
    """Copy a node without the keys of its identity, also in nested nodes: what its target takes as arguments."""
    if isinstance(node, Mapping):
        reserved = IDENTITY_KEYS if "_target_" in node else ()
        return {key: list_arguments(value) for key, value in node.items() if key not in reserved}
    return [list_arguments(value) for value in node] if isinstance(node, list | tuple) else node


def identify(node: Any) -> Any:
    """Copy a node with the identity of its code instead of the import path, and without excluded arguments.

    Raises:
        ConfigError: `identity_exclude` is no list of the node's arguments.
    """
    if not isinstance(node, Mapping):
        return [identify(value) for value in node] if isinstance(node, list | tuple) else node
    if "_target_" not in node:
        return {key: identify(value) for key, value in node.items()}
    excluded = _read_exclusions(node)
    return {
        "_target_": _name_code(node),
        **{
            key: identify(value)
            for key, value in node.items()
            if key not in ("_target_", "identity_name", "identity_exclude", *excluded)
        },
    }


def _read_exclusions(node: Mapping[str, Any]) -> Collection[Any]:
    excluded = node.get("identity_exclude") or ()
    if not isinstance(excluded, list | tuple) or not set(map(str, excluded)) <= set(node):
        raise ConfigError(
            f"identity_exclude must be a list of arguments of {node['_target_']}, got {excluded!r}: name some of "
            f"{', '.join(key for key in node if key != '_target_' and key not in IDENTITY_KEYS) or 'none'}"
        )
    return excluded


def _name_code(node: Mapping[str, Any]) -> Any:
    """Return the declared name of a node's code, or its import path.

    Names of this package are for its own code only: a configuration that replaces the target of a node of the package
    inherits the name, and is other code.
    """
    name, target = node.get("identity_name"), node["_target_"]
    is_ours = str(name).startswith(PACKAGE) and not str(target).startswith(PACKAGE)
    return target if name is None or is_ours else name


def list_excluded(node: Any, path: str = "") -> list[str]:
    """List the dotted paths of the arguments that nodes exclude from their identity.

    Raises:
        ConfigError: An `identity_exclude` is no list of its node's arguments.
    """
    if not isinstance(node, Mapping):
        return []
    own = [f"{path}{key}" for key in _read_exclusions(node)] if "_target_" in node else []
    return own + [each for key, value in node.items() for each in list_excluded(value, f"{path}{key}.")]


def flatten_identity(tree: Mapping[str, Any], exclude: Collection[str] = ()) -> dict[str, Any]:
    """Flatten the identity of a configuration to its values by dotted path.

    Values that are null are left out, so that a new argument with the default null changes no key.

    Args:
        tree: Nested configuration.
        exclude: Dotted paths of values, or of mappings of them, that are left out.
    """
    values = flatten(identify(tree))
    return {path: value for path, value in values.items() if value is not None and not is_excluded(path, exclude)}


def is_excluded(path: str, exclude: Collection[str]) -> bool:
    """Return whether a path, or a mapping that it leads through, is excluded."""
    return any(path == each or path.startswith(f"{each}.") for each in exclude)


def check_overrides_decide(name: str, paths: Iterable[str], excluded: Collection[str]) -> None:
    """Refuse a proxy task whose overrides decide no result: its trials would be those of another task.

    Args:
        name: Name of the proxy task.
        paths: Dotted paths of its overrides.
        excluded: Dotted paths that decide no result.

    Raises:
        ConfigError: The path of an override is excluded from the identity of trials.
    """
    path = next((path for path in paths if is_excluded(path.removeprefix("search_space."), excluded)), None)
    if path is not None:
        raise ConfigError(
            f"a proxy task's overrides must decide its result, got {path!r} of {name!r}, which identity.exclude or "
            f"identity_exclude of its node leaves out of the identity of trials: remove it there"
        )
