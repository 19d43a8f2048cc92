import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.interpolate import InterpolatedUnivariateSpline

from nasproxy.errors import ConfigError, TooFewTrialsError
from nasproxy.statistics.variance import (
    SeedDeviation,
    coefficient_of_variation,
    judge_variance,
    roughness,
    seed_deviation,
)

NAN = float("nan")
SCORES = st.lists(st.integers(0, 100).map(lambda percent: percent / 100), min_size=2, max_size=20)
STEPS = list(range(0, 1001, 100))


def noisy_curve(sd: float, n_checks: int, seed: int) -> tuple[list[float], list[float]]:
    """Make a saturating curve with normal noise."""
    x = np.linspace(0.01, 1.0, n_checks)
    y = 0.7 * (1 - np.exp(-4 * x)) + np.random.default_rng(seed).normal(0, sd, n_checks)
    return x.tolist(), y.tolist()


def test_variation_is_population_deviation_over_mean() -> None:
    scores = [0.1, 0.2, 0.3, 0.4, 0.5]
    assert coefficient_of_variation(scores) == pytest.approx(np.std(scores) / np.mean(scores))
    assert coefficient_of_variation(scores) == pytest.approx(stats.variation(scores))


@given(SCORES, st.floats(0.1, 100))
def test_variation_has_no_unit_and_no_sign(scores: list[float], factor: float) -> None:
    variation = coefficient_of_variation(scores)
    for scaled in ([factor * s for s in scores], [-s for s in scores]):
        assert coefficient_of_variation(scaled) == (
            variation if variation is None else pytest.approx(variation, abs=1e-12)
        )


@pytest.mark.parametrize("scores", [[], [0.5], [0.5, NAN], [0.0, 0.0], [-1.0, 1.0]])
def test_variation_is_undefined_for_one_score_or_a_mean_of_zero(scores: list[float]) -> None:
    assert coefficient_of_variation(scores) is None


@given(SCORES)
def test_a_curve_that_never_decreases_has_roughness_0(scores: list[float]) -> None:
    rising = sorted(scores)
    expected = None if rising[0] == rising[-1] else 0.0
    assert roughness(range(len(rising)), rising) == expected


@given(SCORES, st.integers(1, 50))
def test_roughness_is_invariant_under_scaling(scores: list[float], factor: int) -> None:
    steps = np.arange(len(scores))
    value = roughness(steps, scores)
    scaled = roughness(5 + factor * steps, 3 + factor * np.array(scores))
    assert (value is None) == (scaled is None)
    if value is not None:
        assert value >= 0
        assert scaled == pytest.approx(value, abs=1e-6)


def test_roughness_sums_the_negative_slopes_at_thirty_points() -> None:
    steps, scores = noisy_curve(sd=0.02, n_checks=23, seed=1)
    x = (np.array(steps) - steps[0]) / (steps[-1] - steps[0])
    y = (np.array(scores) - min(scores)) / (max(scores) - min(scores))
    slope = InterpolatedUnivariateSpline(x, y, k=1).derivative()
    points = [*np.arange(0, 10) * 0.07, *0.7 + np.arange(0, 10) * 0.02, *0.9 + np.arange(0, 10) * 0.01]
    assert roughness(steps, scores) == pytest.approx(-sum(min(0.0, float(slope(p))) for p in points))


def test_a_slope_at_a_check_is_the_one_after_it() -> None:
    # Falls by its full height over [0.9, 1): slope -10 at each of 10 points, the first of which is a check.
    assert roughness([0, 90, 100], [0.0, 1.0, 0.0]) == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("sd", "n_checks", "published"), [(0.01, 10, 0.63), (0.01, 30, 4.8), (0.01, 100, 18.2), (0.02, 30, 11.3)]
)
def test_roughness_of_noisy_curves_is_near_the_published_means(sd: float, n_checks: int, published: float) -> None:
    values = [roughness(*noisy_curve(sd, n_checks, seed)) for seed in range(30)]
    assert np.mean([v for v in values if v is not None]) == pytest.approx(published, rel=0.6)


@pytest.mark.parametrize(
    ("steps", "scores"),
    [([], []), ([100], [0.5]), ([100, 200, 300], [0.5, 0.5, 0.5]), ([100, 200], [0.5, NAN])],
    ids=["no check", "one check", "flat", "one score"],
)
def test_a_flat_curve_has_no_roughness(steps: list[float], scores: list[float]) -> None:
    assert roughness(steps, scores) is None


def test_checks_without_a_score_are_ignored() -> None:
    assert roughness([0, 1, 2, 3], [0.0, NAN, 0.5, 0.4]) == roughness([0, 2, 3], [0.0, 0.5, 0.4])


def test_steps_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match=r"steps must increase .* got \[100.0, 100.0\]"):
        roughness([100, 100], [0.1, 0.2])


def test_seed_deviation_has_the_chi_square_interval() -> None:
    scores = [0.71, 0.72, 0.69, 0.70, 0.74]
    result = seed_deviation([*scores, NAN])
    variance = np.var(scores, ddof=1)
    assert result.sd == pytest.approx(math.sqrt(variance))
    assert result.n == 5
    assert result.low == pytest.approx(math.sqrt(4 * variance / stats.chi2.isf(0.025, 4)))
    assert result.high == pytest.approx(math.sqrt(4 * variance / stats.chi2.isf(0.975, 4)))


def test_the_interval_of_the_seed_deviation_holds_the_truth_in_95_of_100_studies() -> None:
    draws = np.random.default_rng(0).normal(0.7, 0.02, size=(2000, 5))
    holds = [result.low <= 0.02 <= result.high for result in map(seed_deviation, draws)]
    assert np.mean(holds) == pytest.approx(0.95, abs=0.015)


def test_equal_scores_have_a_deviation_of_0() -> None:
    assert seed_deviation([0.1, 0.1, 0.1]) == SeedDeviation(sd=0.0, low=0.0, high=0.0, n=3)


def test_one_seed_has_no_deviation() -> None:
    with pytest.raises(TooFewTrialsError, match="needs the scores of 2 seeds, got 1"):
        seed_deviation([0.5])


def test_seeds_within_the_limits_get_no_advice() -> None:
    rising = [0.1 * i for i in range(1, 12)]
    verdict = judge_variance([(STEPS, rising), (STEPS, [1.01 * y for y in rising])])
    assert verdict.is_good
    assert verdict.roughness == 0.0
    assert verdict.advice == ()


def test_seeds_that_end_far_apart_get_advice() -> None:
    verdict = judge_variance([(STEPS, np.linspace(0, end, 11)) for end in (0.1, 0.2, 0.3, 0.4, 0.5)])
    assert (verdict.has_low_variation, verdict.is_smooth, verdict.is_good) == (False, True, False)
    assert verdict.variation == pytest.approx(0.4714, abs=1e-4)
    advice = " ".join(verdict.advice)
    for words in (
        "coefficient of variation 0.47, limit 0.4",
        "cosine schedule",
        "EMA or SWA",
        "more data",
        "more steps",
    ):
        assert words in advice


def test_rough_curves_get_advice() -> None:
    verdict = judge_variance([(STEPS, [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0.9])] * 2)
    assert (verdict.has_low_variation, verdict.is_smooth) == (True, False)
    assert "roughness" in verdict.advice[0]
    assert any("Check less often" in sentence for sentence in verdict.advice)


def test_limits_are_arguments() -> None:
    curves = [(STEPS, [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0.9])] * 2
    assert judge_variance(curves, max_roughness=1000.0).is_smooth


def test_a_flat_curve_is_not_within_the_limits() -> None:
    rising, flat = np.linspace(0, 0.5, 11), [0.5] * 11
    verdict = judge_variance([(STEPS, rising), (STEPS, flat)])
    assert (verdict.roughness, verdict.is_smooth) == (0.0, False)
    assert verdict.advice == (
        "1 of 2 learning curves are flat or have fewer than 2 checks: check that the model learns at all, "
        "train for more steps, or check more often.",
    )


@pytest.mark.parametrize("curves", [[], [([], [])], [([100], [0.5])]], ids=["none", "empty", "one check"])
def test_no_curves_are_not_within_the_limits(curves: list[tuple[list[float], list[float]]]) -> None:
    verdict = judge_variance(curves)
    assert (verdict.variation, verdict.roughness) == (None, None)
    assert not verdict.has_low_variation
    assert not verdict.is_smooth
    assert "undefined" in verdict.advice[0]


@pytest.mark.parametrize("limits", [{"max_variation": 0.0}, {"max_roughness": NAN}], ids=str)
def test_a_limit_of_0_is_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"must be above 0, got"):
        judge_variance([], **limits)
