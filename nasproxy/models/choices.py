"""Validated access to an architecture's choices, for builders."""

from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

from nasproxy.errors import SpaceError
from nasproxy.trials.spec import Choice

T = TypeVar("T", bound=int | str)

ADVICE = "change the search space"


NAMES_SHOWN = 8
"""Most names of choices that an error message lists."""


class Choices:
    """Reads an architecture's choices one by one and detects choices that the builder does not use.

    Args:
        architecture: Choices by name.
        builder: Name of the builder, for error messages.
    """

    def __init__(self, architecture: Mapping[str, Choice], builder: str) -> None:
        self.builder = builder
        self._architecture = architecture
        self._taken: list[str] = []

    def count(self, prefix: str) -> int:
        """Count the parts of a group: for `blocks`, the consecutive prefixes `blocks.0`, `blocks.1` and so on."""
        parts = {name.split(".")[prefix.count(".") + 1] for name in self._architecture if name.startswith(f"{prefix}.")}
        return next(number for number in range(len(parts) + 1) if str(number) not in parts)

    def one_of(self, name: str, allowed: Sequence[T]) -> T:
        """Read a choice whose value must be one of `allowed`.

        Raises:
            SpaceError: The choice is missing, or its value is not allowed.
        """
        given = self._take(name)
        for value in allowed:
            if value == given and not isinstance(given, bool):
                return value
        raise SpaceError(f"{name} must be one of {tuple(allowed)}, got {given!r}: {ADVICE}")

    def whole(self, name: str, *, least: int | None = None) -> int:
        """Read a choice whose value must be an integer of at least `least`.

        Raises:
            SpaceError: The choice is missing, or its value is not an integer or is below `least`.
        """
        given = self._take(name)
        if isinstance(given, bool) or not isinstance(given, int) or (least is not None and given < least):
            needed = "a whole number" if least is None else f"a whole number of at least {least}"
            raise SpaceError(f"{name} must be {needed}, got {given!r}: {ADVICE}")
        return given

    def odd(self, name: str) -> int:
        """Read a choice whose value must be an odd positive integer, such as the side of a centred kernel.

        Raises:
            SpaceError: The choice is missing, or its value is not an odd positive integer.
        """
        given = self._take(name)
        if isinstance(given, bool) or not isinstance(given, int) or given < 1 or given % 2 == 0:
            raise SpaceError(f"{name} must be an odd whole number above 0, got {given!r}: {ADVICE}")
        return given

    def number(self, name: str, *, least: float, most: float) -> float:
        """Read a choice whose value must be a number in [least, most].

        Raises:
            SpaceError: The choice is missing, or its value is not a number or is out of range.
        """
        given = self._take(name)
        if isinstance(given, bool) or not isinstance(given, int | float) or not least <= given <= most:
            raise SpaceError(f"{name} must be a number from {least:g} to {most:g}, got {given!r}: {ADVICE}")
        return float(given)

    def finish(self) -> None:
        """Reject choices that the builder did not read: architectures that differ only in them are one network.

        Raises:
            SpaceError: A choice was not read.
        """
        for name in self._architecture:
            if name not in self._taken:
                raise SpaceError(
                    f"{self.builder} takes the choices {_join_names(self._taken)}, got {name!r} too: remove it, or add "
                    f"a `when` condition under which it has an effect"
                )

    def _take(self, name: str) -> Choice:
        if name not in self._architecture:
            raise SpaceError(
                f"{self.builder} needs the choice {name!r}, got {_join_names(self._architecture)}: add it to the "
                f"search space, with a single value if it is not searched"
            )
        self._taken.append(name)
        return self._architecture[name]


def _join_names(names: Collection[str]) -> str:
    shown = list(names)[:NAMES_SHOWN]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "") if shown else "none"
