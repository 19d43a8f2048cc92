"""Search spaces: counting, sampling, mutation and validation."""

import json
import pickle
from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from helpers import search_spaces
from nasproxy.errors import SpaceError
from nasproxy.space import SearchSpace

VALUES = st.lists(st.integers(0, 20), min_size=1, max_size=5, unique=True)
NAMES = st.text("abc", min_size=1, max_size=2)
CHOICES = st.dictionaries(st.tuples(NAMES, NAMES).map(".".join), VALUES, min_size=1, max_size=4).filter(
    lambda choices: any(len(values) > 1 for values in choices.values())
)
LARGE = {"mnasnet": search_spaces.MNASNET, "spinenet": search_spaces.SPINENET, "autoaugment": search_spaces.AUTOAUGMENT}
SEEDS = st.integers(0, 2**32)
SMALL = {"kernel": [3, 5], "block": ["conv", "separable"], "rate": [0.5, 1]}


def space(choices=SMALL, baseline=None):
    return SearchSpace("test", choices, baseline)


def choice_of(tree, slot):
    """Find the choice of a slot."""
    return slot if slot in tree else slot.rpartition(".")[0]


def made_up(tree):
    """Make the space of a random tree; reject trees that are not a space."""
    try:
        return space(tree)
    except SpaceError as error:
        assume("never hold together" not in str(error) and "a single one" not in str(error))
        raise


@given(search_spaces.trees())
def test_the_size_counts_points_that_differ_in_effect(tree):
    searched, points = made_up(tree), search_spaces.points(tree)
    different = {
        searched.key(search_spaces.spelled_out(tree, search_spaces.effective(tree, point))) for point in points
    }
    assert searched.points == len(points)
    assert searched.size == len(different)
    assert {searched.key(search_spaces.spelled_out(tree, point)) for point in points} == different
    assert {searched.key(searched.architecture(place)) for place in range(searched.size)} == different


@given(search_spaces.trees())
def test_index_and_architecture_are_inverse(tree):
    searched = made_up(tree)
    for place in range(searched.size):
        architecture = searched.architecture(place)
        assert searched.index(architecture) == place
        assert list(searched.canonical(architecture).items()) == list(architecture.items())
        assert searched.from_json(searched.to_json(architecture)) == architecture


@given(search_spaces.trees(), SEEDS)
def test_a_whole_space_is_sampled_each_architecture_once(tree, seed):
    searched = made_up(tree)
    sample = searched.sample(searched.size, seed)
    assert sorted(map(searched.index, sample)) == list(range(searched.size))


@given(search_spaces.trees(), SEEDS, st.data())
def test_a_mutation_differs_in_one_choice(tree, seed, data):
    searched = made_up(tree)
    old = searched.architecture(data.draw(st.integers(0, searched.size - 1)))
    new = searched.mutate(old, seed)
    assert new == searched.mutate(old, seed) == searched.canonical(new) != old
    changed = {choice_of(tree, slot) for slot in {*old} & {*new} if old[slot] != new[slot]}
    assert len(changed) == 1, "all other choices are new, removed or unchanged"


def test_mutations_reach_the_whole_space():
    tree = {name: search_spaces.FEATURES[name] for name in ("activation", "inputs", "order", "head")}
    searched = space(tree)
    seen = {0}
    for seed in range(3000):
        seen.add(searched.index(searched.mutate(searched.architecture(sorted(seen)[seed % len(seen)]), seed)))
    assert len(seen) == searched.size == (2 + 1) * 6 * 3


def test_choices_that_a_mutation_creates_have_random_values():
    searched = space({"op": ["conv", "mbconv"], "expand": {"oneof": [1, 3, 6], "when": {"op": "mbconv"}}})
    mutated = Counter(searched.mutate({"op": "conv"}, seed)["expand"] for seed in range(600))
    assert all(150 < mutated[value] < 250 for value in (1, 3, 6))


def test_mnasnet_is_as_large_as_its_paper_says_and_few_of_its_points_differ():
    searched = space(search_spaces.MNASNET)
    assert searched.decisions == 42
    assert searched.points == 2**2 * 3**5 * (2 * 3 * 2 * 2 * 3) ** 7 == 9_749_755_840_167_936
    assert searched.size == 2**2 * 3**5 * (2 * 3 * (1 + 3 * 2)) ** 7 == 224_084_231_917_056


def test_permuted_orders_and_augmentations_are_counted():
    spinenet, autoaugment = space(search_spaces.SPINENET), space(search_spaces.AUTOAUGMENT)
    orders = 39_916_800 * 120
    assert spinenet.points == (4 * 2 * 6) ** 11 * 6**5 * orders
    assert spinenet.size == spinenet.points // (6 * 120 * 2)
    assert autoaugment.size == autoaugment.points == (13 * 11 * 11) ** 10
    assert autoaugment.decisions == 30


@pytest.mark.parametrize("name", LARGE)
def test_samples_of_a_large_space_have_their_index(name):
    searched = space(LARGE[name])
    sample = searched.sample(200, 0)
    assert [searched.architecture(searched.index(architecture)) for architecture in sample] == sample
    mutated = [searched.mutate(architecture, seed) for seed, architecture in enumerate(sample)]
    assert all(searched.canonical(new) == new != old for new, old in zip(mutated, sample, strict=True))


def test_sampling_is_uniform_over_architectures_with_conditions():
    searched = space(search_spaces.MNASNET)
    sample = searched.sample(4000, 0)
    share = sum(architecture["blocks.3.block_fn"] == "mbconv" for architecture in sample) / 4000
    assert 0.83 < share < 0.88, "six of seven distinct blocks are of this kind"


def test_an_architecture_survives_serialization():
    searched = space(search_spaces.FEATURES)
    (architecture,) = searched.sample(1, 0)
    text = searched.to_json(architecture)
    assert list(json.loads(text)) == list(architecture)
    assert searched.from_json(text) == architecture
    assert searched.from_json(json.dumps(dict(reversed(architecture.items())))) == architecture


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "an architecture of 'test' must be JSON, got '{'"),
        ("[3]", r"must map its choices to values, got \[3\]"),
        ('{"kernel": 3, "block": "conv"}', "needs a value for each choice, got none for rate"),
        ('{"kernel": 3, "block": "conv", "rate": NaN}', "must be one of .* got nan"),
        ('{"kernel": 3, "block": "conv", "rate": {"a": 1}}', "got rate.a too"),
    ],
)
def test_text_that_is_not_an_architecture_is_refused(text, message):
    with pytest.raises(SpaceError, match=message):
        space().from_json(text)


def test_values_of_choices_that_do_not_exist_are_dropped():
    searched = space({"op": ["conv", "mbconv"], "expand": {"oneof": [1, 3], "when": {"op": "mbconv"}}})
    assert searched.canonical({"expand": "nonsense", "op": "conv"}) == {"op": "conv"}
    assert searched.key({"expand": 1, "op": "conv"}) == searched.key({"expand": 3, "op": "conv"})
    with pytest.raises(SpaceError, match=r"must be one of .* got 'nonsense'"):
        searched.canonical({"expand": "nonsense", "op": "mbconv"})


def test_unordered_values_are_sorted_as_declared():
    searched = space({"inputs": {"manyof": [4, 2, 3], "k": 2, "sorted": True}})
    assert searched.canonical({"inputs.0": 3, "inputs.1": 4}) == {"inputs.0": 4, "inputs.1": 3}
    with pytest.raises(SpaceError, match=r"must be 2 entries of \[4, 2, 3\] in declared order, got \[3, 3\]"):
        searched.canonical({"inputs.0": 3, "inputs.1": 3})


def test_a_baseline_can_be_nested_with_lists_for_numbered_groups():
    blocks = [{"op": "conv"}, {"op": "mbconv", "expand": 6}]
    common = {"activation": "silu", "stem": {"kernel": 3}, "inputs": [1, 4], "order": [3, 2, 3]}
    flat = {"blocks.0.op": "conv", "blocks.1.op": "mbconv", "blocks.1.expand": 6, "activation": "silu"}
    baseline = space(search_spaces.FEATURES, {**common, "blocks": blocks}).baseline
    assert {path: baseline[path] for path in flat} == flat
    assert baseline == space(search_spaces.FEATURES, {**common, "blocks": dict(enumerate(blocks))}).baseline
    with pytest.raises(SpaceError, match="must map its choices to values, got 3"):
        space(baseline=3)


def test_a_space_as_long_as_a_table_is_built_and_sampled():
    searched = space({"architecture": [f"model{i}" for i in range(100_000)]})
    assert searched.size == 100_000
    assert searched.index({"architecture": "model99999"}) == 99_999


def test_a_thousand_choices_need_no_deep_recursion():
    kernel = {"oneof": [3, 5], "when": {"skip": False}}
    searched = space({"layers": {"repeat": 1000, "each": {"skip": [True, False], "kernel": kernel}}})
    assert searched.size == 3**1000
    assert searched.index(searched.architecture(3**999)) == 3**999


@given(CHOICES)
def test_indices_enumerate_the_space(choices):
    searched = space(choices)
    keys = {searched.key(searched.architecture(i)) for i in range(searched.size)}
    assert len(keys) == searched.size


@given(CHOICES, SEEDS, st.data())
def test_a_sample_has_no_repetitions_and_belongs_to_the_space(choices, seed, data):
    searched = space(choices)
    n = data.draw(st.integers(0, searched.size))
    sample = searched.sample(n, seed)
    assert len({searched.key(architecture) for architecture in sample}) == len(sample) == n
    assert all(searched.canonical(architecture) == architecture for architecture in sample)


@given(CHOICES, SEEDS, st.data())
def test_a_smaller_sample_is_a_prefix_of_a_larger_one(choices, seed, data):
    searched = space(choices)
    fewer, more = sorted(data.draw(st.lists(st.integers(0, searched.size), min_size=2, max_size=2)))
    assert searched.sample(more, seed)[:fewer] == searched.sample(fewer, seed)


def test_a_huge_space_is_sampled_without_enumeration():
    searched = space({f"layer{i}": list(range(10)) for i in range(60)})
    assert searched.size == 10**60
    assert len({searched.key(architecture) for architecture in searched.sample(100, 0)}) == 100


def test_samples_are_uniform():
    searched = space()
    counts = Counter(searched.key(architecture) for seed in range(2000) for architecture in searched.sample(2, seed))
    assert len(counts) == 8
    assert all(400 < count < 600 for count in counts.values())


def test_other_seeds_give_other_samples():
    searched = space({f"layer{i}": [1, 2, 3] for i in range(10)})
    assert searched.sample(5, 0) != searched.sample(5, 1)


def test_equal_architectures_have_one_key():
    searched = space()
    one = {"rate": 1.0, "block": "conv", "kernel": 3}
    other = {"kernel": 3, "block": "conv", "rate": 1}
    assert searched.key(one) == searched.key(other)
    assert list(searched.canonical(one)) == ["kernel", "block", "rate"]
    assert searched.canonical(one) == other


def test_the_baseline_takes_the_canonical_form():
    searched = space(baseline={"rate": 1.0, "block": "conv", "kernel": 3})
    assert list(searched.baseline) == ["kernel", "block", "rate"]


def test_a_space_can_be_pickled():
    assert pickle.loads(pickle.dumps(space())).sample(3, 0) == space().sample(3, 0)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({}, "search space 'test' needs choices, got none"),
        ({"kernel": []}, r"choice 'kernel' of 'test' needs a list of values, got \[\]"),
        ({"kernel": 3}, "needs a list of values, got 3"),
        ({"block": "conv"}, "needs a list of values, got 'conv'"),
        ({"kernel": [3, 5, 3]}, "needs different values, got 3 twice"),
        ({"rate": [1, 1.0]}, "needs different values, got 1.0 twice"),
        ({"kernel": [3, None]}, "takes true, false, numbers and text, got None"),
        ({"rate": [1.0, float("nan")]}, r'takes finite numbers, got nan: quote it for the text, as in \[none, "nan"\]'),
        ({"rate": [1.0, float("-inf")]}, r'takes finite numbers, got -inf: quote it for the text, as in .*"-inf"'),
        (
            {"op": ["conv", "nan"], "rate": {"oneof": [1], "when": {"op": float("nan")}}},
            "takes finite numbers, got nan",
        ),
        ({"kernel": [3], "block": ["conv"]}, "needs at least 2 architectures to rank, got a single one"),
    ],
)
def test_an_unusable_space_is_refused(choices, message):
    with pytest.raises(SpaceError, match=message):
        space(choices)


def test_quoted_nan_and_inf_are_text():
    assert space({"fault": ["none", "nan", "inf"]}).size == 3


def test_the_values_of_a_long_choice_are_cut_in_a_message():
    with pytest.raises(SpaceError, match=r"must be one of \[0, 1, 2, .* \.\.\., got -1") as caught:
        space({"quality": list(range(100))}).canonical({"quality": -1})
    assert len(str(caught.value)) < 300


def test_true_and_one_are_different_values():
    assert space({"skip": [True, 1]}).size == 2


@pytest.mark.parametrize("n", [-1, 9])
def test_a_sample_larger_than_the_space_is_refused(n):
    with pytest.raises(SpaceError, match=f"has 8 different architectures, got a request for {n}"):
        space().sample(n, 0)


@pytest.mark.parametrize("index", [-1, 8])
def test_an_index_outside_the_space_is_refused(index):
    with pytest.raises(SpaceError, match=f"has indices 0 to 7, got {index}"):
        space().architecture(index)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"kernel": 3, "block": "conv"}, "needs a value for each choice, got none for rate: add it"),
        ({"kernel": 3, "block": "conv", "rate": 1, "depth": 2}, "got depth too: remove it"),
        ({"kernel": 4, "block": "conv", "rate": 1}, r"'kernel' of 'test' must be one of \[3, 5\], got 4"),
        ({"kernel": 3, "block": "conv", "rate": True}, "'rate' of 'test' must be one of .* got True"),
    ],
)
def test_an_architecture_outside_the_space_is_refused(architecture, message):
    with pytest.raises(SpaceError, match=message):
        space().canonical(architecture)
    with pytest.raises(SpaceError, match=message):
        space(baseline=architecture)
