"""Resolution of conditions: finds the choices that `when` refers to, from the innermost group outwards."""

from collections.abc import Iterator, Sequence

from nasproxy.errors import SpaceError
from nasproxy.space.choice import Condition, Decision, OneOf, Picked, identify
from nasproxy.space.language import Group, Leaf, Node, When, join_path

Scoped = tuple[str, When]
"""The entries of a `when`, with the path of the group where the lookup of its names starts."""


def resolve_conditions(space: str, tree: Group) -> tuple[Decision, ...]:
    """List the choices of a tree in declared order, with their conditions.

    Args:
        space: Name of the space, for error messages.
        tree: Choices of the space.

    Raises:
        SpaceError: A condition refers to something that a choice cannot depend on.
    """
    resolver = _Resolver(space, tree)
    return tuple(
        Decision(path, leaf.options, resolver.list_conditions(path, whens)) for path, leaf, whens in _list_leaves(tree)
    )


class _Resolver:
    def __init__(self, space: str, tree: Group) -> None:
        self._space = space
        self._options = {path: leaf.options for path, leaf, _ in _list_leaves(tree)}
        self._order = {path: place for place, path in enumerate(self._options)}
        self._slots = {slot: path for path, options in self._options.items() for slot in options.list_names(path)}
        self._groups = set(_list_groups(tree))

    def list_conditions(self, path: str, whens: Sequence[Scoped]) -> tuple[Condition, ...]:
        """Resolve the conditions of a choice, from the `when` of its groups and its own."""
        found: dict[str, Picked] = {}
        for scope, when in whens:
            for name, values in when.items():
                other = self._find_choice(path, scope, name)
                self._check_values(path, other, values)
                found[other] = _intersect(found[other], values) if other in found else values
                if not found[other]:
                    raise self._make_error(path, f"has conditions on {other!r} that never hold together: change one")
        return tuple(Condition(other, values) for other, values in found.items())

    def _find_choice(self, path: str, scope: str, name: str) -> str:
        candidates = [join_path(around, name) for around in _list_scopes(scope)]
        for candidate in candidates:
            if candidate in self._options or candidate in self._slots:
                return self._slots.get(candidate, candidate)
        if any(candidate in self._groups for candidate in candidates):
            raise self._make_error(path, f"has a condition on {name!r}, which is a group: name one of its choices")
        raise self._make_error(
            path, f"has a condition on {name!r}, which neither its group nor one around it has: correct it"
        )

    def _check_values(self, path: str, other: str, values: Picked) -> None:
        options = self._options[other]
        if not isinstance(options, OneOf):
            raise self._make_error(
                path,
                f"has a condition on {other!r}, which chooses several: add a choice of one value before both, and let "
                f"both depend on that",
            )
        if self._order[other] >= self._order[path]:
            raise self._make_error(path, f"has a condition on something later, {other!r}: declare that one before it")
        strange = [value for value in values if options.admit([value]) is None]
        if strange:
            raise self._make_error(
                path,
                f"has a condition on {other!r} being {strange[0]!r}, which is not among its values "
                f"{list(options.values)}: correct it",
            )

    def _make_error(self, path: str, why: str) -> SpaceError:
        return SpaceError(f"choice {path!r} of {self._space!r} {why}")


def _intersect(some: Picked, others: Picked) -> Picked:
    known = set(map(identify, others))
    return tuple(value for value in some if identify(value) in known)


def _list_scopes(path: str) -> Iterator[str]:
    """Yield the paths of a group and of the groups around it."""
    while path:
        yield path
        path = path.rpartition(".")[0]
    yield ""


def _list_leaves(
    node: Node, path: str = "", whens: tuple[Scoped, ...] = ()
) -> Iterator[tuple[str, Leaf, tuple[Scoped, ...]]]:
    """Yield the choices in order, each with the `when` of its groups and its own."""
    scope = path.rpartition(".")[0]
    own = (*whens, (scope, node.when)) if node.when else whens
    if isinstance(node, Leaf):
        yield path, node, own
        return
    for name, member in node.members.items():
        yield from _list_leaves(member, join_path(path, name), own)


def _list_groups(node: Node, path: str = "") -> Iterator[str]:
    if isinstance(node, Group):
        yield path
        for name, member in node.members.items():
            yield from _list_groups(member, join_path(path, name))
