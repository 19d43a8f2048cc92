"""Expected rank of the best model that a search with a proxy task selects."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasproxy.statistics.search_outcome import expect_random_rank, predict_outcome


def played(tau: float, trials: int, top: int, searches: int) -> tuple[float, float]:
    """Simulate searches model by model, and return the mean rank of the best of the top and its standard error."""
    random = np.random.default_rng(7)
    correlation = math.sin(math.pi * tau / 2)
    ranks = []
    for _ in range(searches):
        proxy, own = random.standard_normal((2, trials))
        full = correlation * proxy + math.sqrt(1 - correlation**2) * own
        ranks.append(1 + (full > full[np.argsort(-proxy)[:top]].max()).sum())
    return float(np.mean(ranks)), float(np.std(ranks) / math.sqrt(searches))


@pytest.mark.parametrize(("tau", "trials", "top"), [(0.65, 2000, 10), (0.3, 500, 10), (0.8, 100, 1), (-0.2, 100, 3)])
def test_the_outcome_agrees_with_simulation_model_by_model(tau: float, trials: int, top: int) -> None:
    mean, error = played(tau, trials, top, searches=1500)
    found = predict_outcome(tau, trials, top=top).best_rank
    assert found == pytest.approx(mean, abs=4 * math.hypot(error, error))


@pytest.mark.parametrize(("trials", "top"), [(50, 1), (2000, 10)])
def test_an_unrelated_proxy_finds_what_random_choice_finds(trials: int, top: int) -> None:
    found = predict_outcome(0.0, trials, top=top, draws=8000).best_rank
    assert found == pytest.approx(expect_random_rank(trials, top), rel=0.04)


@settings(deadline=None, max_examples=25)
@given(tau=st.floats(-0.9, 0.9), trials=st.integers(1, 10**6), top=st.integers(1, 20))
def test_a_better_proxy_finds_better_models(tau: float, trials: int, top: int) -> None:
    worse, better = (predict_outcome(value, trials, top=top, draws=400) for value in (tau, tau + 0.1))
    assert 1 <= better.best_rank <= worse.best_rank * 1.02 <= trials * 1.02


def test_perfect_ranks_or_training_all_find_the_best() -> None:
    assert predict_outcome(1.0, 2000).best_rank == 1
    assert predict_outcome(-0.5, 8, top=10).best_rank == 1


def test_equal_arguments_give_equal_outcomes() -> None:
    assert predict_outcome(0.5, 300) == predict_outcome(0.5, 300)


@pytest.mark.parametrize(("tau", "trials", "top"), [(1.2, 10, 1), (0.5, 0, 1), (0.5, 10, 0)])
def test_arguments_out_of_range_are_refused(tau: float, trials: int, top: int) -> None:
    with pytest.raises(ValueError, match=r"needs a tau in \[-1, 1\] and at least 1 of trials, top"):
        predict_outcome(tau, trials, top=top)


def test_the_best_rank_of_no_model_is_refused() -> None:
    with pytest.raises(ValueError, match="of no model there is no best"):
        expect_random_rank(100, 0)
