"""Import the targets of Hydra's `_target_` nodes, check their arguments, and build them."""

import inspect
import pydoc
import typing
from collections.abc import Callable, Mapping
from typing import Any

from hydra.utils import instantiate
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from nasproxy.errors import ConfigError, NasproxyError, describe_error, forbid_exit
from nasproxy.spelling import find_nearest, list_names


def list_targets(node: Any) -> list[str]:
    """List every `_target_` in a nested configuration."""
    if isinstance(node, Mapping):
        own = [str(node["_target_"])] if node.get("_target_") else []
        return own + [target for value in node.values() for target in list_targets(value)]
    if isinstance(node, list | tuple):
        return [target for value in node for target in list_targets(value)]
    return []


def build_target(name: str, node: Mapping[str, Any], **arguments: Any) -> Any:
    """Build the object that a node configures.

    Args:
        name: Path of the node in the configuration, for the error.
        node: Mapping with `_target_` and its arguments, perhaps nested.
        **arguments: Arguments that the configuration does not contain.

    Raises:
        ConfigError: The target cannot be imported, or does not take these arguments.
        NasproxyError: Any NasproxyError that the target raises.
    """
    check_arguments(name, node, given=arguments)
    try:
        with forbid_exit(f"{name} ({node['_target_']})"):
            # Called here and not by Hydra, which would turn an argument that is a dataclass into a configuration.
            return instantiate(dict(node), _partial_=True, _convert_="all")(**arguments)
    except NasproxyError:
        raise
    except Exception as error:  # the target may be user code and raise anything
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, NasproxyError):
            cause = cause.__cause__
        if isinstance(cause, NasproxyError):
            raise cause from None
        raise ConfigError(f"{name} cannot be built from {node.get('_target_')}: {describe_error(cause)}") from error


def load_target(name: str, node: Mapping[str, Any]) -> Callable[..., Any]:
    """Import the function or class that a node names.

    Raises:
        ConfigError: The node has no `_target_`, or it cannot be imported.
    """
    target = node.get("_target_") if isinstance(node, Mapping) else node
    if not isinstance(target, str) or not isinstance(node, Mapping):
        raise ConfigError(f"{name} needs a _target_, the dotted path of a function or class, got {target!r}")
    try:
        found: Callable[..., Any] | None = pydoc.locate(target)  # type: ignore[assignment]
    except pydoc.ErrorDuringImport as error:
        cause = error.value or error
        if isinstance(cause, KeyboardInterrupt):
            raise cause from None  # pydoc wraps every exception, also Ctrl-C
        raise ConfigError(f"{name}._target_ must be importable, got {target!r}: {describe_error(cause)}") from error
    if not callable(found):
        raise ConfigError(
            f"{name}._target_ must name a function or class, got {target!r}: there is none of that name; is its "
            f"folder on PYTHONPATH?"
        )
    return found


def check_arguments(name: str, node: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Check a node's arguments against the target's signature and type hints.

    Raises:
        ConfigError: An argument is unknown, missing, or of another type than the target says.
    """
    target = load_target(name, node)
    try:
        signature = inspect.signature(target)
        hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (TypeError, ValueError, NameError):
        return  # a builtin, or unreadable hints: the call itself reports errors
    parameters = signature.parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    arguments = {key: value for key, value in node.items() if not key.startswith("_")}
    open_parameters = sorted(set(parameters) - set(given))
    for key, value in arguments.items():
        if key in given or (key not in parameters and not takes_any):
            nearest = find_nearest(key, open_parameters)
            takes = f"takes {list_names(open_parameters) or 'nothing'}" if nearest is None else f"has {nearest!r}"
            raise ConfigError(f"{name} has no {key!r}: {node['_target_']} {takes}")
        if key in hints and not (isinstance(value, Mapping) and "_target_" in value):
            _check_type(f"{name}.{key}", value, hints[key])
    for key, parameter in parameters.items():
        needed = parameter.default is parameter.empty and parameter.kind in (
            parameter.KEYWORD_ONLY,
            parameter.POSITIONAL_OR_KEYWORD,
        )
        if needed and key not in arguments and key not in given:
            raise ConfigError(f"{name} needs {key!r}, which {node['_target_']} takes: set {name}.{key}")


def _check_type(path: str, value: Any, hint: Any) -> None:
    if list_targets(value) or value == "???":
        return
    is_plain = not isinstance(value, Mapping | list)  # only a container may become another one, such as a tuple
    try:
        TypeAdapter(hint, config=ConfigDict(strict=is_plain)).validate_python(value)
    except ValidationError as error:
        is_literal = typing.get_origin(hint) is typing.Literal
        words = " | ".join(map(str, typing.get_args(hint))) if is_literal else str(hint).replace("typing.", "")
        wanted = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else words
        is_number = hint in (str, str | None) and isinstance(value, bool | int | float)
        advice = f"quote it, as in '{path}=\"VALUE\"'" if is_number else error.errors()[0]["msg"]
        raise ConfigError(f"{path} must be {wanted}, got {value!r}: {advice}") from None
    except PydanticSchemaGenerationError:
        return  # a user's own type, which only the target can check
