import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from nasproxy.errors import TooFewTrialsError
from nasproxy.statistics.power import ContradictionTest

TAU = st.floats(-0.95, 0.95)
PROBABILITY = st.floats(0.01, 0.5)


def power(test: ContradictionTest, true_tau: float) -> float:
    """Compute with SciPy the probability that the test rejects its tau, given the true one."""
    sd = math.sqrt(0.437 / (test.n - 4))
    critical = math.atanh(test.null_tau) + sd * stats.norm.ppf(test.alpha)
    return float(stats.norm.cdf(critical, loc=math.atanh(true_tau), scale=sd))


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"null_tau must lie in \(-1, 1\), got 1.0"):
        ContradictionTest(null_tau=1.0, n=10)
    with pytest.raises(ValueError, match=r"alpha must lie in \(0, 1\), got 0"):
        ContradictionTest(null_tau=0.5, n=10, alpha=0.0)
    with pytest.raises(ValueError, match=r"power must lie in \(0, 1\), got 90"):
        ContradictionTest(null_tau=0.5, n=10).noticeable_tau(90)


def test_ten_models_contradict_only_a_much_lower_tau() -> None:
    test = ContradictionTest(null_tau=0.55, n=10)
    z = (math.atanh(0.0) - math.atanh(0.55)) / math.sqrt(0.437 / 6)
    assert test.p_value(0.0) == pytest.approx(float(stats.norm.cdf(z)))
    assert test.p_value(0.0) < 0.05 < test.p_value(0.3)
    assert test.p_value(0.55) == pytest.approx(0.5)
    assert test.p_value(1.0) > 0.99


@given(TAU, st.integers(5, 100), PROBABILITY, st.floats(0.05, 0.95))
def test_the_noticeable_tau_has_the_requested_power(null: float, n: int, alpha: float, asked: float) -> None:
    test = ContradictionTest(null_tau=null, n=n, alpha=alpha)
    noticeable = test.noticeable_tau(asked)
    assume(abs(noticeable) < 0.999)
    assert power(test, noticeable) == pytest.approx(asked, abs=1e-6)


@given(TAU, st.integers(5, 60))
def test_more_models_detect_a_smaller_difference(null: float, n: int) -> None:
    assert ContradictionTest(null, n).noticeable_tau() < ContradictionTest(null, n + 5).noticeable_tau() < null


def test_four_models_are_too_few_for_the_test() -> None:
    with pytest.raises(TooFewTrialsError, match="needs 5 models, got 4"):
        ContradictionTest(null_tau=0.5, n=4)
