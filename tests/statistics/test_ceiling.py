import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nasproxy.errors import TooFewTrialsError
from nasproxy.statistics.ceiling import NoiseCeiling, check_range, compare_spread_with_noise, compute_noise_ceiling
from nasproxy.statistics.variance import SeedDeviation, seed_deviation

NAN = float("nan")
NOISELESS = SeedDeviation(sd=0.0, low=0.0, high=0.0, n=5)
SCORES = st.lists(st.integers(0, 100).map(float), min_size=1, max_size=9)


def perfect_tau(reliability: float) -> float:
    return 2 / math.pi * math.asin(math.sqrt(reliability))


def deviation(sd: float, n: int = 5) -> SeedDeviation:
    return SeedDeviation(sd=sd, low=0.5 * sd, high=3 * sd, n=n)


def test_the_ceiling_follows_the_formula_of_its_source() -> None:
    scores = [0.60, 0.65, 0.70, 0.72, 0.80]
    reliability = float(1 - 0.03**2 / np.var(scores, ddof=1))
    ceiling = compute_noise_ceiling([*scores, NAN], deviation(0.03))
    assert ceiling is not None
    assert ceiling.reliability == pytest.approx(reliability)
    assert ceiling.tau == pytest.approx(perfect_tau(reliability))
    assert 0 <= ceiling.low < ceiling.tau < ceiling.high <= 1


def test_the_ceiling_is_the_tau_between_true_and_noisy_scores() -> None:
    random = np.random.default_rng(3)
    true = random.normal(0, 1, 4000)
    noisy = true + random.normal(0, 0.7, 4000)
    ceiling = compute_noise_ceiling(noisy, deviation(0.7))
    assert ceiling is not None
    assert ceiling.tau == pytest.approx(stats.kendalltau(true, noisy).statistic, abs=0.02)


@pytest.mark.parametrize(("n_models", "n_seeds"), [(10, 5), (30, 3)])
def test_the_interval_holds_the_true_ceiling_in_95_of_100_studies(n_models: int, n_seeds: int) -> None:
    random = np.random.default_rng(7)
    spread, noise = 1.0, 0.5
    truth = perfect_tau(spread**2 / (spread**2 + noise**2))
    holds = []
    for _ in range(500):
        references = random.normal(0, math.hypot(spread, noise), n_models)
        ceiling = compute_noise_ceiling(references, seed_deviation(random.normal(0, noise, n_seeds)))
        assert ceiling is not None
        holds.append(ceiling.low <= truth <= ceiling.high)
    assert np.mean(holds) == pytest.approx(0.95, abs=0.025)


@given(st.floats(0.0, 2.0), st.floats(0.0, 2.0))
def test_more_noise_never_raises_the_ceiling(sd: float, more: float) -> None:
    scores = [0.0, 1.0, 2.0, 4.0]
    ceiling, lower = compute_noise_ceiling(scores, deviation(sd)), compute_noise_ceiling(scores, deviation(sd + more))
    assert ceiling is not None
    assert lower is not None
    assert 0 <= lower.tau <= ceiling.tau <= 1
    assert ceiling.low <= ceiling.tau <= ceiling.high


def test_without_noise_a_proxy_can_be_perfect() -> None:
    ceiling = compute_noise_ceiling([1.0, 2.0, 3.0], NOISELESS)
    assert ceiling == NoiseCeiling(tau=1.0, low=1.0, high=1.0, reliability=1.0)


def test_the_ceiling_is_0_if_noise_exceeds_the_spread() -> None:
    ceiling = compute_noise_ceiling([1.0, 1.1, 1.2], deviation(1.0))
    assert ceiling is not None
    assert (ceiling.tau, ceiling.low, ceiling.reliability) == (0.0, 0.0, 0.0)


def test_equal_reference_scores_have_no_ceiling() -> None:
    assert compute_noise_ceiling([0.7, 0.7, 0.7], deviation(0.01)) is None


def test_a_ceiling_needs_two_scores() -> None:
    with pytest.raises(TooFewTrialsError, match="needs 2 of them, got 1"):
        compute_noise_ceiling([0.7, NAN], deviation(0.01))


def test_spread_over_noise_uses_the_better_half() -> None:
    scores = [0.0, 0.1, 0.2, 0.7, 0.8, 0.9]
    assert compare_spread_with_noise(scores, 0.02) == pytest.approx(np.std([0.7, 0.8, 0.9], ddof=1) / 0.02)
    assert compare_spread_with_noise([*scores, NAN], 0.02) == compare_spread_with_noise(scores, 0.02)


def test_spread_over_no_noise_is_undefined() -> None:
    assert compare_spread_with_noise([0.1, 0.2, 0.3], 0.0) is None


def test_spread_needs_three_scores() -> None:
    with pytest.raises(TooFewTrialsError, match="needs 3 of them, got 2"):
        compare_spread_with_noise([0.1, 0.2], 0.01)


def test_scores_around_two_values_are_not_usable() -> None:
    check = check_range([0.10, 0.11, 0.10, 0.12, 0.90, 0.91, 0.895], sd=0.01)
    assert (check.is_usable, check.distinct_groups) == (False, 2)
    assert check.message == (
        "2 of 7 scores between 0.1 and 0.91 are distinguishable, more than 2 seed SDs (0.02) apart; "
        "a ranking needs 4: widen the search space, add reference models, or reduce seed noise"
    )


def test_scores_far_apart_are_usable() -> None:
    check = check_range([0.1, 0.3, NAN, 0.5, 0.7], sd=0.02)
    assert (check.is_usable, check.distinct_groups) == (True, 4)
    assert "takes" not in check.message


def test_the_minimum_number_of_groups_is_an_argument() -> None:
    assert check_range([0.1, 0.9], sd=0.01, min_groups=2).is_usable


def test_many_models_on_a_wide_range_are_usable() -> None:
    assert check_range(np.linspace(0.5, 0.9, 30), sd=0.02).is_usable


@given(SCORES, st.integers(0, 20).map(float))
def test_groups_count_the_most_models_that_can_be_distinguished(scores: list[float], sd: float) -> None:
    def is_apart(chosen: tuple[float, ...]) -> bool:
        return all(b - a > 2 * sd for a, b in itertools.pairwise(chosen))

    subsets = (c for k in range(1, len(scores) + 1) for c in itertools.combinations(sorted(scores), k))
    assert check_range(scores, sd).distinct_groups == max(len(c) for c in subsets if is_apart(c))


@given(SCORES, st.integers(0, 100).map(float), st.floats(0, 10))
def test_adding_a_model_never_reduces_the_groups(scores: list[float], another: float, sd: float) -> None:
    before, after = check_range(scores, sd), check_range([*scores, another], sd)
    assert before.distinct_groups <= after.distinct_groups <= before.distinct_groups + 1


def test_no_score_has_no_range() -> None:
    with pytest.raises(TooFewTrialsError, match="needs 1 of them, got 0"):
        check_range([NAN], sd=0.01)


@pytest.mark.parametrize("measure", [check_range, compare_spread_with_noise])
def test_a_negative_deviation_is_refused(measure: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match="sd must be at least 0, got -1"):
        measure([1.0, 2.0, 3.0], -1)
