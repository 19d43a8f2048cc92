"""A search space: how many architectures it has, architectures drawn from it, changed, named and read again."""

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
from nasproxy.trials.overrides import flatten, number_lists
from nasproxy.trials.spec import Architecture, Choice, to_canonical_json

SHOWN = 20
"""Names that a message lists at most."""
LONGEST = 160
"""Characters that a message takes at most to list the values of a choice."""


@dataclass(frozen=True)
class SearchSpace:
    """The architectures that a tree of choices spans.

    An architecture is a flat mapping from path to value. Its canonical form holds, in declared order, the choices that
    exist under the others; architectures of one canonical form are one.

    Attributes:
        name: What the space is called.
        choices: The tree, in the language of `nasproxy.space.language`.
        baseline: The user's own architecture, with which the others are compared, or None; it may be nested.

    Raises:
        SpaceError: The choices are not written as the language wants them, the space has a single architecture, or the
            baseline is not in it.
    """

    name: str
    choices: Mapping[str, Any]
    baseline: Architecture | None = None

    def __post_init__(self) -> None:
        if self.size < 2:
            raise SpaceError(
                f"search space {self.name!r} needs at least 2 architectures to rank, got a single one: give "
                f"a choice a second value"
            )
        if self.baseline is not None:
            object.__setattr__(self, "baseline", self.canonical(self._spelled_out(self.baseline)))

    @cached_property
    def tree(self) -> language.Group:
        """The choices as they were declared."""
        return language.read_space(self.name, self.choices)

    @cached_property
    def declared(self) -> tuple[Decision, ...]:
        """The choices in order, with what each hangs on."""
        return resolve_conditions(self.name, self.tree)

    @property
    def size(self) -> int:
        """How many different architectures there are."""
        return self._enumeration.size

    @cached_property
    def points(self) -> int:
        """Ways to make all choices, those without effect too: what other tools count."""
        return prod(decision.options.points for decision in self.declared)

    @property
    def decisions(self) -> int:
        """How many values a point has; a choice of several has several."""
        return len(self._slots)

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
        return [self._enumeration.architecture(index) for index in _distinct(n, self.size, seed)]

    def architecture(self, index: int) -> dict[str, Choice]:
        """The architecture at a place from 0 to `size` - 1; the last choice varies fastest.

        Raises:
            SpaceError: There is no such place.
        """
        if not 0 <= index < self.size:
            raise SpaceError(f"search space {self.name!r} has places 0 to {self.size - 1}, got {index}")
        return self._enumeration.architecture(index)

    def index(self, architecture: Architecture) -> int:
        """The place of an architecture.

        Raises:
            SpaceError: It is not in the space.
        """
        return self._enumeration.index(self.canonical(architecture))

    def canonical(self, architecture: Architecture) -> dict[str, Choice]:
        """Bring an architecture into the form that its equals share.

        Choices come in order, with values as declared; those that do not exist under the others are dropped, whatever
        their values; several values whose order says nothing are sorted.

        Raises:
            SpaceError: A choice is missing or unknown, or a value is not among its choice's.
        """
        self._refuse_unknown(architecture)
        form: dict[str, Choice] = {}
        missing: list[str] = []
        for decision in self.declared:
            if decision.exists(form):
                lacking = [slot for slot in decision.slots if slot not in architecture]
                missing += lacking
                form.update({} if lacking else self._admitted(decision, architecture))
        if missing:
            raise SpaceError(
                f"an architecture of {self.name!r} needs a value for each choice, got none for {_some(missing)}: add it"
            )
        return form

    def key(self, architecture: Architecture) -> str:
        """Text that is equal for equal architectures, whatever the order of their choices.

        Raises:
            SpaceError: The architecture is not in the space.
        """
        return to_canonical_json(self.canonical(architecture))

    def mutate(self, architecture: Architecture, seed: int) -> dict[str, Choice]:
        """Another architecture, which differs in one choice.

        One of the values is changed, each as likely: where one value is chosen, to any other; where several are, one of
        them to another or two of them swapped. Choices that come into existence by it get random values.

        Args:
            architecture: What to change.
            seed: Which change.

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
        """An architecture as text for people and programs, in declared order.

        Raises:
            SpaceError: It is not in the space.
        """
        return json.dumps(self.canonical(architecture), ensure_ascii=False)

    def from_json(self, text: str) -> dict[str, Choice]:
        """Read an architecture, in canonical form.

        Raises:
            SpaceError: The text is no JSON object, or not an architecture of the space.
        """
        try:
            content = json.loads(text)
        except ValueError as error:
            raise SpaceError(f"an architecture of {self.name!r} must be JSON, got {text!r}: {error}") from error
        return self.canonical(self._spelled_out(content))

    @cached_property
    def _enumeration(self) -> Enumeration:
        return Enumeration(self.declared)

    @cached_property
    def _slots(self) -> frozenset[str]:
        return frozenset(slot for decision in self.declared for slot in decision.slots)

    def _spelled_out(self, architecture: Any) -> dict[str, Any]:
        """An architecture by path, where it may be nested."""
        if not isinstance(architecture, Mapping):
            raise SpaceError(
                f"an architecture of {self.name!r} must map its choices to values, got {architecture!r}: name each"
            )
        return flatten(number_lists(architecture))

    def _admitted(self, decision: Decision, architecture: Architecture) -> dict[str, Choice]:
        values = [architecture[slot] for slot in decision.slots]
        admitted = decision.options.admit(values)
        if admitted is None:
            got = repr(values[0]) if isinstance(decision.options, OneOf) else str(values)
            options = textwrap.shorten(str(decision.options), LONGEST, placeholder=" ...")
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
                f"an architecture of {self.name!r} takes the choices {_some(known)}, got {_some(unknown)} too: "
                f"remove it"
            )


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


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
