"""Reference models against the user's present model."""

import numpy as np
import pytest
from scipy import stats

from nasproxy.errors import TooFewTrialsError
from nasproxy.statistics.baseline_comparison import (
    BaselineComparison,
    BaselineFinding,
    compare_with_baseline,
    compute_noise_difference,
    find_dunnett_quantile,
    format_share,
)
from nasproxy.statistics.variance import SeedDeviation

SCORES = np.linspace(0.5, 0.95, 10)
NOISE = SeedDeviation(sd=0.01, low=0.006, high=0.03, n=5)


def compare(baseline: float, deviation: SeedDeviation | None = NOISE, is_random: bool = True) -> BaselineComparison:
    return compare_with_baseline(SCORES, baseline, deviation=deviation, is_random=is_random)


@pytest.mark.parametrize(("n", "freedom", "published"), [(1, 5, 2.02), (2, 5, 2.44), (5, 5, 2.98), (9, 10, 2.81)])
def test_the_quantile_is_that_of_dunnetts_tables(n: int, freedom: int, published: float) -> None:
    assert find_dunnett_quantile(n, freedom) == pytest.approx(published, abs=0.01)


def test_seed_noise_alone_rarely_makes_a_model_clearly_better() -> None:
    random = np.random.default_rng(3)
    wrong = 0
    for _ in range(2000):
        seeds, baseline, scores = random.normal(size=5), random.normal(), random.normal(size=10)
        deviation = SeedDeviation(float(seeds.std(ddof=1)), 0.0, 0.0, n=5)
        wrong += bool((scores - baseline > compute_noise_difference(deviation, 10)).any())
    assert 0.03 < wrong / 2000 < 0.07


class TestBetterModels:
    def test_models_that_are_better_by_more_than_seed_noise_are_a_good_sign(self) -> None:
        found = compare(0.71)
        assert (found.better, found.finding) == (5, BaselineFinding.BETTER)
        assert found.clearly_better == int((found.noise < SCORES - 0.71).sum()) == 4
        assert found.share_low == pytest.approx(stats.beta.ppf(0.05, 4, 7))
        assert found.message == (
            "5 of 10 random architectures score better than the baseline, 4 by more than seed noise explains (a "
            "difference of 0.052). This is a good sign: the space has better models. At least 15 % of the space is "
            "better by more than that (95 % confidence)."
        )

    def test_without_a_measured_seed_noise_the_message_says_so(self) -> None:
        found = compare(0.71, deviation=None)
        assert (found.finding, found.clearly_better, found.noise) == (BaselineFinding.BETTER, None, None)
        assert "The seed noise is not measured: small differences may be chance." in found.message


class TestNoBetterModels:
    def test_a_lead_within_seed_noise_shows_nothing(self) -> None:
        found = compare(0.93)
        assert (found.better, found.clearly_better, found.finding) == (1, 0, BaselineFinding.UNCLEAR)
        assert found.message.startswith("1 of 10 random architectures scores better than the baseline, none by more")
        assert "Revisit the space before a search" in found.message

    def test_a_best_model_within_seed_noise_below_the_baseline_shows_nothing_either(self) -> None:
        assert compare(0.96).finding is BaselineFinding.UNCLEAR
        assert "the best is 0.01 worse, within what seed noise explains" in compare(0.96).message

    def test_with_none_above_at_most_the_rule_of_threes_share_is_better(self) -> None:
        found = compare(1.2)
        assert found.finding is BaselineFinding.BELOW
        assert found.share_high == pytest.approx(1 - 0.05 ** (1 / 10))
        assert "At most 26 % of the space is better" in found.message
        assert "better than 10 others in 1 of 11 cases, so this alone is not unusual" in found.message

    def test_a_baseline_above_many_models_is_unusual_for_a_model_of_the_space(self) -> None:
        found = compare_with_baseline(np.zeros(30), 1.0, deviation=NOISE, is_random=True)
        assert "in 1 of 31 cases, so this alone is unusual" in found.message

    def test_without_seed_noise_a_baseline_above_all_is_below_none(self) -> None:
        assert compare(1.2, deviation=None).finding is BaselineFinding.BELOW


def test_models_selected_for_spread_bound_no_share_of_the_space() -> None:
    found = compare(1.2, is_random=False)
    assert (found.share_low, found.share_high) == (None, None)
    assert "10 reference models" in found.message
    assert "not drawn at random, so that shares of the space are not known" in found.message


def test_seeds_that_agree_exactly_leave_no_room_for_noise() -> None:
    found = compare(0.95, deviation=SeedDeviation(0.0, 0.0, 0.0, n=5))
    assert (found.noise, found.better, found.finding) == (0.0, 0, BaselineFinding.UNCLEAR)


def test_a_comparison_needs_scores() -> None:
    with pytest.raises(TooFewTrialsError, match="needs a reference score, got none"):
        compare_with_baseline([np.nan], 0.5, deviation=None, is_random=True)


def test_small_shares_keep_a_digit() -> None:
    assert format_share(0.004) == "0.4 %"
