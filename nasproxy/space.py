"""Search spaces: the choices, how many architectures they span, and architectures drawn from them."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasproxy.errors import SpaceError
from nasproxy.trial import Architecture, Choice, canonical


@dataclass(frozen=True)
class SearchSpace:
    """A product of choices.

    Attributes:
        name: What the space is called.
        choices: Values by choice, in order; an architecture takes one of each.
        baseline: The user's own architecture, with which the others are compared, or None.

    Raises:
        SpaceError: There is no choice, a list of values is empty, repeats a value or holds something else
            than true, false, numbers and text, the space has a single point, or the baseline is not in it.
    """

    name: str
    choices: Mapping[str, Sequence[Choice]]
    baseline: Architecture | None = None

    def __post_init__(self) -> None:
        if not self.choices:
            raise SpaceError(f"search space {self.name!r} needs choices, got none: list some under `choices`")
        for choice, values in self.choices.items():
            _check_values(self.name, choice, values)
        frozen = {choice: tuple(values) for choice, values in self.choices.items()}
        object.__setattr__(self, "choices", frozen)
        if self.size < 2:
            raise SpaceError(
                f"search space {self.name!r} needs at least 2 architectures to rank, got a single one: give "
                f"a choice a second value"
            )
        if self.baseline is not None:
            object.__setattr__(self, "baseline", self.canonical(self.baseline))

    @property
    def size(self) -> int:
        """How many architectures there are."""
        return math.prod(len(values) for values in self.choices.values())

    def sample(self, n: int, seed: int) -> list[Architecture]:
        """Draw architectures uniformly, none twice.

        The first k of n are what `sample(k, seed)` gives, so that a sample can be added to.

        Args:
            n: How many, at least 0.
            seed: Which draw.

        Raises:
            SpaceError: The space has fewer, or `n` is negative.
        """
        if not 0 <= n <= self.size:
            raise SpaceError(
                f"search space {self.name!r} has {self.size} different architectures, got a request "
                f"for {n} of them: ask for fewer, or give its choices more values"
            )
        return [self.architecture(index) for index in _distinct(n, self.size, seed)]

    def architecture(self, index: int) -> Architecture:
        """The architecture at a place from 0 to `size` - 1; the last choice varies fastest.

        Raises:
            SpaceError: There is no such place.
        """
        if not 0 <= index < self.size:
            raise SpaceError(f"search space {self.name!r} has places 0 to {self.size - 1}, got {index}")
        picked: dict[str, Choice] = {}
        for choice in reversed(list(self.choices)):
            index, digit = divmod(index, len(self.choices[choice]))
            picked[choice] = self.choices[choice][digit]
        return {choice: picked[choice] for choice in self.choices}

    def canonical(self, architecture: Architecture) -> dict[str, Choice]:
        """Bring an architecture into the form that its equals share: choices in order, values as declared.

        Raises:
            SpaceError: A choice is missing or unknown, or a value is not among its choice's.
        """
        missing = [choice for choice in self.choices if choice not in architecture]
        unknown = [choice for choice in architecture if choice not in self.choices]
        if missing:
            raise SpaceError(
                f"an architecture of {self.name!r} needs a value for each choice, got none for "
                f"{', '.join(missing)}: add it"
            )
        if unknown:
            raise SpaceError(
                f"an architecture of {self.name!r} takes the choices {', '.join(self.choices)}, got "
                f"{', '.join(unknown)} too: remove it"
            )
        return {choice: self._declared(choice, architecture[choice]) for choice in self.choices}

    def key(self, architecture: Architecture) -> str:
        """Text that is equal for equal architectures, whatever the order of their choices.

        Raises:
            SpaceError: The architecture is not in the space.
        """
        return canonical(self.canonical(architecture))

    def _declared(self, choice: str, value: Any) -> Choice:
        for declared in self.choices[choice]:
            if _identity(declared) == _identity(value):
                return declared
        raise SpaceError(
            f"choice {choice!r} of {self.name!r} must be one of {list(self.choices[choice])}, got {value!r}: "
            f"take one of these, or add the value to the space"
        )


def _distinct(n: int, size: int, seed: int) -> list[int]:
    """The first `n` places of a random permutation of `size`, by a shuffle that remembers only its swaps."""
    generator = random.Random(seed)
    moved: dict[int, int] = {}
    places = []
    for i in range(n):
        j = generator.randrange(i, size)
        places.append(moved.get(j, j))
        moved[j] = moved.get(i, i)
    return places


def _check_values(space: str, choice: str, values: Any) -> None:
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise SpaceError(f"choice {choice!r} of {space!r} needs a list of values, got {values!r}: list some")
    seen: set[tuple[bool, Choice]] = set()
    for value in values:
        if not isinstance(value, bool | int | float | str) or value != value:
            raise SpaceError(
                f"choice {choice!r} of {space!r} takes true, false, numbers and text, got {value!r}: name "
                f"the alternatives, and let the model's builder translate"
            )
        if _identity(value) in seen:
            raise SpaceError(
                f"choice {choice!r} of {space!r} needs different values, got {value!r} twice: remove one, "
                f"since it would be drawn twice as often"
            )
        seen.add(_identity(value))


def _identity(value: Choice) -> tuple[bool, Choice]:
    """Equal for what is the same thing to a model: 1 is 1.0 but not true."""
    return isinstance(value, bool), value
