"""Description of a search space on standard output."""

import pytest

from helpers import search_spaces
from nasproxy.report import space_description as report
from nasproxy.report import wording
from nasproxy.report.terminal import print_tree
from nasproxy.space import SearchSpace
from nasproxy.storage.zero_cost_scores import ZeroCost


def described(choices):
    return SearchSpace("test", choices)


@pytest.fixture
def tree(capsys):
    """Draw the tree of choices as lines, to an output that is not a terminal."""

    def lines(choices):
        print_tree(report.draw_tree(described(choices)))
        return capsys.readouterr().out.splitlines()

    return lines


def test_the_tree_shows_values_conditions_and_repeated_groups_once(tree):
    assert tree(search_spaces.FEATURES) == [
        "choices",
        "├── activation: relu | silu",
        "├── stem",
        "│   └── kernel: 3 | 5",
        "├── blocks.0-1",
        "│   ├── op: conv | mbconv",
        "│   ├── expand: 1 | 3, if op is mbconv",
        "│   ├── deep, if expand is 3",
        "│   │   └── se: true | false",
        "│   └── but 1",
        "│       └── expand: 3 | 6",
        "├── inputs: 2 of 1 | 2 | 3 | 4, without repetition, in this order",
        "├── order: 3 of 2 | 3 | 3, without repetition, in any order",
        "├── free: 2 of a | b, with repetition, in any order, if stem.kernel is 5",
        "└── head, if activation is relu",
        "    └── dropout: 0.0 | 0.2",
    ]


def test_members_with_the_same_difference_are_listed_together(tree):
    assert tree(search_spaces.MNASNET)[-2:] == ["    └── but 0, 6", "        └── repeats: 0 | 1"]


def test_a_member_with_its_own_condition_is_listed(tree):
    each = {"kernel": [3, 5]}
    drawn = tree({"depth": [1, 2], "layers": {"repeat": 2, "each": each, "but": {1: {"when": {"depth": 2}}}}})
    assert drawn[-2:] == ["    └── but 1", "        └── if depth is 2"]


def test_repeated_choices_are_drawn_within_repeated_groups(tree):
    drawn = tree({"stages": {"repeat": 2, "each": {"repeat": 3, "each": [1, 2], "but": {0: [3]}}, "but": {}}})
    assert drawn == [
        "choices",
        "└── stages.0-1",
        "    └── 0-2: 1 | 2",
        "        └── but 0",
        "            └── 3",
    ]


def test_long_lists_of_values_are_cut(tree):
    assert tree({"size": list(range(100))})[1].endswith("8 | 9 | … | 99 (100 values)")
    assert tree({"size": ["x" * 100, "y" * 100]})[1] == f"└── size: {'x' * 100} | {'y' * 100}"


def test_the_size_of_a_space_is_described():
    assert list(report.describe_size(described(search_spaces.MNASNET))) == [
        "test: 42 decisions",
        "points: 9,749,755,840,167,936 (9.75e15)",
        "different architectures: 224,084,231,917,056 (2.24e14)",
    ]


@pytest.mark.parametrize(
    ("choices", "advice"),
    [
        (search_spaces.FEATURES, []),
        ({"model": list(range(1000))}, []),
        ({"layers": {"repeat": 20, "each": list(range(10))}}, []),
        ({"layers": {"repeat": 21, "each": list(range(10))}}, ["more than 1e20 architectures are too many"]),
        (
            {"layers": {"repeat": 2, "each": {"size": list(range(11)), "skip": [0, 1]}}, "other": list(range(12))},
            ["more than 10 values of a choice, each is sampled too rarely: layers.0-1.size (11), other (12);"],
        ),
        (
            {"layers": {"repeat": 2, "each": {"size": [1, 2]}, "but": {1: {"size": list(range(11))}}}},
            ["more than 10 values of a choice, each is sampled too rarely: layers.1.size (11);"],
        ),
    ],
)
def test_a_space_that_is_hard_to_search_gets_advice(choices, advice):
    given = list(report.advise_on_space(described(choices)))
    assert len(given) == len(advice)
    assert all(part in line for part, line in zip(advice, given, strict=True))


def test_an_architecture_is_outlined_group_by_group():
    blocks = {"blocks.0.op": "conv", "blocks.1.op": "mbconv", "blocks.1.se": True}
    architecture = {"activation": "relu", **blocks, "inputs.0": 1, "inputs.1": 4}
    assert report.outline_architecture(architecture) == (
        "activation=relu; blocks.0: op=conv; blocks.1: op=mbconv se=true; inputs: 1 4"
    )


def test_known_zero_cost_scores_are_columns_of_the_samples():
    known = report.SampledArchitecture("0", {"a": 1}, ZeroCost(1234, 2_500_000, None))
    unknown = report.SampledArchitecture("1", {"a": 2}, None)
    table = report.make_samples([known, unknown])
    assert [[column.text(row) for column in table.columns] for row in table.rows] == [
        ["0", "a=1", "1,234", "2.5"],
        ["1", "a=2", wording.MISSING, wording.MISSING],
    ]
    assert len(report.make_samples([unknown]).columns) == 2
