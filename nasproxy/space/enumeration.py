"""The architectures of a space in order: how many there are, which stands at a place, and at which place one stands."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from nasproxy.errors import SpaceError
from nasproxy.space.choice import Decision, Options, identify
from nasproxy.trials.spec import Choice

State = tuple[int, ...]
"""All that later conditions need to know of the choices so far: the kind of each that one of them names."""
Wanted = frozenset[tuple[bool, Choice]]
"""Identities of the values that a condition asks for."""

MOST_STATES = 200_000
"""Of all choices together; conditions that need more hang on too much at once to be counted."""


@dataclass(frozen=True)
class _Step:
    """One choice, as the count sees it.

    Attributes:
        decision: The choice.
        tests: Which kinds must stand at which places of the state for it to exist.
        kinds: The kind of each value: values that no later condition tells apart share one; empty where none asks.
        absent: The kind of the choice that does not exist.
        kept: Places of the state, this choice's kind last, that later conditions still need.
    """

    decision: Decision
    tests: tuple[tuple[int, frozenset[int]], ...]
    kinds: tuple[int, ...]
    absent: int
    kept: tuple[int, ...]

    def exists(self, state: State) -> bool:
        return all(state[place] in kinds for place, kinds in self.tests)

    def after(self, state: State, kind: int) -> State:
        everything = (*state, kind)
        return tuple(everything[place] for place in self.kept)

    def ways(self, state: State) -> Mapping[int, int]:
        """How many values there are of each kind."""
        if not self.exists(state):
            return {self.absent: 1}
        return Counter(self.kinds) if self.kinds else {self.absent: self.decision.options.size}


class Enumeration:
    """Numbers the architectures in the order of their choices, the last one varying fastest.

    Nothing is listed: for each choice, and each state of what later conditions need, it knows in how many ways the
    choices from there on can be made.

    Attributes:
        size: How many architectures there are.
    """

    def __init__(self, decisions: Sequence[Decision]) -> None:
        """Count.

        Raises:
            SpaceError: A choice can never exist, or conditions hang on too much at once.
        """
        self._steps = _steps(decisions)
        self._counts = self._count(self._reach())
        self._ends: dict[tuple[int, State], list[int]] = {}
        self.size = self._counts[0][()]

    def architecture(self, index: int) -> dict[str, Choice]:
        """The architecture at a place from 0 to `size` - 1."""
        architecture: dict[str, Choice] = {}
        state: State = ()
        for i, step in enumerate(self._steps):
            kind = step.absent
            if step.exists(state):
                if step.kinds:
                    ends = self._ends_of(i, state)
                    rank = bisect_right(ends, index)
                    index -= ends[rank - 1] if rank else 0
                    kind = step.kinds[rank]
                else:
                    rank, index = divmod(index, self._counts[i + 1][step.after(state, kind)])
                architecture.update(zip(step.decision.slots, step.decision.options.unrank(rank), strict=True))
            state = step.after(state, kind)
        return architecture

    def index(self, architecture: Mapping[str, Choice]) -> int:
        """The place of an architecture in canonical form."""
        index = 0
        state: State = ()
        for i, step in enumerate(self._steps):
            kind = step.absent
            if step.exists(state):
                rank = step.decision.options.rank(tuple(architecture[slot] for slot in step.decision.slots))
                if step.kinds:
                    index += self._ends_of(i, state)[rank - 1] if rank else 0
                    kind = step.kinds[rank]
                else:
                    index += rank * self._counts[i + 1][step.after(state, kind)]
            state = step.after(state, kind)
        return index

    def _ends_of(self, i: int, state: State) -> list[int]:
        """Where the architectures with each value of the choice end, of those that begin as the state says."""
        if (i, state) not in self._ends:
            step, after = self._steps[i], self._counts[i + 1]
            self._ends[i, state] = list(accumulate(after[step.after(state, kind)] for kind in step.kinds))
        return self._ends[i, state]

    def _reach(self) -> list[set[State]]:
        """The states that there can be before each choice, and after the last."""
        states: list[set[State]] = [{()}]
        for step in self._steps:
            if not any(step.exists(state) for state in states[-1]):
                raise SpaceError(
                    f"choice {step.decision.path!r} must exist in some architecture, and its conditions never hold "
                    f"together: change them, or remove it"
                )
            states.append({step.after(state, kind) for state in states[-1] for kind in step.ways(state)})
            if sum(map(len, states)) > MOST_STATES:
                raise SpaceError(
                    f"conditions up to choice {step.decision.path!r} hang on too many earlier choices at once to be "
                    f"counted (more than {MOST_STATES:,} cases): declare a choice right after those that it hangs on"
                )
        return states

    def _count(self, states: Sequence[set[State]]) -> list[dict[State, int]]:
        """In how many ways the choices from each on can be made, by the state before it."""
        counts: list[dict[State, int]] = [dict.fromkeys(states[-1], 1)]
        for step, before in zip(reversed(self._steps), reversed(states[:-1]), strict=True):
            after = counts[-1]
            counts.append(
                {
                    state: sum(ways * after[step.after(state, kind)] for kind, ways in step.ways(state).items())
                    for state in before
                }
            )
        return counts[::-1]


def _steps(decisions: Sequence[Decision]) -> list[_Step]:
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
        tests = tuple((known.index(c.path), kinds[c.path].among(c.identities)) for c in decision.conditions)
        everything = [*known, decision.path]
        kept = tuple(place for place, path in enumerate(everything) if last_needed.get(path, -1) > i)
        steps.append(_Step(decision, tests, own.of_values, own.absent, kept))
        known = [everything[place] for place in kept]
    return steps


class _Kinds:
    """Tells the values of a choice apart as far as conditions on it do."""

    def __init__(self, options: Options, wanted: Sequence[Wanted]) -> None:
        self._wanted = wanted
        self._answers: dict[tuple[bool, ...], int] = {}
        self.absent = self._kind((False,) * len(wanted))
        asked_of = map(identify, options.values if wanted else ())
        self.of_values = tuple(self._kind(tuple(value in values for values in wanted)) for value in asked_of)

    def among(self, values: Wanted) -> frozenset[int]:
        """The kinds of some values that a condition wants."""
        place = self._wanted.index(values)
        return frozenset(kind for answer, kind in self._answers.items() if answer[place])

    def _kind(self, answer: tuple[bool, ...]) -> int:
        return self._answers.setdefault(answer, len(self._answers))
