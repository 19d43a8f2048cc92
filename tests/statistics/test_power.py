import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from nasproxy.errors import TooFewTrialsError
from nasproxy.statistics.fisher import FIELLER, WIDE, ZVariance
from nasproxy.statistics.power import ContradictionTest, models_needed

PEARSON = ZVariance(factor=1.0, offset=3)
TAU = st.floats(-0.95, 0.95)
PROBABILITY = st.floats(0.01, 0.5)


@pytest.mark.parametrize(("correlation", "published"), [(0.2, 194), (0.3, 85), (0.4, 47)])
def test_models_needed_for_a_correlation_of_pearson_are_those_of_published_tables(
    correlation: float, published: int
) -> None:
    """Hulley et al., Designing Clinical Research, table 6C: two-sided alpha 0.05, power 0.8."""
    assert models_needed(0.0, correlation, alpha=0.025, power=0.8, variance=PEARSON) == published


def test_models_needed_to_tell_a_good_proxy_task_from_a_wrong_one() -> None:
    assert models_needed(0.55, 0.70, alpha=0.03, power=0.9) == 75
    assert models_needed(0.55, 0.80, alpha=0.03, power=0.9) == 23
    assert models_needed(0.55, 0.70, alpha=0.03, power=0.9, variance=WIDE) == 84


@given(TAU, TAU, PROBABILITY, st.floats(0.5, 0.99), st.sampled_from([FIELLER, WIDE]))
def test_the_models_needed_have_the_power_and_one_fewer_has_not(
    null: float, true: float, alpha: float, power: float, variance: ZVariance
) -> None:
    assume(abs(null - true) > 0.01)
    n = models_needed(null, true, alpha=alpha, power=power, variance=variance)

    def reached(n: int) -> float:
        shift = abs(math.atanh(true) - math.atanh(null)) / variance.sd(n)
        return float(stats.norm.cdf(shift - stats.norm.ppf(1 - alpha)))

    assert reached(n) >= power - 1e-6
    assert n == variance.offset + 1 or reached(n - 1) < power


def test_equal_taus_cannot_be_told_apart() -> None:
    with pytest.raises(ValueError, match=r"null_tau and true_tau must differ, got 0.5 twice"):
        models_needed(0.5, 0.5)


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"true_tau must lie in \(-1, 1\), got 1.0"):
        models_needed(0.5, 1.0)
    with pytest.raises(ValueError, match=r"power must lie in \(0, 1\), got 90"):
        models_needed(0.5, 0.7, power=90)
    with pytest.raises(ValueError, match=r"alpha must lie in \(0, 1\), got 0"):
        ContradictionTest(null_tau=0.5, n=10, alpha=0.0)


def test_a_contradiction_is_rare_where_the_verdict_is_just_true() -> None:
    test = ContradictionTest(null_tau=0.55, n=10, alpha=0.05)
    assert test.power(0.55) == pytest.approx(0.05)
    assert test.p_value(0.55) == pytest.approx(0.5)


def test_ten_models_contradict_only_what_is_far_below() -> None:
    test = ContradictionTest(null_tau=0.55, n=10)
    z = (math.atanh(0.0) - math.atanh(0.55)) / math.sqrt(0.437 / 6)
    assert test.p_value(0.0) == pytest.approx(float(stats.norm.cdf(z)))
    assert test.contradicts(0.0)
    assert not test.contradicts(0.3)
    assert test.p_value(1.0) > 0.99


@given(TAU, st.integers(5, 100), PROBABILITY, st.floats(0.05, 0.95))
def test_the_noticeable_tau_has_the_power_asked_for(null: float, n: int, alpha: float, power: float) -> None:
    test = ContradictionTest(null_tau=null, n=n, alpha=alpha)
    noticeable = test.noticeable_tau(power)
    assume(abs(noticeable) < 0.999)
    assert test.power(noticeable) == pytest.approx(power, abs=1e-6)


@given(TAU, st.floats(0.01, 0.3), st.integers(5, 60))
def test_more_models_and_a_lower_tau_are_noticed_more_often(null: float, gap: float, n: int) -> None:
    lower = null - gap
    assume(lower - gap > -0.99)
    test, larger = ContradictionTest(null, n), ContradictionTest(null, n + 5)
    assume(test.power(lower) < 1)  # beyond, the difference is below the float resolution
    assert test.power(lower) < larger.power(lower)
    assert test.power(lower) < test.power(lower - gap)


def test_four_models_test_nothing() -> None:
    with pytest.raises(TooFewTrialsError, match="needs 5 models, got 4"):
        ContradictionTest(null_tau=0.5, n=4)
