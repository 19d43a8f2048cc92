import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasproxy.errors import TooFewTrialsError
from nasproxy.statistics.contradiction import HIGHEST_TAU, compare_retraining
from nasproxy.statistics.fisher import FIELLER
from nasproxy.statistics.missing import Floats
from nasproxy.statistics.rank_correlation import RankCorrelation, kendall_tau

ORDER = np.arange(10.0)


def trained(rng: np.random.Generator, reference: Floats, taus: tuple[float, float], shared: float) -> list[Floats]:
    """Simulate scores of two proxy trainings with given true taus and a given share of common errors."""
    errors = rng.normal(size=reference.size), rng.normal(size=reference.size)
    both = errors[0], shared * errors[0] + math.sqrt(1 - shared**2) * errors[1]
    slopes = [math.sin(math.pi / 2 * tau) for tau in taus]
    return [slope * reference + math.sqrt(1 - slope**2) * error for slope, error in zip(slopes, both, strict=True)]


def contradicted(n: int, stated: float, taus: tuple[float, float], shared: float, draws: int) -> tuple[float, float]:
    """Simulate the share of contradicted verdicts: of all, and of those whose first training reached the stated tau."""
    rng = np.random.default_rng(0)
    falls, is_accepted = [], []
    for _ in range(draws):
        reference = rng.normal(size=n)
        first, second = trained(rng, reference, taus, shared)
        truncated = kendall_tau(first, reference)
        assert truncated is not None
        is_accepted.append(truncated.tau >= stated)
        falls.append(compare_retraining(second, reference, stated_tau=stated, truncated=truncated).is_contradicted)
    accepted = np.array(falls)[np.array(is_accepted)]
    return float(np.mean(falls)), float(np.mean(accepted))


@pytest.mark.gate
@pytest.mark.parametrize(
    ("n", "stated", "shared"),
    [(5, 0.65, 0.0), (10, 0.55, 0.9), (10, 0.75, 0.0), (20, 0.65, 0.9), (30, 0.85, 0.0), (30, 0.85, 0.9)],
)
def test_a_verdict_with_the_stated_true_tau_is_contradicted_in_at_most_alpha_of_cases(
    n: int, stated: float, shared: float
) -> None:
    draws = 1500
    for first in (stated, min(0.9, stated + 0.15)):
        of_all, of_accepted = contradicted(n, stated, (first, stated), shared, draws)
        allowance = 2.5 * math.sqrt(0.05 * 0.95 / draws)
        assert of_all <= 0.05 + allowance
        assert of_accepted <= of_all + allowance, "accepted verdicts are not contradicted more often"


@pytest.mark.gate
@pytest.mark.parametrize("n", [10, 20, 30])
def test_the_noticeable_tau_is_detected_with_80_percent_power(n: int) -> None:
    noticeable = compare_retraining(np.arange(n), np.arange(n), stated_tau=0.65).noticeable_tau
    assert noticeable is not None
    of_all, _ = contradicted(n, 0.65, (0.75, noticeable), 0.0, 1500)
    assert of_all == pytest.approx(0.8, abs=0.05)


@pytest.mark.gate
def test_a_schedule_with_random_ranks_is_detected_even_if_the_first_training_ranked_well() -> None:
    """Test that power is high; a test of the mean of both taus would detect one in ten."""
    _, of_accepted = contradicted(10, 0.65, (0.75, 0.0), 0.5, 1500)
    assert of_accepted > 0.8


@given(st.permutations(range(12)), st.permutations(range(12)))
def test_the_pooled_tau_lies_between_both_and_has_the_interval_width_of_one(one: list[int], other: list[int]) -> None:
    reference = np.arange(12.0)
    truncated = kendall_tau(one, reference)
    assert truncated is not None
    result = compare_retraining(other, reference, stated_tau=0.65, truncated=truncated)
    assert result.correlation is not None
    assert result.pooled is not None
    low, high = sorted([truncated.tau, result.correlation.tau])
    assert low - 1e-9 <= result.pooled.tau <= high + 1e-9 or high > 0.98
    width = math.atanh(result.pooled.high) - math.atanh(result.pooled.low)
    assert width == pytest.approx(2 * 1.96 * FIELLER.sd(12))


def test_the_first_tau_does_not_affect_the_test() -> None:
    shuffled = np.random.default_rng(3).permutation(10).astype(float)
    results = [
        compare_retraining(shuffled, ORDER, stated_tau=0.65, truncated=RankCorrelation(tau, 0.0, 0.0, 1.0, 10))
        for tau in (0.65, 0.99)
    ]
    assert len({result.p_value for result in results}) == 1
    assert {result.is_contradicted for result in results} == {True}


def test_constant_scores_contradict_the_verdict() -> None:
    result = compare_retraining(np.zeros(10), ORDER, stated_tau=0.65)
    assert result.correlation is None
    assert result.is_contradicted


def test_a_verdict_without_a_stated_tau_is_not_tested() -> None:
    result = compare_retraining(-ORDER, ORDER, stated_tau=None)
    assert result.correlation is not None
    assert (result.p_value, result.noticeable_tau, result.is_contradicted) == (None, None, False)


def test_a_stated_tau_of_1_is_tested_as_the_largest_testable_tau() -> None:
    result = compare_retraining(ORDER, ORDER, stated_tau=1.0)
    assert result.stated_tau == HIGHEST_TAU
    assert not result.is_contradicted


def test_four_models_are_too_few_for_a_confirmation() -> None:
    with pytest.raises(TooFewTrialsError, match="needs 5 models with both"):
        compare_retraining(ORDER[:4], ORDER[:4], stated_tau=0.65)
