"""Choices of one or several values: counting, ranking, validation and mutation."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import comb, perm

from nasproxy.trials.spec import Choice

Picked = tuple[Choice, ...]
"""Chosen values of one choice, one for each slot."""


def identify(value: Choice) -> tuple[bool, Choice]:
    """Return a key that is equal for equal values: 1 equals 1.0 but not true."""
    return isinstance(value, bool), value


@dataclass(frozen=True)
class OneOf:
    """A choice of one of several different values."""

    values: Picked

    @property
    def points(self) -> int:
        """Number of values."""
        return len(self.values)

    @property
    def size(self) -> int:
        """Number of values."""
        return len(self.values)

    def __str__(self) -> str:
        return f"one of {list(self.values)}"

    def list_names(self, path: str) -> tuple[str, ...]:
        """Return the path of the single slot, which is that of the choice."""
        return (path,)

    def admit(self, picked: Sequence[object]) -> Picked | None:
        """Return the value as declared; None if it is not one of the values."""
        place = self._find_place(picked[0])
        return None if place is None else (self.values[place],)

    def unrank(self, rank: int) -> Picked:
        """Return the value of a rank."""
        return (self.values[rank],)

    def rank(self, picked: Picked) -> int:
        """Return the rank of a value."""
        return self._places[identify(picked[0])]

    def vary(self, picked: Picked, generator: random.Random) -> Picked:
        """Draw any other value."""
        other = generator.randrange(self.size - 1)
        return self.unrank(other + (other >= self.rank(picked)))

    def _find_place(self, value: object) -> int | None:
        return self._places.get(identify(value)) if isinstance(value, bool | int | float | str) else None

    @cached_property
    def _places(self) -> Mapping[tuple[bool, Choice], int]:
        return {identify(value): place for place, value in enumerate(self.values)}


@dataclass(frozen=True)
class ManyOf:
    """A choice of several values, one in each slot.

    Attributes:
        values: Entries to choose from; values may be repeated if entries are distinct and not sorted.
        k: Number of slots.
        is_distinct: Whether each entry can be chosen at most once.
        is_sorted: Whether the chosen values are in declared order, so that their order carries no information.
    """

    values: Picked
    k: int
    is_distinct: bool = True
    is_sorted: bool = False

    @cached_property
    def points(self) -> int:
        """Number of ways to choose entries."""
        n = len(self.values)
        if self.is_distinct:
            return comb(n, self.k) if self.is_sorted else perm(n, self.k)
        return comb(n + self.k - 1, self.k) if self.is_sorted else int(n**self.k)

    @cached_property
    def size(self) -> int:
        """Number of ways that differ in their values."""
        return sum(ways for _, ways in self._list_next(()))

    def __str__(self) -> str:
        which = f"{self.k} entries" if self.is_distinct else f"{self.k} values, each as often as you like,"
        return f"{which} of {list(self.values)} in {'declared' if self.is_sorted else 'any'} order"

    def list_names(self, path: str) -> tuple[str, ...]:
        """Return the paths of the slots, numbered from 0."""
        return tuple(f"{path}.{slot}" for slot in range(self.k))

    def admit(self, picked: Sequence[object]) -> Picked | None:
        """Return the values as declared, in declared order if `is_sorted`; None if the combination is invalid."""
        known = [self._places.get(identify(value)) for value in picked if isinstance(value, bool | int | float | str)]
        places = self._sort_places(place for place in known if place is not None)
        return self._pick_values(places) if len(places) == self.k and self._fits(places) else None

    def unrank(self, rank: int) -> Picked:
        """Return the values of a rank; the last slot varies fastest."""
        places: list[int] = []
        for _ in range(self.k):
            for place, ways in self._list_next(places):
                if rank < ways:
                    places.append(place)
                    break
                rank -= ways
        return self._pick_values(places)

    def rank(self, picked: Picked) -> int:
        """Return the rank of values, the inverse of `unrank`."""
        places = [self._places[identify(value)] for value in picked]
        return sum(
            ways
            for slot, chosen in enumerate(places)
            for place, ways in self._list_next(places[:slot])
            if place < chosen
        )

    def vary(self, picked: Picked, generator: random.Random) -> Picked:
        """Draw a neighbour uniformly: one slot with another value, or two slots with swapped values."""
        places = tuple(self._places[identify(value)] for value in picked)
        near = {self._sort_places(moved) for moved in self._generate_moves(places)} - {places}
        return self._pick_values(generator.choice(sorted(moved for moved in near if self._fits(moved))))

    def _generate_moves(self, places: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        for slot in range(self.k):
            yield from ((*places[:slot], place, *places[slot + 1 :]) for place in range(len(self._copies)))
            for other in range(slot):
                swapped = list(places)
                swapped[slot], swapped[other] = places[other], places[slot]
                yield tuple(swapped)

    def _list_next(self, places: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Yield the options of the next slot, each with the number of ways to fill the remaining slots."""
        n, rest = len(self._copies), self.k - len(places) - 1
        if self.is_distinct and self.is_sorted:
            first = places[-1] + 1 if places else 0
            yield from ((place, comb(n - place - 1, rest)) for place in range(first, n))
        elif self.is_distinct:
            used = Counter(places)
            left = [copies - used[place] for place, copies in enumerate(self._copies)]
            ways = {copies: count_arrangements(_remove_one(left, copies), rest) for copies in set(left) if copies}
            yield from ((place, ways[copies]) for place, copies in enumerate(left) if copies)
        elif self.is_sorted:
            first = places[-1] if places else 0
            yield from ((place, comb(n - place + rest - 1, rest)) for place in range(first, n))
        else:
            yield from ((place, n**rest) for place in range(n))

    def _fits(self, places: Sequence[int]) -> bool:
        return not self.is_distinct or all(n <= self._copies[place] for place, n in Counter(places).items())

    def _sort_places(self, places: Iterable[int]) -> tuple[int, ...]:
        return tuple(sorted(places) if self.is_sorted else places)

    def _pick_values(self, places: Iterable[int]) -> Picked:
        return tuple(self._different[place] for place in places)

    @cached_property
    def _places(self) -> Mapping[tuple[bool, Choice], int]:
        """Index of each value among the different values."""
        return {key: place for place, key in enumerate(dict.fromkeys(map(identify, self.values)))}

    @cached_property
    def _different(self) -> Picked:
        return tuple(value for _, value in self._places)

    @cached_property
    def _copies(self) -> tuple[int, ...]:
        """Number of entries of each different value."""
        return tuple(Counter(map(identify, self.values)).values())


Options = OneOf | ManyOf
"""The options of a choice.

Both types provide `points` (number of ways to choose entries) and `size` (number of different ways), convert values to
their declared form, rank the different ways from 0 to `size` - 1, and draw neighbours.
"""


@lru_cache(maxsize=100_000)
def count_arrangements(copies: tuple[int, ...], length: int) -> int:
    """Count the different sequences of a length from a multiset with the given multiplicities.

    >>> count_arrangements((2, 1), 2)  # aa ab ba
    3

    Source: Coefficient of x^length / length! in the product of the truncated exponential series.
    """
    single = copies.count(1)
    ways = [perm(single, n) for n in range(length + 1)]
    for most in (number for number in copies if number > 1):
        ways = [sum(comb(n, of_it) * ways[n - of_it] for of_it in range(min(most, n) + 1)) for n in range(length + 1)]
    return ways[length]


def _remove_one(copies: Sequence[int], number: int) -> tuple[int, ...]:
    """Return the sorted multiplicities after removing one copy of an item with multiplicity `number`."""
    left = sorted(each for each in copies if each)
    left.remove(number)
    return tuple(sorted([*left, number - 1] if number > 1 else left))


@dataclass(frozen=True)
class Condition:
    """Condition that another choice has one of several values.

    Attributes:
        path: Path of a choice of one value that is declared earlier.
        values: Values that satisfy the condition.
    """

    path: str
    values: Picked

    def holds(self, architecture: Mapping[str, Choice]) -> bool:
        """Return whether the other choice exists and has one of the values."""
        return self.path in architecture and identify(architecture[self.path]) in self.identities

    @cached_property
    def identities(self) -> frozenset[tuple[bool, Choice]]:
        """Keys of the values, for membership tests."""
        return frozenset(map(identify, self.values))


@dataclass(frozen=True)
class Decision:
    """One choice of a space.

    Attributes:
        path: Dotted path of the choice.
        options: Values to choose from.
        conditions: Conditions that must all hold for the choice to exist.
    """

    path: str
    options: Options
    conditions: tuple[Condition, ...] = ()

    @cached_property
    def slots(self) -> tuple[str, ...]:
        """Paths of the values in an architecture."""
        return self.options.list_names(self.path)

    def exists(self, architecture: Mapping[str, Choice]) -> bool:
        """Return whether the choice exists, given the choices before it."""
        return all(condition.holds(architecture) for condition in self.conditions)
