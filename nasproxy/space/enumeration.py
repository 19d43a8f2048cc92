"""Enumeration of the architectures of a space: their number, and the conversion between architecture and index."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from nasproxy.errors import SpaceError
from nasproxy.space.choice import Decision, Options, identify
from nasproxy.trials.spec import Choice

State = tuple[int, ...]
"""The information on earlier choices that later conditions depend on: the kind of each relevant choice."""
Wanted = frozenset[tuple[bool, Choice]]
"""Keys of the values that satisfy a condition."""

MOST_STATES = 200_000
"""Largest number of states over all choices; more complex conditions are rejected."""


@dataclass(frozen=True)
class _Step:
    """One choice, as a transition between states.

    Attributes:
        decision: The choice.
        tests: Indices into the state, each with the kinds that it must have for the choice to exist.
        kinds: Kind of each value; values that no later condition distinguishes share one. Empty if no later condition
            depends on the choice.
        absent: Kind of the choice if it does not exist.
        kept: Indices, into the state extended by this choice's kind, that later conditions depend on.
    """

    decision: Decision
    tests: tuple[tuple[int, frozenset[int]], ...]
    kinds: tuple[int, ...]
    absent: int
    kept: tuple[int, ...]

    def exists(self, state: State) -> bool:
        return all(state[place] in kinds for place, kinds in self.tests)

    def advance(self, state: State, kind: int) -> State:
        everything = (*state, kind)
        return tuple(everything[place] for place in self.kept)

    def count_ways(self, state: State) -> Mapping[int, int]:
        """Count the values of each kind."""
        if not self.exists(state):
            return {self.absent: 1}
        return Counter(self.kinds) if self.kinds else {self.absent: self.decision.options.size}


class Enumeration:
    """Numbers the architectures in lexicographic order of their choices; the last choice varies fastest.

    Architectures are not listed: for each choice and each state, dynamic programming counts the ways to make the
    remaining choices.

    Attributes:
        size: Number of architectures.
    """

    def __init__(self, decisions: Sequence[Decision]) -> None:
        """Count the architectures.

        Raises:
            SpaceError: A choice can never exist, or conditions depend on too many choices at once.
        """
        self._steps = _make_steps(decisions)
        self._counts = self._count_architectures(self._find_reachable())
        self._ends: dict[tuple[int, State], list[int]] = {}
        self.size = self._counts[0][()]

    def architecture(self, index: int) -> dict[str, Choice]:
        """Return the architecture of an index from 0 to `size` - 1."""
        architecture: dict[str, Choice] = {}
        state: State = ()
        for i, step in enumerate(self._steps):
            kind = step.absent
            if step.exists(state):
                if step.kinds:
                    ends = self._list_ends(i, state)
                    rank = bisect_right(ends, index)
                    index -= ends[rank - 1] if rank else 0
                    kind = step.kinds[rank]
                else:
                    rank, index = divmod(index, self._counts[i + 1][step.advance(state, kind)])
                architecture.update(zip(step.decision.slots, step.decision.options.unrank(rank), strict=True))
            state = step.advance(state, kind)
        return architecture

    def index(self, architecture: Mapping[str, Choice]) -> int:
        """Return the index of an architecture in canonical form."""
        index = 0
        state: State = ()
        for i, step in enumerate(self._steps):
            kind = step.absent
            if step.exists(state):
                rank = step.decision.options.rank(tuple(architecture[slot] for slot in step.decision.slots))
                if step.kinds:
                    index += self._list_ends(i, state)[rank - 1] if rank else 0
                    kind = step.kinds[rank]
                else:
                    index += rank * self._counts[i + 1][step.advance(state, kind)]
            state = step.advance(state, kind)
        return index

    def _list_ends(self, i: int, state: State) -> list[int]:
        """Return the cumulative numbers of architectures by value of the choice, given the state."""
        if (i, state) not in self._ends:
            step, after = self._steps[i], self._counts[i + 1]
            self._ends[i, state] = list(accumulate(after[step.advance(state, kind)] for kind in step.kinds))
        return self._ends[i, state]

    def _find_reachable(self) -> list[set[State]]:
        """Find the reachable states before each choice and after the last."""
        states: list[set[State]] = [{()}]
        for step in self._steps:
            if not any(step.exists(state) for state in states[-1]):
                raise SpaceError(
                    f"choice {step.decision.path!r} must exist in some architecture, and its conditions never hold "
                    f"together: change them, or remove it"
                )
            states.append({step.advance(state, kind) for state in states[-1] for kind in step.count_ways(state)})
            if sum(map(len, states)) > MOST_STATES:
                raise SpaceError(
                    f"conditions up to choice {step.decision.path!r} depend on too many earlier choices at once to be "
                    f"counted (more than {MOST_STATES:,} cases): declare a choice right after those that it depends on"
                )
        return states

    def _count_architectures(self, states: Sequence[set[State]]) -> list[dict[State, int]]:
        """Count, for each choice and state before it, the ways to make this choice and the remaining ones."""
        counts: list[dict[State, int]] = [dict.fromkeys(states[-1], 1)]
        for step, before in zip(reversed(self._steps), reversed(states[:-1]), strict=True):
            after = counts[-1]
            counts.append(
                {
                    state: sum(ways * after[step.advance(state, kind)] for kind, ways in step.count_ways(state).items())
                    for state in before
                }
            )
        return counts[::-1]


def _make_steps(decisions: Sequence[Decision]) -> list[_Step]:
    last_needed: dict[str, int] = {}
    asked: dict[str, dict[Wanted, None]] = {}
    for i, decision in enumerate(decisions):
        for condition in decision.conditions:
            last_needed[condition.path] = i
            asked.setdefault(condition.path, {})[condition.identities] = None
    kinds = {decision.path: _Kinds(decision.options, list(asked.get(decision.path, ()))) for decision in decisions}
    steps: list[_Step] = []
    known: list[str] = []
    for i, decision in enumerate(decisions):
        own = kinds[decision.path]
        tests = tuple((known.index(c.path), kinds[c.path].find_kinds(c.identities)) for c in decision.conditions)
        everything = [*known, decision.path]
        kept = tuple(place for place, path in enumerate(everything) if last_needed.get(path, -1) > i)
        steps.append(_Step(decision, tests, own.of_values, own.absent, kept))
        known = [everything[place] for place in kept]
    return steps


class _Kinds:
    """Partitions the values of a choice by the conditions that they satisfy."""

    def __init__(self, options: Options, wanted: Sequence[Wanted]) -> None:
        self._wanted = wanted
        self._answers: dict[tuple[bool, ...], int] = {}
        self.absent = self._number_kind((False,) * len(wanted))
        asked_of = map(identify, options.values if wanted else ())
        self.of_values = tuple(self._number_kind(tuple(value in values for values in wanted)) for value in asked_of)

    def find_kinds(self, values: Wanted) -> frozenset[int]:
        """Return the kinds of the values that satisfy a condition."""
        place = self._wanted.index(values)
        return frozenset(kind for answer, kind in self._answers.items() if answer[place])

    def _number_kind(self, answer: tuple[bool, ...]) -> int:
        return self._answers.setdefault(answer, len(self._answers))
