import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nasproxy.statistics.multiplicity import holm, permutation_p_values

NAN = float("nan")
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_holm_gives_the_adjusted_values_of_a_published_example() -> None:
    """The example of padjust in stdlib, which follows p.adjust of R."""
    adjusted = holm([0.319, 0.201, 0.4, 0.374, 0.113])
    np.testing.assert_allclose(adjusted, [0.957, 0.804, 0.957, 0.957, 0.565], atol=1e-12)


@given(P_VALUES)
def test_holm_lies_between_raw_and_bonferroni_and_keeps_the_order(p_values: list[float]) -> None:
    raw = np.array(p_values)
    adjusted = holm(raw)
    assert (adjusted >= raw).all()
    assert (adjusted <= np.minimum(raw * raw.size, 1.0) + 1e-15).all() or raw.size == 1
    assert (np.diff(adjusted[np.argsort(raw, kind="stable")]) >= 0).all()
    assert adjusted[raw.argmin()] == min(raw.min() * raw.size, 1.0)


@given(P_VALUES, st.floats(0.001, 0.5))
def test_holm_rejects_what_its_sequential_procedure_rejects(p_values: list[float], alpha: float) -> None:
    rejected: set[int] = set()
    for place, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[i] * (len(p_values) - place) > alpha:
            break
        rejected.add(i)
    assert set(np.flatnonzero(holm(p_values) <= alpha)) == rejected


def test_tests_not_yet_made_count_as_the_least_significant() -> None:
    np.testing.assert_array_equal(holm([0.01, NAN, 0.02]), [0.03, NAN, 0.04])
    np.testing.assert_array_equal(holm([0.01, 0.02], tests=4), [0.04, 0.06])


def test_impossible_p_values_and_plans_are_refused() -> None:
    with pytest.raises(ValueError, match=r"p_values must lie in \[0, 1\], got \[1.5\]"):
        holm([1.5])
    with pytest.raises(ValueError, match="tests must be at least the 2 given, got 1"):
        holm([0.1, 0.2], tests=1)


def test_the_p_value_of_a_single_row_is_the_one_sided_one_of_scipy() -> None:
    rng = np.random.default_rng(3)
    proxy, reference = rng.normal(size=(2, 9))
    proxy += 0.5 * reference
    expected = stats.kendalltau(proxy, reference, alternative="greater").pvalue
    assert permutation_p_values(proxy, reference, permutations=20_000) == pytest.approx(expected, abs=0.01)


def test_the_p_value_of_several_rows_is_that_of_their_largest_tau_under_scipys_permutations() -> None:
    rng = np.random.default_rng(5)
    reference = rng.normal(size=6)
    scores = 0.6 * reference + rng.normal(size=(3, 6))

    def largest(order: np.ndarray) -> float:
        return float(max(stats.kendalltau(row, order).statistic for row in scores))

    exact = stats.permutation_test(
        (reference,), largest, permutation_type="pairings", n_resamples=720, alternative="greater", vectorized=False
    )
    p_values = permutation_p_values(scores, reference, permutations=20_000)
    assert exact.null_distribution.size == 720
    assert p_values.min() == pytest.approx(exact.pvalue, abs=0.012)


def test_unrelated_tasks_are_rarely_called_related() -> None:
    rng = np.random.default_rng(0)
    smallest = []
    for _ in range(400):
        walk = rng.normal(size=(4, 10, 8)).cumsum(axis=1)  # checks of a task are correlated
        smallest.append(permutation_p_values(walk, rng.normal(size=8), permutations=199).min())
    assert np.mean(np.array(smallest) <= 0.1) < 0.1 + 3 * np.sqrt(0.1 * 0.9 / 400)


def test_a_perfect_task_among_unrelated_ones_is_found() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(size=12)
    scores = rng.normal(size=(5, 20, 12))
    scores[2, 19] = reference
    p_values = permutation_p_values(scores, reference)
    assert p_values.shape == (5, 20)
    assert p_values[2, 19] == pytest.approx(1 / 2001)
    assert np.delete(p_values.ravel(), 2 * 20 + 19).min() > 0.01


def test_a_row_of_fewer_models_needs_a_higher_tau() -> None:
    reference = np.arange(10.0)
    few, many = reference.copy(), reference.copy()
    few[5:] = NAN
    p_values = permutation_p_values([few, many, np.zeros(10)], reference)
    assert p_values[1] < p_values[0]
    assert np.isnan(p_values[2])


def test_the_same_seed_permutes_the_same_way() -> None:
    rng = np.random.default_rng(1)
    scores, reference = rng.normal(size=(3, 8)), rng.normal(size=8)
    first, again = (permutation_p_values(scores, reference, seed=7) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_a_permutation_test_needs_permutations_and_rows() -> None:
    with pytest.raises(ValueError, match="permutations must be at least 1, got 0"):
        permutation_p_values([[1.0, 2.0]], [1.0, 2.0], permutations=0)
    with pytest.raises(ValueError, match="scores must have shape"):
        permutation_p_values(1.0, [1.0])
