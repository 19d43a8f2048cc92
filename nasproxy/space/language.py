"""Parser for the language of search spaces, from nested mappings of YAML to a tree of choices.

A choice is a list of values (one of them), `{oneof: [...]}` or `{manyof: [...], k: 2, distinct: true, sorted: false}`.
A mapping of names is a group; `{repeat: 7, each: ..., but: {0: ...}}` is a group of equal members 0 to 6, except for
what `but` replaces. Choices and groups may have `when`: paths of earlier choices, with the values that they must have.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from nasproxy.errors import SpaceError
from nasproxy.space.choice import ManyOf, OneOf, Options, Picked, identify

RESERVED = ("oneof", "manyof", "k", "distinct", "sorted", "when", "repeat", "each", "but")
"""Keywords of the language; everything else is a name."""
NAME = re.compile(r"[A-Za-z0-9_-]+")
When: TypeAlias = Mapping[str, Picked]
"""Conditions: values by path, as written."""


@dataclass(frozen=True)
class Leaf:
    """A choice."""

    options: Options
    when: When


@dataclass(frozen=True)
class Group:
    """A group of choices."""

    members: Mapping[str, "Node"]
    when: When


@dataclass(frozen=True)
class Repeat(Group):
    """A group of equal members, except for replacements.

    Attributes:
        each: A member without replacements.
    """

    each: "Node"


Node: TypeAlias = Leaf | Group


def read_space(space: str, tree: Any) -> Group:
    """Read the choices of a space.

    Args:
        space: Name of the space, for error messages.
        tree: Nested mappings of YAML; a dotted key denotes nested groups.

    Raises:
        SpaceError: The choices do not conform to the language.
    """
    if not isinstance(tree, Mapping) or not tree:
        raise SpaceError(f"search space {space!r} needs choices, got {tree or 'none'}: list some under `choices`")
    node = _Reader(space).read_node("", tree)
    if not isinstance(node, Group) or node.when:
        raise SpaceError(f"search space {space!r} needs choices with names, got {tree!r}: give each a name")
    return node


def join_path(path: str, name: str) -> str:
    """Return the path of a name in a group."""
    return f"{path}.{name}" if path else name


class _Reader:
    """Parser of the nodes of one space."""

    def __init__(self, space: str) -> None:
        self._space = space

    def read_node(self, path: str, raw: Any) -> Node:
        if not isinstance(raw, Mapping):
            return Leaf(OneOf(self._read_distinct_values(path, raw)), {})
        entries = self._read_entries(path, raw)
        if "oneof" in entries or "manyof" in entries:
            return self._read_leaf(path, entries)
        if {"repeat", "each", "but"} & set(entries):
            return self._read_repeat(path, entries)
        when = self._read_when(path, entries)
        reserved = [name for name in entries if name in RESERVED and name != "when"]
        if reserved:
            word = f"{reserved[0]!r}, a word of the language"
            raise self._make_error(path, f"needs other names than {word}: rename the choice", "group")
        self._refuse_misspelt(path, entries)
        members = {
            name: self.read_node(join_path(path, name), entry) for name, entry in entries.items() if name != "when"
        }
        if not members:
            raise self._make_error(path, "needs choices, got none: list some, or remove it", "group")
        return Group(members, when)

    def _read_leaf(self, path: str, entries: Mapping[str, Any]) -> Leaf:
        when = self._read_when(path, entries)
        if "oneof" in entries:
            self._refuse_others(path, entries, ("oneof", "when"), "oneof")
            return Leaf(OneOf(self._read_distinct_values(path, entries["oneof"])), when)
        self._refuse_others(path, entries, ("manyof", "k", "distinct", "sorted", "when"), "manyof")
        is_distinct = self._read_flag(path, entries, "distinct", default=True)
        is_sorted = self._read_flag(path, entries, "sorted", default=False)
        values = self._read_values(path, entries["manyof"])
        if not is_distinct or is_sorted:
            self._read_distinct_values(path, values)
        k = entries.get("k")
        most = len(values) if is_distinct else math.inf
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= most:
            limit = f"from 1 to {most}, for each entry is chosen once at most" if is_distinct else "of at least 1"
            raise self._make_error(path, f"needs a whole k {limit}, got {k!r}: say how many to choose")
        return Leaf(ManyOf(values, k, is_distinct, is_sorted), when)

    def _read_repeat(self, path: str, entries: Mapping[str, Any]) -> Repeat:
        self._refuse_others(path, entries, ("repeat", "each", "but", "when"), "repeat")
        count, each = entries.get("repeat"), entries.get("each")
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise self._make_error(
                path, f"needs a whole `repeat` of at least 1, got {count!r}: say how many members", "group"
            )
        if each is None:
            raise self._make_error(path, "needs `each` beside `repeat`: say what each member is", "group")
        but = {} if entries.get("but") is None else entries["but"]
        if not isinstance(but, Mapping):
            raise self._make_error(path, f"needs `but` to map members to choices, got {but!r}", "group")
        changes = self._read_entries(join_path(path, "but"), but)
        names = [str(member) for member in range(count)]
        strange = [member for member in changes if member not in names]
        if strange:
            raise self._make_error(
                path, f"has members 0 to {count - 1}, got {strange[0]!r} in `but`: name one of these", "group"
            )
        members = {}
        for name in names:
            place = join_path(path, name)
            members[name] = self.read_node(
                place, self._apply_change(place, each, changes[name]) if name in changes else each
            )
        return Repeat(members, self._read_when(path, entries), self.read_node(join_path(path, "each"), each))

    def _apply_change(self, path: str, each: Any, change: Any) -> Any:
        """Merge groups by name; replace anything else."""
        if not self._is_group(path, each) or not self._is_group(path, change):
            return change
        old, new = self._read_entries(path, each), self._read_entries(path, change)
        strange = [name for name in new if name not in old and name != "when"]
        if strange:
            raise self._make_error(
                join_path(path, strange[0]), f"must be one of those that `each` has ({', '.join(old)}): add it there"
            )
        changed = {
            name: self._apply_change(join_path(path, name), old[name], entry)
            if name in old and name != "when"
            else entry
            for name, entry in new.items()
        }
        return {**old, **changed}

    def _is_group(self, path: str, raw: Any) -> bool:
        return isinstance(raw, Mapping) and not {"oneof", "manyof", "repeat"} & set(self._read_entries(path, raw))

    def _read_entries(self, path: str, raw: Mapping[Any, Any]) -> dict[str, Any]:
        """Return one level of a mapping by name, with dotted keys split and those of one group merged."""
        parts: dict[str, list[Any]] = {}
        for key, value in raw.items():
            name, dot, rest = self._read_name(path, key).partition(".")
            if not NAME.fullmatch(name) or (dot and not rest):
                raise self._make_name_error(path, key)
            parts.setdefault(name, []).append({rest: value} if dot else value)
        return {
            name: part[0] if len(part) == 1 else self._join_entries(join_path(path, name), part)
            for name, part in parts.items()
        }

    def _join_entries(self, path: str, parts: Sequence[Any]) -> dict[str, Any]:
        joined: dict[str, Any] = {}
        for part in parts:
            for key, value in part.items() if isinstance(part, Mapping) else ((None, part),):
                text = None if key is None else self._read_name(path, key)
                if text is None or text in joined:
                    twice = path if text is None else join_path(path, text)
                    raise self._make_error(twice, "is declared twice: remove one of the two")
                joined[text] = value
        return joined

    def _read_name(self, path: str, key: Any) -> str:
        if isinstance(key, bool) or not isinstance(key, int | str):
            raise self._make_name_error(path, key)
        return str(key)

    def _read_when(self, path: str, entries: Mapping[str, Any]) -> When:
        if "when" not in entries:
            return {}
        raw = entries["when"]
        if not isinstance(raw, Mapping) or not raw:
            raise self._make_error(path, f"needs `when` to map choices to values, as in {{op: conv}}, got {raw!r}")
        conditions = list(self._read_conditions("", raw))
        wanted = {name: values if isinstance(values, list | tuple) else [values] for name, values in conditions}
        if len(wanted) < len(conditions):
            raise self._make_error(path, "has a choice twice in `when`: write all values it may have as one list")
        return {
            name: self._read_distinct_values(join_path(path, f"when.{name}"), values) for name, values in wanted.items()
        }

    def _read_conditions(self, path: str, raw: Any) -> Iterator[tuple[str, Any]]:
        if not isinstance(raw, Mapping):
            yield path, raw
            return
        for key, value in raw.items():
            yield from self._read_conditions(join_path(path, self._read_name(path, key)), value)

    def _read_distinct_values(self, path: str, raw: Any) -> Picked:
        values = self._read_values(path, raw)
        seen = set()
        for value in values:
            if identify(value) in seen:
                raise self._make_error(
                    path,
                    f"needs different values, got {value!r} twice: remove one, since it would be drawn twice as often",
                )
            seen.add(identify(value))
        return values

    def _read_values(self, path: str, raw: Any) -> Picked:
        if isinstance(raw, str) or not isinstance(raw, Sequence) or not raw:
            raise self._make_error(path, f"needs a list of values, got {raw!r}: list some")
        for value in raw:
            if isinstance(value, float) and not math.isfinite(value):
                raise self._make_error(
                    path, f'takes finite numbers, got {value}: quote it for the text, as in [none, "{value}"]'
                )
            if not isinstance(value, bool | int | float | str):
                raise self._make_error(
                    path,
                    f"takes true, false, numbers and text, got {value!r}: name the alternatives, and let the model's "
                    f"builder translate",
                )
        return tuple(raw)

    def _read_flag(self, path: str, entries: Mapping[str, Any], name: str, *, default: bool) -> bool:
        value = entries.get(name, default)
        if not isinstance(value, bool):
            raise self._make_error(path, f"needs `{name}` to be true or false, got {value!r}")
        return value

    def _refuse_others(self, path: str, entries: Mapping[str, Any], allowed: Sequence[str], beside: str) -> None:
        strange = [name for name in entries if name not in allowed]
        if strange:
            others = ", ".join(name for name in allowed if name != beside)
            raise self._make_error(
                path, f"has {strange[0]!r} beside `{beside}`, where only {others} may stand: remove it"
            )

    def _refuse_misspelt(self, path: str, names: Iterable[str]) -> None:
        """Reject misspelt keywords, which would otherwise be read as a group of one choice."""
        for name in names:
            word = re.sub("[_-]", "", name).lower()
            if word in ("oneof", "manyof"):
                raise self._make_error(path, f"needs `{word}` written so, got {name!r}: rename it", "group")

    def _make_name_error(self, path: str, key: Any) -> SpaceError:
        where = f"group {path!r} of " if path else ""
        return SpaceError(
            f"{where}search space {self._space!r} needs names of letters, digits, '_' and '-' (with dots between those "
            f"of groups), got {key!r}: rename it"
        )

    def _make_error(self, path: str, why: str, what: str = "choice") -> SpaceError:
        return SpaceError(f"{what} {path!r} of {self._space!r} {why}")
