"""Describe a search space on standard output: its size, its choices, and sampled architectures."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.text import Text
from rich.tree import Tree

from nasproxy.report import wording
from nasproxy.report.augmentation_remarks import advise_on_kind
from nasproxy.report.tables import Column, Table
from nasproxy.report.terminal import print_tree
from nasproxy.space import SearchSpace
from nasproxy.space.choice import ManyOf, Options, Picked
from nasproxy.space.language import Group, Leaf, Node, Repeat, When, join_path
from nasproxy.storage.zero_cost_scores import ZeroCost
from nasproxy.trials.spec import Architecture, Choice

MANY_ARCHITECTURES = 10**20
"""Size of a space beyond which a search covers too little of it."""
MANY_VALUES = 10
"""Number of values of a choice beyond which a search samples each one too rarely."""
SHOWN_VALUES = 12


@dataclass(frozen=True)
class SampledArchitecture:
    """An architecture and its zero-cost scores.

    Attributes:
        name: Its name in the table.
        architecture: Its choices.
        scores: Its zero-cost scores; None if unknown.
    """

    name: str
    architecture: Architecture
    scores: ZeroCost | None


def print_space(space: SearchSpace) -> None:
    """Print the size of a space, advice on it, and its choices as a tree."""
    for line in (*describe_size(space), *advise_on_space(space)):
        print(line)
    print_tree(draw_tree(space))


def describe_size(space: SearchSpace) -> Iterator[str]:
    """Yield lines with the number of decisions, points and architectures of a space."""
    yield f"{space.name}: {wording.format_count(space.decisions, 'decision')}"
    yield f"points: {_format_exact(space.points)}"
    yield f"different architectures: {_format_exact(space.size)}"


def advise_on_space(space: SearchSpace) -> Iterator[str]:
    """Yield advice for a space that is hard to search, or whose search is no architecture search."""
    yield from advise_on_kind(space)
    if space.size > MANY_ARCHITECTURES:
        yield (
            f"advice: more than {_format_scientific(MANY_ARCHITECTURES)} architectures are too many to search well: "
            f"divide the space, for example search blocks first and scaling second"
        )
    many = {
        path: len(leaf.options.values)
        for path, leaf in _list_distinct_choices(space.tree)
        if _has_many_values(leaf.options)
    }
    if many and space.decisions > 1:  # one alone is a list of models
        named = ", ".join(f"{path} ({values})" for path, values in many.items())
        yield (
            f"advice: with more than {MANY_VALUES} values of a choice, each is sampled too rarely: {named}; use a "
            f"coarser grid, or remove nearly identical values"
        )


def draw_tree(space: SearchSpace) -> Tree:
    """Draw the choices with their values and conditions; identical members of a repeated group are drawn once."""
    tree = Tree(Text("choices"))
    _draw_members(tree, space.tree)
    return tree


def make_samples(shown: Sequence[SampledArchitecture]) -> Table:
    """Tabulate architectures with their zero-cost scores."""
    rows = [
        {
            "name": sample.name,
            "architecture": outline_architecture(sample.architecture),
            "parameters": None if sample.scores is None else sample.scores.parameters,
            "flops": None if sample.scores is None else sample.scores.flops,
        }
        for sample in shown
    ]
    columns = [
        Column("", lambda row: row["name"], is_number=False),
        Column("architecture", lambda row: row["architecture"], is_number=False, is_prose=True),
    ]
    if any(sample.scores for sample in shown):
        columns += [
            Column("parameters", lambda row: wording.format_number(row["parameters"])),
            Column("MFLOPs", lambda row: wording.format_number(_to_millions(row["flops"]))),
        ]
    return Table(rows, columns, ("name", "architecture", "parameters", "flops"))


def outline_architecture(architecture: Architecture) -> str:
    """Format an architecture in one line, group by group.

    >>> outline_architecture({"act": "relu", "stem.kernel": 3, "stem.channels": 8, "inputs.0": 1, "inputs.1": 4})
    'act=relu; stem: kernel=3 channels=8; inputs: 1 4'
    """
    groups = groupby(architecture.items(), key=lambda entry: entry[0].rpartition(".")[0])
    return wording.format_line("; ".join(_outline_group(path, dict(entries)) for path, entries in groups))


def _outline_group(path: str, entries: Mapping[str, Choice]) -> str:
    names = [name.rpartition(".")[2] for name in entries]
    if path and all(name.isdigit() for name in names):
        return f"{path}: {' '.join(map(_format_value, entries.values()))}"
    choices = " ".join(f"{name}={_format_value(value)}" for name, value in zip(names, entries.values(), strict=True))
    return f"{path}: {choices}" if path else choices


def _draw_members(tree: Tree, group: Group) -> None:
    if isinstance(group, Repeat):
        _draw_repeat(tree, "", group)
        return
    for name, node in group.members.items():
        _draw_node(tree, name, node)


def _draw_node(tree: Tree, name: str, node: Node) -> None:
    if isinstance(node, Leaf):
        tree.add(Text(f"{name}: {_format_leaf(node)}"))
    elif isinstance(node, Repeat):
        _draw_repeat(tree, name, node)
    else:
        _draw_members(tree.add(Text(f"{name}{_format_condition(node.when)}")), node)


def _draw_repeat(tree: Tree, name: str, repeat: Repeat) -> None:
    label, each = join_path(name, _format_range(repeat)), repeat.each
    if isinstance(each, Leaf):
        branch = tree.add(Text(f"{label}: {_format_leaf(each)}{_format_condition(repeat.when)}"))
    else:
        branch = tree.add(Text(f"{label}{_format_condition(repeat.when)}{_format_condition(each.when)}"))
        _draw_members(branch, each)
    for members, changes in _find_exceptions(repeat).items():
        different = branch.add(Text(f"but {', '.join(members)}"))
        for change in changes:
            different.add(Text(change))


def _find_exceptions(repeat: Repeat) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Return how some members differ from the others, grouped by difference."""
    usual = set(_list_lines(repeat.each))
    by_change: dict[tuple[str, ...], list[str]] = {}
    for name, member in repeat.members.items():
        change = tuple(line for line in _list_lines(member) if line not in usual)
        if change:
            by_change.setdefault(change, []).append(name)
    return {tuple(names): change for change, names in by_change.items()}


def _list_lines(node: Node, path: str = "") -> Iterator[str]:
    """Yield the lines below a node, each with its path."""
    if isinstance(node, Leaf):
        yield f"{path}: {_format_leaf(node)}".lstrip(": ")
        return
    if node.when:
        yield f"{path}{_format_condition(node.when)}".lstrip(", ")
    for name, member in node.members.items():
        yield from _list_lines(member, join_path(path, name))


def _list_distinct_choices(node: Node, path: str = "") -> Iterator[tuple[str, Leaf]]:
    """Yield the choices with their paths: those of a repeated group once, and again where a member differs."""
    if isinstance(node, Leaf):
        yield path, node
    elif isinstance(node, Repeat):
        usual = {leaf.options.values for _, leaf in _list_distinct_choices(node.each)}
        yield from _list_distinct_choices(node.each, join_path(path, _format_range(node)))
        for name, member in node.members.items():
            yield from (
                (p, leaf)
                for p, leaf in _list_distinct_choices(member, join_path(path, name))
                if leaf.options.values not in usual
            )
    else:
        for name, member in node.members.items():
            yield from _list_distinct_choices(member, join_path(path, name))


def _format_range(repeat: Repeat) -> str:
    return f"0-{len(repeat.members) - 1}" if len(repeat.members) > 1 else "0"


def _format_leaf(leaf: Leaf) -> str:
    return f"{_format_options(leaf.options)}{_format_condition(leaf.when)}"


def _format_options(options: Options) -> str:
    values = _format_values(options.values)
    if not isinstance(options, ManyOf):
        return values
    repeats = "without repetition" if options.is_distinct else "with repetition"
    return f"{options.k} of {values}, {repeats}, {'in this' if options.is_sorted else 'in any'} order"


def _format_values(values: Picked) -> str:
    if len(values) <= SHOWN_VALUES:
        return " | ".join(map(_format_value, values))
    first = " | ".join(map(_format_value, values[: SHOWN_VALUES - 2]))
    return f"{first} | \N{HORIZONTAL ELLIPSIS} | {_format_value(values[-1])} ({len(values):,} values)"


def _format_value(value: Choice) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _format_condition(when: When) -> str:
    conditions = " and ".join(f"{path} is {' or '.join(map(_format_value, values))}" for path, values in when.items())
    return f", if {conditions}" if conditions else ""


def _has_many_values(options: Options) -> bool:
    return len(options.values) > MANY_VALUES


def _format_exact(number: int) -> str:
    """Format a count; from a million on also in scientific notation.

    >>> _format_exact(432), _format_exact(9749755840167936)
    ('432', '9,749,755,840,167,936 (9.75e15)')
    """
    return f"{number:,}" if number < 10**6 else f"{number:,} ({_format_scientific(number)})"


def _format_scientific(number: int) -> str:
    """Format an integer of any size in scientific notation with three digits."""
    power = len(str(number)) - 1
    leading = round(number / 10 ** (power - 2)) / 100
    return f"{leading:g}e{power}"


def _to_millions(flops: int | None) -> float | None:
    return None if flops is None else flops / 1e6
