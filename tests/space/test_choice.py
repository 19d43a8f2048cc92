"""Choices of several values: counting and ranking agree with an explicit list."""

import random
from itertools import combinations, combinations_with_replacement, permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasproxy.space.choice import ManyOf, OneOf, count_arrangements

LISTED = {
    (True, True): combinations,
    (True, False): permutations,
    (False, True): combinations_with_replacement,
    (False, False): lambda values, k: product(values, repeat=k),
}
CASES = [
    (tuple("abcde"[:n]), k, is_distinct, is_sorted)
    for n in range(1, 6)
    for is_distinct, is_sorted in LISTED
    for k in range(1, n + 1 if is_distinct else 4)
]
REPEATED = [("abb", 2), ("abb", 3), ("aab", 1), ("aabbb", 4), ("aaa", 2), ("abcc", 3), ("cabac", 5)]


def listed(values, k, is_distinct, is_sorted):
    """List all ways to choose entries, in order."""
    return list(LISTED[is_distinct, is_sorted](values, k))


@pytest.mark.parametrize(("values", "k", "is_distinct", "is_sorted"), CASES)
def test_ranks_of_several_values_agree_with_an_explicit_list(values, k, is_distinct, is_sorted):
    options, expected = ManyOf(values, k, is_distinct, is_sorted), listed(values, k, is_distinct, is_sorted)
    assert options.points == options.size == len(expected)
    assert [options.unrank(place) for place in range(options.size)] == expected
    assert [options.rank(picked) for picked in expected] == list(range(options.size))


@pytest.mark.parametrize(("values", "k"), REPEATED)
def test_repeated_entries_do_not_give_different_sequences(values, k):
    options, entries = ManyOf(tuple(values), k), list(permutations(values, k))
    different = [options.unrank(place) for place in range(options.size)]
    assert options.points == len(entries)
    assert sorted(different) == sorted(set(entries))
    assert [options.rank(picked) for picked in different] == list(range(options.size))


def test_sorted_values_are_in_declared_order():
    assert [ManyOf(("c", "a", "b"), 2, True, True).unrank(i) for i in range(3)] == [("c", "a"), ("c", "b"), ("a", "b")]
    assert ManyOf(("c", "a", "a"), 3).unrank(0) == ("c", "a", "a")


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=6), st.data())
def test_sequences_of_a_multiset_are_counted(values, data):
    k = data.draw(st.integers(1, len(values)))
    copies = tuple(values.count(value) for value in set(values))
    assert count_arrangements(copies, k) == len(set(permutations(values, k)))


def test_long_permutations_are_counted_and_ordered_without_listing_them():
    options = ManyOf(tuple(range(60)) * 2, 120)
    for place in (0, options.size // 3, options.size - 1):
        assert options.rank(options.unrank(place)) == place


@pytest.mark.parametrize(
    ("options", "picked", "admitted"),
    [
        (OneOf((1, 2)), [1.0], (1,)),
        (OneOf((1, 2)), [True], None),
        (OneOf((1, 2)), ["1"], None),
        (OneOf((1, 2)), [[1]], None),
        (ManyOf((1, 2, 3), 2), [3.0, 1], (3, 1)),
        (ManyOf((1, 2, 3), 2), [3, 3], None),
        (ManyOf((1, 2, 3), 2), [3, 4], None),
        (ManyOf((1, 2, 3), 2), [3, None], None),
        (ManyOf((1, 2, 2), 2), [2, 2], (2, 2)),
        (ManyOf((1, 2, 2), 2), [1, 1], None),
        (ManyOf((3, 1, 2), 2, True, True), [2, 3], (3, 2)),
        (ManyOf((1, 2), 2, False), [2, 2], (2, 2)),
        (ManyOf((True, 1, 0), 2), [1, True], (1, True)),
    ],
)
def test_chosen_values_are_converted_to_their_declared_form(options, picked, admitted):
    assert options.admit(picked) == admitted
    assert admitted is None or list(map(type, options.admit(picked))) == list(map(type, admitted))


VARIED = [
    (OneOf(("a", "b", "c", "d")), ("b",), {("a",), ("c",), ("d",)}),
    (ManyOf(("a", "b", "c"), 2), ("a", "b"), {("c", "b"), ("a", "c"), ("b", "a")}),
    (ManyOf(("a", "b", "c"), 3), ("a", "b", "c"), {("b", "a", "c"), ("c", "b", "a"), ("a", "c", "b")}),
    (ManyOf(("a", "b", "b"), 3), ("a", "b", "b"), {("b", "a", "b"), ("b", "b", "a")}),
    (ManyOf(("a", "b", "c"), 2, True, True), ("a", "c"), {("b", "c"), ("a", "b")}),
    (ManyOf(("a", "b"), 2, False), ("a", "a"), {("a", "b"), ("b", "a")}),
    (ManyOf(("a", "b"), 2, False, True), ("a", "a"), {("a", "b")}),
]


@pytest.mark.parametrize(("options", "picked", "near"), VARIED)
def test_variations_are_neighbours_and_all_are_reached(options, picked, near):
    generator = random.Random(0)
    assert {options.vary(picked, generator) for _ in range(200)} == near
