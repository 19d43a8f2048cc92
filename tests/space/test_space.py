"""Search spaces: counted, sampled without repeats, and strict about what belongs to them."""

import pickle
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasproxy.errors import SpaceError
from nasproxy.space import SearchSpace

VALUES = st.lists(st.integers(0, 20), min_size=1, max_size=5, unique=True)
NAMES = st.text("abc", min_size=1, max_size=2)
CHOICES = st.dictionaries(st.tuples(NAMES, NAMES).map(".".join), VALUES, min_size=1, max_size=4).filter(
    lambda choices: any(len(values) > 1 for values in choices.values())
)
SEEDS = st.integers(0, 2**32)
SMALL = {"kernel": [3, 5], "block": ["conv", "separable"], "rate": [0.5, 1]}


def space(choices=SMALL, baseline=None):
    return SearchSpace("test", choices, baseline)


@given(CHOICES)
def test_places_enumerate_the_space(choices):
    searched = space(choices)
    keys = {searched.key(searched.architecture(i)) for i in range(searched.size)}
    assert len(keys) == searched.size


@given(CHOICES, SEEDS, st.data())
def test_a_sample_repeats_nothing_and_belongs_to_the_space(choices, seed, data):
    searched = space(choices)
    n = data.draw(st.integers(0, searched.size))
    sample = searched.sample(n, seed)
    assert len({searched.key(architecture) for architecture in sample}) == len(sample) == n
    assert all(searched.canonical(architecture) == architecture for architecture in sample)


@given(CHOICES, SEEDS, st.data())
def test_a_smaller_sample_begins_a_larger_one(choices, seed, data):
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


def test_a_space_travels_between_processes():
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
        ({"rate": [1.0, float("nan")]}, "takes true, false, numbers and text, got nan"),
        ({"kernel": [3], "block": ["conv"]}, "needs at least 2 architectures to rank, got a single one"),
    ],
)
def test_an_unusable_space_is_refused(choices, message):
    with pytest.raises(SpaceError, match=message):
        space(choices)


def test_true_and_one_are_different_values():
    assert space({"skip": [True, 1]}).size == 2


@pytest.mark.parametrize("n", [-1, 9])
def test_a_sample_that_the_space_cannot_give_is_refused(n):
    with pytest.raises(SpaceError, match=f"has 8 different architectures, got a request for {n}"):
        space().sample(n, 0)


@pytest.mark.parametrize("index", [-1, 8])
def test_a_place_outside_the_space_is_refused(index):
    with pytest.raises(SpaceError, match=f"has places 0 to 7, got {index}"):
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
