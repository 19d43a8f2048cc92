"""Explain that a key or choice does not exist, and suggest the name that was probably meant."""

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from nasproxy.config.renamed import RENAMED_CHOICES, explain_renamed_key
from nasproxy.spelling import find_nearest, list_names


def explain_unknown_key(path: str, known: Sequence[str], schema: type, *, is_open: bool = False) -> str:
    """Say that a key does not exist, and which one was probably meant.

    Args:
        path: The key's dotted path.
        known: Keys of the section that it should be in.
        schema: Dataclass of the whole configuration, to find keys that were written without their section.
        is_open: Whether further keys may be added to the section.
    """
    renamed = explain_renamed_key(path)
    if renamed is not None:
        return renamed
    section, _, key = path.rpartition(".")
    nearest = find_nearest(key, known)
    if nearest is not None:
        return f"the configuration has no {path}: did you mean {f'{section}.{nearest}' if section else nearest}?"
    elsewhere = next((other for other in list_paths(schema) if other.rpartition(".")[2] == key), None)
    if elsewhere is not None and not section:
        return f"the configuration has no {path}: did you mean {elsewhere}?"
    added = f", and +{path}=VALUE adds it" if is_open else ""
    return f"the configuration has no {path}: {section or 'it'} has {list_names(known) or 'no keys'}{added}"


def explain_unknown_choice(group: str, name: str, options: Sequence[str]) -> str:
    """Say that a group has no such choice, and which one was probably meant.

    Args:
        group: Folder of the choice, such as `proxy`.
        name: Name of the choice.
        options: Choices that the group has.
    """
    instead = RENAMED_CHOICES.get(f"{group}/{name}")
    if instead is not None:
        return f"{group} has no choice {name!r} any more: take {instead}"
    if not (group and options):
        return f"there is no file {group}/{name}.yaml on the search path: --help lists the groups and their choices"
    parts = split_into(name, options)
    if parts is not None:
        return f"{group} has no choice {name!r}: take its parts together, '{group}=[{','.join(parts)}]'"
    nearest = find_nearest(name, options)
    advice = f"choose among {list_names(options)}" if nearest is None else f"did you mean {group}={nearest}?"
    return f"{group} has no choice {name!r}: {advice}"


def split_into(name: str, options: Sequence[str]) -> list[str] | None:
    """Split a name at underscores into parts that are options; None if that is impossible.

    >>> split_into("data50_image75_crop", ["data50", "image75", "image75_crop"])
    ['data50', 'image75_crop']
    """
    for option in options:
        rest = split_into(name.removeprefix(f"{option}_"), options) if name.startswith(f"{option}_") else None
        if name == option or rest is not None:
            return [option, *(rest or ())]
    return None


def list_paths(schema: type, prefix: str = "") -> Iterator[str]:
    """List the dotted paths of a nested dataclass's fields."""
    hints: dict[str, Any] = get_type_hints(schema)
    for field in fields(schema):
        yield f"{prefix}{field.name}"
        if is_dataclass(hints[field.name]):
            yield from list_paths(hints[field.name], f"{prefix}{field.name}.")
