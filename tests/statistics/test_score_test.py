import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nasproxy.errors import TooFewTrialsError
from nasproxy.statistics.concordance import kendall_taus
from nasproxy.statistics.score_test import score_lower_limits, tau_deviation


def simulated_taus(tau: float, n: int, samples: int = 4000) -> np.ndarray:
    """Simulate taus of normal scores with a given true tau."""
    rng = np.random.default_rng(n)
    rho = math.sin(math.pi / 2 * tau)
    reference = np.arange(n, dtype=float)
    scores = rng.normal(size=(samples, n))
    proxy = rho * scores + math.sqrt(1 - rho**2) * rng.normal(size=(samples, n))
    in_order = np.argsort(scores, axis=1)  # after sorting by the true score, all share one reference
    return kendall_taus(np.take_along_axis(proxy, in_order, axis=1), reference)


@pytest.mark.parametrize("n", [4, 10, 40])
def test_the_deviation_without_correlation_is_that_of_all_permutations(n: int) -> None:
    assert tau_deviation(0.0, n) == pytest.approx(math.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1))))


@pytest.mark.parametrize(("tau", "n"), [(0.3, 10), (0.65, 10), (0.8, 10), (0.8, 30)])
def test_the_deviation_is_that_of_normal_scores(tau: float, n: int) -> None:
    assert tau_deviation(tau, n) == pytest.approx(simulated_taus(tau, n).std(), rel=0.04)


@pytest.mark.parametrize("n", [10, 20, 30])
@pytest.mark.parametrize("tau", [0.3, 0.65, 0.8])
def test_the_lower_limit_holds_in_95_of_100_samples(tau: float, n: int) -> None:
    limits = score_lower_limits(simulated_taus(tau, n), n)
    assert 0.94 <= (limits <= tau).mean() <= 0.99


@pytest.mark.parametrize("n", [10, 20, 30])
@pytest.mark.parametrize("alpha", [0.1, 0.02, 0.005])
def test_limits_have_the_stated_error_rate_in_the_tail(alpha: float, n: int) -> None:
    errors = [
        (score_lower_limits(simulated_taus(true, n, 20_000), n, alpha=alpha) > true).mean() for true in (0.3, 0.5, 0.7)
    ]
    assert 0.3 * alpha <= np.mean(errors) <= 1.2 * alpha


def test_a_perfect_order_has_no_deviation_and_undefined_taus_no_limit() -> None:
    assert tau_deviation(1.0, 10) == pytest.approx(0.0, abs=1e-7)
    assert np.isnan(score_lower_limits([float("nan"), 0.5], 10)).tolist() == [True, False]


@given(st.floats(-1, 1), st.integers(5, 100), st.floats(0.001, 0.5))
def test_at_the_limit_the_corrected_difference_of_arcsines_has_p_value_alpha(tau: float, n: int, alpha: float) -> None:
    limit = float(score_lower_limits(tau, n, alpha=alpha))
    assert -1 <= limit <= tau
    half_step = 2 / (n * (n - 1))
    if -0.999 < limit < 0.999 and limit < tau - half_step:
        deviation = max(tau_deviation(limit, n) / math.sqrt(1 - limit**2), math.sqrt(half_step))
        z = (math.asin(tau - half_step) - math.asin(limit)) / deviation
        assert stats.norm.sf(z) == pytest.approx(alpha, abs=1e-5)


@given(st.floats(-0.99, 0.9), st.floats(0.001, 0.1), st.integers(5, 60))
def test_a_higher_tau_and_more_models_have_a_higher_limit(tau: float, gap: float, n: int) -> None:
    limit = score_lower_limits(tau, n)
    assert score_lower_limits(tau + gap, n) >= limit
    assert score_lower_limits(tau, n + 5) >= limit - 1e-12


def test_an_error_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"alpha must lie in \(0, 0.5\], got 5"):
        score_lower_limits([0.5], 10, alpha=5)


def test_four_models_are_too_few_for_a_normal_test() -> None:
    with pytest.raises(TooFewTrialsError, match="score test of tau needs 5 models, got 4"):
        score_lower_limits([0.5, 1.0], [10, 4])
