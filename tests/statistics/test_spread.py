import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nasproxy.errors import ConfigError
from nasproxy.statistics.spread import (
    cumulative_fractions,
    pool_sizes,
    removal_count,
    remove_closest,
    selection_cost,
)

POINTS = st.lists(st.tuples(st.integers(0, 12).map(float), st.integers(0, 12).map(float)), min_size=1, max_size=12)


def scaled(values: list[float]) -> list[float]:
    span = max(values) - min(values) + float(np.finfo(np.float32).eps)
    return [(value - min(values)) / span for value in values]


def remove_literally(accuracy: list[float], latency_ms: list[float], n_remove: int) -> list[int]:
    """Apply the rule literally."""
    points = dict(enumerate(zip(scaled(accuracy), scaled(latency_ms), strict=True)))
    removed: list[int] = []
    for _ in range(n_remove):
        if len(points) <= 2:
            break
        neighbours = {
            a: sorted((measure_distance(p, q), b) for b, q in points.items() if b != a) for a, p in points.items()
        }
        i = min(neighbours, key=lambda a: neighbours[a][0][0])
        j = neighbours[i][0][1]
        out = i if neighbours[i][1][0] < neighbours[j][1][0] else j
        removed.append(out)
        del points[out]
    return removed


def measure_distance(p: tuple[float, float], q: tuple[float, float]) -> float:
    """Measure the distance with products: `**` may round otherwise, and equal distances would differ."""
    x, y = p[0] - q[0], p[1] - q[1]
    return math.sqrt(x * x + y * y)


@example([(2.0, 3.0), (4.0, 4.0), (8.0, 0.0), (10.0, 1.0)], 1)
@given(POINTS, st.integers(0, 14))
def test_the_removed_models_match_a_literal_implementation(points: list[tuple[float, float]], n_remove: int) -> None:
    accuracy, latency_ms = ([point[axis] for point in points] for axis in (0, 1))
    assert remove_closest(accuracy, latency_ms, n_remove) == remove_literally(accuracy, latency_ms, n_remove)
    assert remove_closest(accuracy, None, n_remove) == remove_literally(accuracy, [0.0] * len(accuracy), n_remove)


@pytest.mark.parametrize("seed", range(5))
def test_selection_from_thirty_models_matches_a_literal_implementation(seed: int) -> None:
    accuracy, latency_ms = np.random.default_rng(seed).random((2, 30)).tolist()
    assert remove_closest(accuracy, latency_ms, 20) == remove_literally(accuracy, latency_ms, 20)


@given(POINTS, st.integers(0, 14))
def test_two_models_always_remain_and_none_is_removed_twice(points: list[tuple[float, float]], n_remove: int) -> None:
    removed = remove_closest([a for a, _ in points], [b for _, b in points], n_remove)
    assert len(removed) == len(set(removed)) == min(n_remove, max(0, len(points) - 2))
    assert set(removed) <= set(range(len(points)))


@given(POINTS, st.integers(0, 6))
def test_removing_more_models_removes_the_same_ones_first(points: list[tuple[float, float]], n_remove: int) -> None:
    accuracy = [a for a, _ in points]
    assert remove_closest(accuracy, None, n_remove + 1)[:n_remove] == (remove_closest(accuracy, None, n_remove))


def test_the_more_crowded_of_the_closest_pair_is_removed() -> None:
    assert remove_closest([0.0, 0.5, 0.6, 1.0], None, 1) == [2]
    assert remove_closest([0.0, 0.4, 0.5, 1.0], None, 1) == [1]


def test_latency_keeps_models_of_equal_accuracy_apart() -> None:
    assert remove_closest([0.5, 0.5, 0.9, 0.8], [10.0, 90.0, 50.0, 50.0], 1) == [3]


def test_nothing_is_removed_from_an_empty_set() -> None:
    assert remove_closest([], None, 3) == []


def test_models_without_a_score_are_refused() -> None:
    with pytest.raises(ValueError, match="must have no missing values, got NaN"):
        remove_closest([0.1, float("nan"), 0.3], None, 1)


def test_latencies_of_other_models_are_refused() -> None:
    with pytest.raises(ValueError, match="got accuracy 2, latency_ms 1"):
        remove_closest([0.1, 0.2], [5.0], 1)


def test_a_negative_number_of_removals_is_refused() -> None:
    with pytest.raises(ValueError, match="n_remove must be at least 0, got -1"):
        remove_closest([0.1, 0.2, 0.3], None, -1)


@pytest.mark.parametrize(
    ("n_valid", "n_invalid", "expected"),
    [(30, 0, 5), (28, 2, 3), (25, 5, 0), (22, 8, 0), (12, 0, 2), (10, 0, 0), (7, 0, 0), (0, 0, 0)],
)
def test_invalid_models_count_as_removed(n_valid: int, n_invalid: int, expected: int) -> None:
    assert removal_count(n_valid, n_invalid) == expected


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 40), st.integers(1, 20))
def test_removal_keeps_two_of_two_models(n_valid: int, n_invalid: int, per_iteration: int, final: int) -> None:
    count = removal_count(n_valid, n_invalid, per_iteration=per_iteration, final=final)
    assert 0 <= count <= per_iteration
    assert n_valid - count >= min(n_valid, 2)


def test_six_early_failures_shrink_the_pool_as_documented() -> None:
    sizes, n_invalid = [30], 6
    while sizes[-1] > 10:
        n_valid = sizes[-1] - n_invalid
        sizes.append(n_valid - removal_count(n_valid, n_invalid))
        n_invalid = 0
    assert sizes[1:4] == [24, 19, 14]
    assert sizes[-1] == 10


def test_iterations_train_to_the_documented_fractions() -> None:
    assert cumulative_fractions() == pytest.approx([0.03333, 0.07333, 0.12333, 0.19, 1.0], abs=1e-5)
    from_fifty = cumulative_fractions(start=50)
    assert from_fifty[0] == 0.02
    assert from_fifty[-2:] == pytest.approx([0.28579365079365, 1.0])


@given(st.integers(1, 200), st.integers(5, 30), st.integers(5, 10))
def test_fractions_increase_to_full_training(start: int, final: int, per_iteration: int) -> None:
    fractions = cumulative_fractions(start, final, per_iteration)
    assert len(fractions) == len(pool_sizes(start, final, per_iteration))
    assert fractions[-1] == 1.0
    assert fractions[0] > 0
    assert (np.diff(fractions) > 0).all()


def test_a_selection_without_anything_to_remove_trains_to_the_end() -> None:
    assert (pool_sizes(8), cumulative_fractions(8), selection_cost(8)) == ([8], [1.0], 8.0)


def test_the_last_step_stops_at_the_final_size() -> None:
    assert pool_sizes(start=12, final=10) == [12, 10]


def test_the_cost_is_12_1_full_trainings() -> None:
    by_hand = 30 / 30 + 25 / 25 + 20 / 20 + 15 / 15 + 10 * 0.81
    assert selection_cost() == pytest.approx(by_hand) == pytest.approx(12.1)
    assert selection_cost(start=50) == pytest.approx(15.1, abs=0.05)


def test_a_selection_that_never_ends_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"must leave training for its last iteration, got 4\.66 trainings"):
        cumulative_fractions(start=1000, final=9, per_iteration=1)


@pytest.mark.parametrize("plan", [{"per_iteration": 0}, {"final": 0}], ids=str)
def test_a_plan_without_models_is_refused(plan: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"selection.\w+ must be at least 1, got 0"):
        removal_count(30, 0, **plan)


def test_a_selection_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="must start with 1 model or more, got 0"):
        pool_sizes(0)
