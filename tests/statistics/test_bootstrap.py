import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from nasproxy.errors import TooFewTrialsError
from nasproxy.statistics.bootstrap import bootstrap_intervals, bootstrap_taus, simultaneous_lower_bounds
from nasproxy.statistics.concordance import kendall_taus
from nasproxy.statistics.score_test import score_lower_limits

NAN = float("nan")
SCORE = st.one_of(st.integers(-5, 5).map(float), st.just(NAN))


def checks_of_one_task(n: int = 20, checks: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Make scores that approach the reference from check to check."""
    rng = np.random.default_rng(seed)
    reference = rng.normal(size=n)
    noise = np.linspace(2.0, 0.3, checks)[:, None] * rng.normal(size=n)
    return reference + noise + 0.2 * rng.normal(size=(checks, n)), reference


@settings(max_examples=25)
@given(hnp.arrays(float, (3, 6), elements=SCORE), hnp.arrays(float, 6, elements=st.integers(0, 5).map(float)))
def test_a_resample_has_the_tau_that_scipy_finds_on_the_same_models(scores: np.ndarray, reference: np.ndarray) -> None:
    copies = np.random.default_rng(4).multinomial(6, np.full(6, 1 / 6), size=5)
    taus = bootstrap_taus(scores, reference, resamples=5, seed=4)
    for drawn, row in zip(copies, taus, strict=True):
        models = np.repeat(np.arange(6), drawn)
        for check, tau in zip(scores[:, models], row, strict=True):
            known = ~np.isnan(check)
            expected = stats.kendalltau(check[known], reference[models][known]).statistic if known.sum() > 1 else NAN
            assert tau == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_the_interval_is_that_of_scipys_bootstrap() -> None:
    scores, reference = checks_of_one_task(n=25, checks=2)
    intervals = bootstrap_intervals(scores, reference, resamples=9999)
    for check, low, high in zip(scores, intervals.low, intervals.high, strict=True):
        expected = stats.bootstrap(
            (check, reference),
            lambda a, b: stats.kendalltau(a, b).statistic,
            paired=True,
            vectorized=False,
            n_resamples=1500,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.04)


def test_an_interval_holds_tau_and_widens_with_confidence() -> None:
    scores, reference = checks_of_one_task()
    taus = kendall_taus(scores, reference)
    narrow, wide = (bootstrap_intervals(scores, reference, confidence=c) for c in (0.8, 0.99))
    assert (wide.low < narrow.low).all()
    assert (narrow.low < taus).all()
    assert (taus < narrow.high).all()
    assert (narrow.high <= wide.high).all()


def test_the_same_seed_draws_the_same_models() -> None:
    scores, reference = checks_of_one_task()
    first, again, other = (bootstrap_taus(scores, reference, resamples=50, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_resamples_that_say_nothing_widen_the_interval_to_both_sides() -> None:
    one_apart = [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]  # a third of all resamples lack the only model that differs
    intervals = bootstrap_intervals([one_apart], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert (intervals.low[0], intervals.high[0]) == (-1.0, 1.0)


def test_where_tau_is_undefined_so_are_its_interval_and_bound() -> None:
    scores, reference = checks_of_one_task(n=8, checks=3)
    scores[1] = 0.5
    intervals, bounds = bootstrap_intervals(scores, reference), simultaneous_lower_bounds(scores, reference)
    for curve in (intervals.low, intervals.high, bounds):
        assert np.isnan(curve).tolist() == [False, True, False]
    assert np.isnan(simultaneous_lower_bounds(np.zeros((2, 8)), reference)).all()


def test_bounds_for_all_checks_lie_below_the_bound_of_each_alone_and_above_that_of_bonferroni() -> None:
    scores, reference = checks_of_one_task()
    taus = kendall_taus(scores, reference)
    together = simultaneous_lower_bounds(scores, reference)
    assert (together < score_lower_limits(taus, 20)).all()
    assert (together > score_lower_limits(taus, 20, alpha=0.05 / 8)).all()


def test_the_bound_of_a_single_check_is_that_of_its_score_test() -> None:
    scores, reference = checks_of_one_task(checks=1)
    expected = score_lower_limits(kendall_taus(scores, reference), 20)
    np.testing.assert_allclose(simultaneous_lower_bounds(scores, reference), expected, atol=0.02)


def test_repeating_a_check_costs_nothing() -> None:
    scores, reference = checks_of_one_task(checks=3)
    once, often = (simultaneous_lower_bounds(np.repeat(scores, k, axis=0), reference) for k in (1, 10))
    np.testing.assert_allclose(np.repeat(once, 10), often, atol=0.02)


def test_unrelated_checks_are_bounded_as_independent_ones() -> None:
    rng = np.random.default_rng(0)
    scores, reference = rng.normal(size=(20, 100)), rng.normal(size=100)
    expected = score_lower_limits(kendall_taus(scores, reference), 100, alpha=1 - 0.95 ** (1 / 20))
    np.testing.assert_allclose(simultaneous_lower_bounds(scores, reference), expected, atol=0.02)


def test_models_that_all_agree_leave_the_doubt_of_their_number() -> None:
    reference = np.arange(10.0)
    bound = simultaneous_lower_bounds([reference], reference)[0]
    assert bound == pytest.approx(score_lower_limits(1.0, 10), abs=0.02)


def test_a_check_of_too_few_models_has_no_bound_above_minus_one() -> None:
    scores, reference = checks_of_one_task(n=10, checks=2)
    scores[0, 4:] = NAN
    bounds = simultaneous_lower_bounds(scores, reference)
    assert bounds[0] == -1.0
    assert bounds[1] > -1.0


def test_bounds_hold_for_all_checks_in_95_of_100_studies() -> None:
    rng = np.random.default_rng(0)
    true_taus = np.linspace(0.3, 0.7, 8)
    slopes = np.sin(np.pi / 2 * true_taus)[:, None]
    held = []
    for study in range(200):
        reference = rng.normal(size=15)
        noise = (rng.normal(size=15) + rng.normal(size=(8, 15))) / np.sqrt(2)  # checks are correlated
        scores = slopes * reference + np.sqrt(1 - slopes**2) * noise
        bounds = simultaneous_lower_bounds(scores, reference, resamples=300, seed=study)
        held.append((bounds <= true_taus).all())
    assert np.mean(held) >= 0.95 - 2 * np.sqrt(0.05 * 0.95 / 200)


def test_a_bootstrap_needs_models_and_resamples() -> None:
    with pytest.raises(TooFewTrialsError, match="bootstrap needs 5 reference models, got 4"):
        bootstrap_taus(np.zeros((1, 5)), [1, 2, 3, 4, NAN])
    with pytest.raises(ValueError, match="resamples must be at least 1, got 0"):
        bootstrap_taus(np.zeros((1, 5)), [1, 2, 3, 4, 5], resamples=0)
    with pytest.raises(ValueError, match=r"confidence must lie in \(0, 1\), got 95"):
        bootstrap_intervals(np.zeros((1, 5)), [1, 2, 3, 4, 5], confidence=95)
    with pytest.raises(ValueError, match=r"alpha must lie in \(0, 1\), got 5"):
        simultaneous_lower_bounds(np.zeros((1, 5)), [1, 2, 3, 4, 5], alpha=5)
