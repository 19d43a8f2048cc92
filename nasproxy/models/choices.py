"""An architecture's choices, as builders take them."""

from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

from nasproxy.errors import SpaceError
from nasproxy.trials.spec import Choice

T = TypeVar("T", bound=int | str)

ADVICE = "change the search space"


NAMES_SHOWN = 8
"""In an error, of choices that may be many."""


class Choices:
    """Hands an architecture's choices to a builder one by one, and knows which it did not ask for.

    Attributes:
        builder: Name of the builder, for errors.
    """

    def __init__(self, architecture: Mapping[str, Choice], builder: str) -> None:
        self.builder = builder
        self._architecture = architecture
        self._taken: list[str] = []

    def count(self, prefix: str) -> int:
        """How many parts there are of a name: for `blocks`, those that begin with `blocks.0`, `blocks.1` and so on."""
        parts = {name.split(".")[prefix.count(".") + 1] for name in self._architecture if name.startswith(f"{prefix}.")}
        return next(number for number in range(len(parts) + 1) if str(number) not in parts)

    def one_of(self, name: str, allowed: Sequence[T]) -> T:
        """The value of a choice that must be one of a few.

        Raises:
            SpaceError: The choice is missing, or its value is another.
        """
        given = self._take(name)
        for value in allowed:
            if value == given and not isinstance(given, bool):
                return value
        raise SpaceError(f"{name} must be one of {tuple(allowed)}, got {given!r}: {ADVICE}")

    def whole(self, name: str, *, least: int | None = None) -> int:
        """The value of a choice that must be a whole number.

        Raises:
            SpaceError: The choice is missing, or its value is no whole number or below `least`.
        """
        given = self._take(name)
        if isinstance(given, bool) or not isinstance(given, int) or (least is not None and given < least):
            needed = "a whole number" if least is None else f"a whole number from {least}"
            raise SpaceError(f"{name} must be {needed}, got {given!r}: {ADVICE}")
        return given

    def odd(self, name: str) -> int:
        """The side of a kernel, which must be odd to be centred.

        Raises:
            SpaceError: The choice is missing, or its value is no odd number above 0.
        """
        given = self._take(name)
        if isinstance(given, bool) or not isinstance(given, int) or given < 1 or given % 2 == 0:
            raise SpaceError(f"{name} must be an odd whole number, got {given!r}: {ADVICE}")
        return given

    def number(self, name: str, *, least: float, most: float) -> float:
        """The value of a choice that must be a number from `least` to `most`.

        Raises:
            SpaceError: The choice is missing, or its value is no number or out of range.
        """
        given = self._take(name)
        if isinstance(given, bool) or not isinstance(given, int | float) or not least <= given <= most:
            raise SpaceError(f"{name} must be a number from {least:g} to {most:g}, got {given!r}: {ADVICE}")
        return float(given)

    def finish(self) -> None:
        """Refuse what was not asked for: two architectures that differ in it would be one network.

        Raises:
            SpaceError: A choice was not asked for.
        """
        for name in self._architecture:
            if name not in self._taken:
                raise SpaceError(
                    f"{self.builder} has no choice {name!r} here, only {_listed(self._taken)}: remove it, or let it "
                    f"exist only `when` it has an effect"
                )

    def _take(self, name: str) -> Choice:
        if name not in self._architecture:
            raise SpaceError(
                f"{self.builder} needs the choice {name!r}, got {_listed(self._architecture)}: add it, with a single "
                f"value if it is not searched"
            )
        self._taken.append(name)
        return self._architecture[name]


def _listed(names: Collection[str]) -> str:
    shown = list(names)[:NAMES_SHOWN]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "") if shown else "none"
