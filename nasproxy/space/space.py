"""Search spaces: counting, sampling, mutating, validating and serializing architectures."""

import json
import random
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from nasproxy.errors import SpaceError
from nasproxy.space import language
from nasproxy.space.choice import Decision, OneOf
from nasproxy.space.conditions import resolve_conditions
from nasproxy.space.enumeration import Enumeration
from nasproxy.space.search_kind import is_within
from nasproxy.trials.overrides import flatten, number_lists
from nasproxy.trials.spec import Architecture, Choice, to_canonical_json

SHOWN = 20
"""Most names that an error message lists."""
LONGEST_LISTING = 160
"""Most characters that an error message uses to list the values of a choice."""


@dataclass(frozen=True)
class SearchSpace:
    """The set of architectures that a tree of choices defines.

    An architecture is a flat mapping from path to value. Its canonical form contains the existing choices in declared
    order; architectures with equal canonical forms are equal.

    Attributes:
        name: Name of the space.
        choices: Tree of choices, in the language of `nasproxy.space.language`.
        baseline: Existing architecture of the user that candidates are compared with, nested or by path; or None.
        augmentation: Paths of the choices, or groups of them, that decide augmentation instead of an architecture.

    Raises:
        SpaceError: The choices do not conform to the language, the space has only one architecture, or the baseline or
            a path of `augmentation` is not in it.
    """

    name: str
    choices: Mapping[str, Any]
    baseline: Architecture | None = None
    augmentation: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 2:
            raise SpaceError(
                f"search space {self.name!r} needs at least 2 architectures to rank, got a single one: give "
                f"a choice a second value"
            )
        for path in self.augmentation:
            if not any(is_within(decision.path, path) for decision in self.declared):
                raise SpaceError(
                    f"search space {self.name!r} needs choices or groups of choices in augmentation, got {path!r}: "
                    f"name some of {_format_names([decision.path for decision in self.declared])}"
                )
        if self.baseline is not None:
            object.__setattr__(self, "baseline", self.canonical(self._spell_out(self.baseline)))

    @cached_property
    def tree(self) -> language.Group:
        """Tree of the declared choices."""
        return language.read_space(self.name, self.choices)

    @cached_property
    def declared(self) -> tuple[Decision, ...]:
        """Choices in declared order, with their conditions."""
        return resolve_conditions(self.name, self.tree)

    @property
    def size(self) -> int:
        """Number of different architectures."""
        return self._enumeration.size

    @cached_property
    def points(self) -> int:
        """Number of combinations of all choices, including those without effect, as other tools count."""
        return prod(decision.options.points for decision in self.declared)

    @property
    def decisions(self) -> int:
        """Number of slots of all choices."""
        return len(self._slots)

    def sample(self, n: int, seed: int) -> list[Architecture]:
        """Draw architectures uniformly without replacement.

        The first k of n architectures equal `sample(k, seed)`, so that a sample can be extended.

        Args:
            n: Number of architectures, at least 0.
            seed: Seed of the sample.

        Raises:
            SpaceError: The space has fewer than `n` architectures, or `n` is negative.
        """
        if not 0 <= n <= self.size:
            raise SpaceError(
                f"search space {self.name!r} has {self.size} different architectures, got a request "
                f"for {n} of them: ask for fewer, or give its choices more values"
            )
        return [self._enumeration.architecture(index) for index in _draw_distinct(n, self.size, seed)]

    def architecture(self, index: int) -> dict[str, Choice]:
        """Return the architecture of an index from 0 to `size` - 1; the last choice varies fastest.

        Raises:
            SpaceError: The index is out of range.
        """
        if not 0 <= index < self.size:
            raise SpaceError(f"search space {self.name!r} has indices 0 to {self.size - 1}, got {index}")
        return self._enumeration.architecture(index)

    def index(self, architecture: Architecture) -> int:
        """Return the index of an architecture.

        Raises:
            SpaceError: The architecture is not in the space.
        """
        return self._enumeration.index(self.canonical(architecture))

    def canonical(self, architecture: Architecture) -> dict[str, Choice]:
        """Convert an architecture to its canonical form.

        Choices are in declared order, with values as declared; choices that do not exist, given the others, are
        dropped regardless of their values; values whose order carries no information are sorted.

        Raises:
            SpaceError: A choice is missing or unknown, or a value is not one of its choice's values.
        """
        self._refuse_unknown(architecture)
        form: dict[str, Choice] = {}
        missing: list[str] = []
        for decision in self.declared:
            if decision.exists(form):
                lacking = [slot for slot in decision.slots if slot not in architecture]
                missing += lacking
                form.update({} if lacking else self._admit(decision, architecture))
        if missing:
            raise SpaceError(
                f"an architecture of {self.name!r} needs a value for each choice, got none for "
                f"{_format_names(missing)}: add it"
            )
        return form

    def key(self, architecture: Architecture) -> str:
        """Return a text key that is equal for equal architectures, independent of the order of their choices.

        Raises:
            SpaceError: The architecture is not in the space.
        """
        return to_canonical_json(self.canonical(architecture))

    def mutate(self, architecture: Architecture, seed: int) -> dict[str, Choice]:
        """Draw an architecture that differs in one choice.

        A slot is drawn uniformly. A choice of one value gets any other value; in a choice of several, one value is
        changed or two are swapped. Choices that exist only after the change get random values.

        Args:
            architecture: Architecture to change.
            seed: Seed of the draw.

        Raises:
            SpaceError: The architecture is not in the space.
        """
        generator = random.Random(seed)
        old = self.canonical(architecture)
        slots = [
            decision
            for decision in self.declared
            if decision.slots[0] in old and decision.options.size > 1
            for _ in decision.slots
        ]
        changed = generator.choice(slots)
        new: dict[str, Choice] = {}
        for decision in self.declared:
            if not decision.exists(new):
                continue
            if decision.slots[0] not in old:
                values = decision.options.unrank(generator.randrange(decision.options.size))
            else:
                values = tuple(old[slot] for slot in decision.slots)
                values = decision.options.vary(values, generator) if decision is changed else values
            new.update(zip(decision.slots, values, strict=True))
        return new

    def to_json(self, architecture: Architecture) -> str:
        """Serialize an architecture to JSON, in declared order.

        Raises:
            SpaceError: The architecture is not in the space.
        """
        return json.dumps(self.canonical(architecture), ensure_ascii=False)

    def from_json(self, text: str) -> dict[str, Choice]:
        """Read an architecture from JSON and return its canonical form.

        Raises:
            SpaceError: The text is not a JSON object, or not an architecture of the space.
        """
        try:
            content = json.loads(text)
        except ValueError as error:
            raise SpaceError(f"an architecture of {self.name!r} must be JSON, got {text!r}: {error}") from error
        return self.canonical(self._spell_out(content))

    @cached_property
    def _enumeration(self) -> Enumeration:
        return Enumeration(self.declared)

    @cached_property
    def _slots(self) -> frozenset[str]:
        return frozenset(slot for decision in self.declared for slot in decision.slots)

    def _spell_out(self, architecture: Any) -> dict[str, Any]:
        """Flatten an architecture that may be nested to values by path."""
        if not isinstance(architecture, Mapping):
            raise SpaceError(
                f"an architecture of {self.name!r} must map its choices to values, got {architecture!r}: name each"
            )
        return flatten(number_lists(architecture))

    def _admit(self, decision: Decision, architecture: Architecture) -> dict[str, Choice]:
        values = [architecture[slot] for slot in decision.slots]
        admitted = decision.options.admit(values)
        if admitted is None:
            got = repr(values[0]) if isinstance(decision.options, OneOf) else str(values)
            options = textwrap.shorten(str(decision.options), LONGEST_LISTING, placeholder=" ...")
            raise SpaceError(
                f"choice {decision.path!r} of {self.name!r} must be {options}, got {got}: "
                f"take one of these, or add the value to the space"
            )
        return dict(zip(decision.slots, admitted, strict=True))

    def _refuse_unknown(self, architecture: Architecture) -> None:
        unknown = [choice for choice in architecture if choice not in self._slots]
        if unknown:
            known = [slot for decision in self.declared for slot in decision.slots]
            raise SpaceError(
                f"an architecture of {self.name!r} takes the choices {_format_names(known)}, got "
                f"{_format_names(unknown)} too: remove it"
            )


def _format_names(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _draw_distinct(n: int, size: int, seed: int) -> list[int]:
    """Return the first `n` elements of a random permutation of `size`, by a shuffle that stores only its swaps."""
    generator = random.Random(seed)
    moved: dict[int, int] = {}
    places = []
    for i in range(n):
        j = generator.randrange(i, size)
        places.append(moved.get(j, j))
        moved[j] = moved.get(i, i)
    return places
