import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from nasproxy.errors import TooFewTrialsError
from nasproxy.statistics.rank_correlation import (
    kendall_tau,
    rank_failed_last,
    spearman,
    tau_in_better_half,
    top_k_regret,
    weighted_tau,
)

NAN = float("nan")
RANKS = list(range(10))
SCORE = st.integers(-20, 20).map(float)


def score_pairs(min_size: int = 5, max_size: int = 15) -> st.SearchStrategy[tuple[list[float], list[float]]]:
    """Draw proxy and reference scores of the same models, with ties."""
    pairs = st.lists(st.tuples(SCORE, SCORE), min_size=min_size, max_size=max_size)
    return pairs.map(lambda rows: ([a for a, _ in rows], [b for _, b in rows]))


def swapped(n: int, discordant: int) -> list[int]:
    """Make a ranking of n models with a given number of discordant pairs."""
    ranks = list(range(n))
    for _ in range(discordant):
        i = next(i for i in range(n - 1) if ranks[i] < ranks[i + 1])
        ranks[i], ranks[i + 1] = ranks[i + 1], ranks[i]
    return ranks


@given(score_pairs())
def test_tau_and_its_p_value_are_those_of_scipy(scores: tuple[list[float], list[float]]) -> None:
    expected = stats.kendalltau(*scores)
    result = kendall_tau(*scores)
    if math.isnan(expected.statistic):
        assert result is None
    else:
        assert result is not None
        assert (result.tau, result.p_value) == (expected.statistic, expected.pvalue)


@given(score_pairs())
def test_tau_is_invariant_under_monotone_transforms(scores: tuple[list[float], list[float]]) -> None:
    proxy, reference = (np.array(side) for side in scores)
    assert kendall_tau(np.exp(proxy / 10), reference**3) == kendall_tau(proxy, reference)


@given(score_pairs())
def test_tau_changes_sign_with_the_direction_of_a_score(scores: tuple[list[float], list[float]]) -> None:
    proxy, reference = scores
    straight, turned = kendall_tau(proxy, reference), kendall_tau([-p for p in proxy], reference)
    assume(straight is not None)
    assert straight is not None
    assert turned is not None
    assert (turned.tau, turned.low, turned.high) == pytest.approx((-straight.tau, -straight.high, -straight.low))


@given(score_pairs(), st.data())
def test_the_order_of_models_does_not_matter(scores: tuple[list[float], list[float]], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(scores[0]))))
    proxy, reference = (np.array(side)[order] for side in scores)
    assert kendall_tau(proxy, reference) == kendall_tau(*scores)
    assert top_k_regret(proxy, reference) == top_k_regret(*scores)


@given(score_pairs())
def test_the_interval_holds_tau_and_stays_within_bounds(scores: tuple[list[float], list[float]]) -> None:
    result = kendall_tau(*scores)
    assume(result is not None)
    assert result is not None
    assert -1 <= result.low <= result.tau <= result.high <= 1
    assert result.low < result.high


@pytest.mark.parametrize(
    ("n", "low", "high"), [(10, 0.24, 0.86), (20, 0.42, 0.80), (50, 0.53, 0.75)], ids="n={}".format
)
def test_the_interval_at_tau_0_65_is_the_published_one(n: int, low: float, high: float) -> None:
    pairs = n * (n - 1) // 2
    result = kendall_tau(swapped(n, round(pairs * (1 - 0.65) / 2)), range(n))
    assert result is not None
    assert result.tau == pytest.approx(0.65, abs=0.02)
    assert (result.low, result.high) == pytest.approx((low, high), abs=0.021)


def test_the_interval_follows_the_formula_of_its_source() -> None:
    result = kendall_tau(swapped(10, 9), RANKS)
    assert result is not None
    assert result.tau == pytest.approx(27 / 45)
    reach = 1.96 * math.sqrt(0.437 / 6)
    expected = (math.tanh(math.atanh(0.6) - reach), math.tanh(math.atanh(0.6) + reach))
    assert (result.low, result.high) == pytest.approx(expected)


def test_the_p_value_of_22_of_28_pairs_is_the_documented_one() -> None:
    result = kendall_tau(swapped(8, 3), range(8))
    assert result is not None
    assert result.tau == pytest.approx(22 / 28)
    assert result.p_value == pytest.approx(0.005505952380952381)
    assert result.n == 8


@pytest.mark.parametrize("sign", [1, -1])
def test_perfect_ranks_have_an_interval_that_ends_at_them(sign: int) -> None:
    result = kendall_tau([sign * rank for rank in RANKS], RANKS)
    assert result is not None
    near, far = sorted((result.low, result.high), key=abs)
    assert result.tau == pytest.approx(sign)
    assert far == result.tau
    assert near * sign == pytest.approx(0.937, abs=0.001)


@pytest.mark.parametrize("measure", [kendall_tau, spearman, weighted_tau])
def test_a_constant_side_leaves_the_correlation_undefined(measure: Callable[..., object]) -> None:
    assert measure([0.5] * 10, RANKS) is None
    assert measure(RANKS, [0.5] * 10) is None


@pytest.mark.parametrize("measure", [kendall_tau, spearman, weighted_tau, top_k_regret])
def test_models_without_both_scores_are_ignored(measure: Callable[..., object]) -> None:
    proxy, reference = [3.0, 1.0, 2.0, 5.0, 4.0], [1.0, 2.0, 3.0, 4.0, 5.0]
    assert measure([*proxy, NAN, 9.0], [*reference, 9.0, NAN]) == measure(proxy, reference)


@pytest.mark.parametrize("measure", [kendall_tau, spearman, weighted_tau])
def test_too_few_models_raise(measure: Callable[..., object]) -> None:
    with pytest.raises(TooFewTrialsError, match=r"needs 5 models .* got 4 of 5"):
        measure([1.0, 2.0, 3.0, 4.0, NAN], range(5))


def test_the_interval_of_four_models_is_the_whole_range() -> None:
    result = kendall_tau([1, 3, 2], [1, 2, 3], min_pairs=3)
    assert result is not None
    assert (result.low, result.high) == (-1.0, 1.0)


@given(score_pairs())
def test_spearman_and_weighted_tau_are_those_of_scipy(scores: tuple[list[float], list[float]]) -> None:
    assume(kendall_tau(*scores) is not None)
    assert spearman(*scores) == pytest.approx(stats.spearmanr(*scores).statistic)
    assert weighted_tau(*scores) == pytest.approx(stats.weightedtau(*scores).statistic)


def test_weighted_tau_weighs_the_top_more_than_the_bottom() -> None:
    top_wrong, bottom_wrong = [*range(8), 9, 8], [1, 0, *range(2, 10)]
    at_top, at_bottom = weighted_tau(top_wrong, RANKS), weighted_tau(bottom_wrong, RANKS)
    assert at_top is not None
    assert at_bottom is not None
    assert at_top < at_bottom


@given(score_pairs(min_size=4), st.integers(1, 4))
def test_regret_is_never_negative_and_falls_with_k(scores: tuple[list[float], list[float]], k: int) -> None:
    regret = top_k_regret(*scores, k=k)
    assert regret >= 0
    assert top_k_regret(*scores, k=len(scores[0])) == 0
    if k > 1:
        assert regret <= top_k_regret(*scores, k=k - 1)


def test_regret_takes_ties_at_the_edge_against_the_proxy() -> None:
    assert top_k_regret([1, 1, 1, 0], [0.25, 0.5, 1.0, 0.0], k=2) == 0.5


def test_regret_needs_a_top() -> None:
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        top_k_regret(RANKS, RANKS, k=0)
    with pytest.raises(TooFewTrialsError, match="needs 3 models"):
        top_k_regret([1, 2], [1, 2])


def test_tau_in_the_better_half_ignores_the_other_models() -> None:
    better_half_turned = [0, 1, 2, 3, 4, 9, 8, 7, 6, 5]
    result = tau_in_better_half(better_half_turned, RANKS)
    assert result is not None
    assert result.tau == pytest.approx(-1.0)
    assert result.n == 5


def test_the_better_half_has_the_median_and_its_ties() -> None:
    result = tau_in_better_half([1, 2, 3, 4, 5], [0, 1, 1, 2, 3])
    assert result is not None
    assert result.n == 4


def test_a_better_half_that_is_too_small_raises() -> None:
    with pytest.raises(TooFewTrialsError, match=r"needs 3 models .* got 2 of 2"):
        tau_in_better_half([1, 2, 3, 4], [1, 2, 3, 4])


def test_failed_models_tie_for_last_rank_and_missing_ones_stay_missing() -> None:
    ranked = rank_failed_last([0.4, NAN, 0.2, 0.9, NAN], [False, True, False, True, False])
    assert ranked[1] == ranked[3] < 0.2
    assert ranked[[0, 2]].tolist() == [0.4, 0.2]
    assert math.isnan(ranked[4])


@given(st.lists(st.tuples(st.floats(-1e18, 1e18), st.booleans()), min_size=1))
def test_failed_models_rank_last_at_any_scale(models: list[tuple[float, bool]]) -> None:
    scores, has_failed = (np.array(column) for column in zip(*models, strict=True))
    ranked = rank_failed_last(scores, has_failed)
    assert len(set(ranked[has_failed])) <= 1
    if has_failed.any() and not has_failed.all():
        assert ranked[has_failed].max() < ranked[~has_failed].min()


def test_a_mask_of_other_models_is_refused() -> None:
    with pytest.raises(ValueError, match=r"failed_mask must have the shape of scores, \(2,\), got \(3,\)"):
        rank_failed_last([1.0, 2.0], [True, False, False])
