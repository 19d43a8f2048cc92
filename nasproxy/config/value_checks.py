"""Check keys, numbers and text of a composed configuration where Hydra and OmegaConf do not."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

from omegaconf import DictConfig, OmegaConf

from nasproxy.config.renamed import explain_renamed_key
from nasproxy.config.unknown_names import explain_unknown_key
from nasproxy.errors import ConfigError

if TYPE_CHECKING:
    Text = str
else:
    Text = str | int | float | bool
    """Text that is composed as it was read: OmegaConf would make "20241005" of 2024_10_05 and forget that it did."""

LARGEST_INTEGER = 2**63 - 1


def check_keys(config: DictConfig) -> None:
    """Refuse keys that are not in the schema (added with `+`) and missing keys of the schema (removed with `~`).

    Raises:
        ConfigError: A key was added, removed or renamed.
    """
    _check_section(config, "", OmegaConf.get_type(config))


def _check_section(section: DictConfig, prefix: str, root: Any) -> None:
    schema = OmegaConf.get_type(section)
    known = [field.name for field in fields(schema)] if is_dataclass(schema) else None
    for key in map(str, section):
        renamed = explain_renamed_key(f"{prefix}{key}")
        if renamed is not None:
            raise ConfigError(renamed)
        if known is not None and key not in known:
            raise ConfigError(explain_unknown_key(f"{prefix}{key}", known, root))
    for key in known or ():
        if key not in section.keys():  # `in section` is false if a value is missing
            raise ConfigError(f"{prefix}{key} cannot be removed, got ~{prefix}{key}: give it a value instead")
    for key, node in _list_nodes(section):
        if isinstance(node, DictConfig):
            _check_section(node, f"{prefix}{key}.", root)


def _list_nodes(section: DictConfig) -> Iterator[tuple[str, Any]]:
    """List the values that are neither missing nor interpolations."""
    for key in section:  # a key may be a number: the members of a repeated group of choices
        if not OmegaConf.is_missing(section, key) and not OmegaConf.is_interpolation(section, key):  # type: ignore[arg-type]
            yield str(key), section[key]


def check_values(value: Any, path: str = "", *, exempt: tuple[str, ...] = ()) -> None:
    """Refuse numbers that are not finite or too large, and numbers where text is needed.

    Args:
        value: A dataclass, mapping, list or plain value.
        path: Its dotted path, for the message.
        exempt: Paths that are checked elsewhere.

    Raises:
        ConfigError: A value is invalid.
    """
    if path in exempt:
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{path} must be a finite number, got {value}: for a text, quote it: '\"{value}\"'")
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        raise ConfigError(f"{path} must be at most {LARGEST_INTEGER} in size, got a larger integer: give a smaller one")
    hints = get_type_hints(type(value)) if is_dataclass(value) else {}
    for key, below in _list_values(value):
        below_path = f"{path}.{key}" if path else str(key)
        if hints.get(key) in (Text, Text | None):
            _check_text(below_path, below)
        check_values(below, below_path, exempt=exempt)


def _list_values(value: Any) -> Iterator[tuple[Any, Any]]:
    if is_dataclass(value):
        yield from vars(value).items()
    elif isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from enumerate(value)


def _check_text(path: str, value: Any) -> None:
    if value == "":
        raise ConfigError(f"{path} must be text, got an empty one: give it a value with {path}=VALUE")
    if value is not None and not isinstance(value, str):
        kind = "truth value" if isinstance(value, bool) else "number"
        raise ConfigError(f"{path} must be text, got the {kind} {value}: quote it, as in '{path}=\"VALUE\"'")
