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
    compute_noise_ratio,
    judge_variance,
    roughness,
    seed_deviation,
    smoothness,
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


@pytest.mark.parametrize("scores", [[], [0.5], [0.5, NAN], [0.0, 0.0], [-1.0, 1.0], [-1.0, 3.0], [0.0, 1.0]])
def test_variation_is_undefined_for_one_score_or_scores_of_different_signs(scores: list[float]) -> None:
    assert coefficient_of_variation(scores) is None


@given(SCORES)
def test_a_curve_that_never_falls_has_roughness_0(scores: list[float]) -> None:
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


def test_roughness_is_the_sum_of_falls_relative_to_the_range() -> None:
    assert roughness([0, 30, 60, 90], [0.0, 1.0, 0.5, 0.75]) == pytest.approx(0.5)
    assert roughness([0, 30, 60, 90], [0.0, 1.0, 0.0, 1.0]) == pytest.approx(1.0)
    assert roughness([0, 90], [1.0, 0.0]) == pytest.approx(1.0)


@pytest.mark.parametrize("sd", [0.0, 0.01, 0.05])
def test_roughness_does_not_depend_on_the_number_of_checks(sd: float) -> None:
    means = []
    for n_checks in (10, 100, 1000):
        values = [roughness(*noisy_curve(sd, n_checks, seed)) for seed in range(200)]
        means.append(np.mean([value for value in values if value is not None]))
    assert means == pytest.approx([means[0]] * 3, rel=0.15, abs=0.02)


@given(SCORES)
def test_a_curve_that_never_decreases_has_smoothness_0(scores: list[float]) -> None:
    rising = sorted(scores)
    expected = None if rising[0] == rising[-1] else 0.0
    assert smoothness(range(len(rising)), rising) == expected


@given(SCORES, st.integers(1, 50))
def test_smoothness_is_invariant_under_scaling(scores: list[float], factor: int) -> None:
    steps = np.arange(len(scores))
    value = smoothness(steps, scores)
    scaled = smoothness(5 + factor * steps, 3 + factor * np.array(scores))
    assert (value is None) == (scaled is None)
    if value is not None:
        assert value >= 0
        assert scaled == pytest.approx(value, abs=1e-6)


def test_smoothness_sums_the_negative_slopes_at_thirty_points() -> None:
    steps, scores = noisy_curve(sd=0.02, n_checks=23, seed=1)
    x = (np.array(steps) - steps[0]) / (steps[-1] - steps[0])
    y = (np.array(scores) - min(scores)) / (max(scores) - min(scores))
    slope = InterpolatedUnivariateSpline(x, y, k=1).derivative()
    points = [*np.arange(0, 10) * 0.07, *0.7 + np.arange(0, 10) * 0.02, *0.9 + np.arange(0, 10) * 0.01]
    assert smoothness(steps, scores) == pytest.approx(-sum(min(0.0, float(slope(p))) for p in points))


def test_a_slope_at_a_check_is_the_one_after_it() -> None:
    # Falls by its full height over [0.9, 1): slope -10 at each of 10 points, the first of which is a check.
    assert smoothness([0, 90, 100], [0.0, 1.0, 0.0]) == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("sd", "n_checks", "published"), [(0.01, 10, 0.63), (0.01, 30, 4.8), (0.01, 100, 18.2), (0.02, 30, 11.3)]
)
def test_smoothness_of_noisy_curves_is_near_the_published_means(sd: float, n_checks: int, published: float) -> None:
    values = [smoothness(*noisy_curve(sd, n_checks, seed)) for seed in range(30)]
    assert np.mean([v for v in values if v is not None]) == pytest.approx(published, rel=0.6)


@pytest.mark.parametrize(
    ("steps", "scores"),
    [([], []), ([100], [0.5]), ([100, 200, 300], [0.5, 0.5, 0.5]), ([100, 200], [0.5, NAN])],
    ids=["no check", "one check", "flat", "one score"],
)
def test_a_flat_curve_has_no_smoothness(steps: list[float], scores: list[float]) -> None:
    assert smoothness(steps, scores) is None


def test_checks_without_a_score_are_ignored() -> None:
    assert smoothness([0, 1, 2, 3], [0.0, NAN, 0.5, 0.4]) == smoothness([0, 2, 3], [0.0, 0.5, 0.4])


def test_steps_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match=r"steps must increase .* got \[100.0, 100.0\]"):
        smoothness([100, 100], [0.1, 0.2])


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
    verdict = judge_variance([(STEPS, np.linspace(0.01, end, 11)) for end in (0.1, 0.2, 0.3, 0.4, 0.5)])
    assert (verdict.has_low_noise, verdict.is_good) == (False, False)
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


def test_seed_noise_is_compared_with_the_differences_between_models() -> None:
    curves = [(STEPS, np.linspace(0.0, end, 11)) for end in (0.70, 0.71, 0.72)]
    apart, close = [0.5, 0.6, 0.7, 0.8], [0.710, 0.712, 0.714]
    assert judge_variance(curves, model_scores=apart).is_good
    verdict = judge_variance(curves, model_scores=close)
    assert verdict.noise_ratio == pytest.approx(5.0)
    assert (verdict.has_low_noise, verdict.is_good) == (False, False)
    assert "ratio of the standard deviations 5.00, limit 1 (variance.max_noise_ratio)" in verdict.advice[0]
    assert judge_variance(curves, model_scores=close, max_noise_ratio=6.0).is_good


@given(SCORES)
def test_a_loss_is_judged_as_its_negation(scores: list[float]) -> None:
    curves = [(range(len(scores)), [s + shift for s in scores]) for shift in (0.0, 1.0, 3.0)]
    models = [1.0, 2.0, 5.0]
    gain = judge_variance(curves, model_scores=models)
    loss = judge_variance([(x, [-v for v in y]) for x, y in curves], model_scores=[-m for m in models])
    assert (gain.variation, gain.noise_ratio) == (
        pytest.approx(loss.variation),
        pytest.approx(loss.noise_ratio),
    )


def test_scores_of_different_signs_are_judged_against_models_only() -> None:
    curves = [(STEPS, np.linspace(-1.0, end, 11)) for end in (-0.1, 0.0, 0.1)]
    verdict = judge_variance(curves)
    assert (verdict.variation, verdict.noise_ratio, verdict.is_good) == (None, None, True)
    assert not judge_variance(curves, model_scores=[0.0, 0.01, 0.02]).is_good


@pytest.mark.parametrize(("seeds", "models"), [([1.0], [1.0, 2.0, 3.0]), ([1.0, 2.0], [1.0, 2.0]), ([1, 2], [3, 3, 3])])
def test_the_noise_ratio_needs_two_seeds_and_three_models_that_differ(seeds: list[float], models: list[float]) -> None:
    assert compute_noise_ratio(seeds, models) is None


def test_rough_curves_get_advice_and_pass() -> None:
    verdict = judge_variance([(STEPS, [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0.9])] * 2)
    assert (verdict.has_low_noise, verdict.is_good) == (True, True)
    assert "(variance.max_roughness); this alone does not stop the study" in verdict.advice[0]


def test_limits_are_arguments() -> None:
    curves = [(STEPS, [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0.9])] * 2
    assert judge_variance(curves, max_roughness=1000.0).advice == ()


def test_a_flat_curve_is_not_within_the_limits() -> None:
    rising, flat = np.linspace(0, 0.5, 11), [0.5] * 11
    verdict = judge_variance([(STEPS, rising), (STEPS, flat)])
    assert (verdict.roughness, verdict.is_learning, verdict.is_good) == (0.0, False, False)
    assert verdict.advice == (
        "1 of 2 learning curves are flat: check that the model learns, and train for more steps.",
    )


@pytest.mark.parametrize("curves", [[], [([], [])], [([100], [0.5])]], ids=["none", "empty", "one check"])
def test_without_curves_nothing_can_be_said_against_a_model(curves: list[tuple[list[float], list[float]]]) -> None:
    verdict = judge_variance(curves)
    assert (verdict.variation, verdict.roughness, verdict.advice) == (None, None, ())


@pytest.mark.parametrize("limits", [{"max_variation": 0.0}, {"max_noise_ratio": 0.0}, {"max_roughness": NAN}], ids=str)
def test_a_limit_of_0_is_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"must be above 0, got"):
        judge_variance([], **limits)
