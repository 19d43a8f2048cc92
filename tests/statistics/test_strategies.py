"""Strategies of a search: who is kept at each rung, and what the trainings cost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasproxy.statistics.strategies import (
    FULL_TRAINING,
    BestCount,
    BestShare,
    Candidates,
    Place,
    Rung,
    Strategy,
    Threshold,
    halve,
    run_strategy,
    scale_cost,
    train_all,
    use_fixed_fraction,
    use_proxy,
    use_zero_cost,
)

EARLY, LATE = Place(FULL_TRAINING, 10), Place(FULL_TRAINING, 50)
SMALL = Place("width50", 40)
COSTS = {EARLY: 0.1, LATE: 0.5, SMALL: 0.2, Place("parameters", 0): 0.0}


def make_candidates(count: int = 20) -> Candidates:
    """Make candidates that all places rank by their number, the last one best."""
    scores = np.arange(count, dtype=np.float64)
    return Candidates(dict.fromkeys(COSTS, scores), COSTS, scores)


def test_full_training_of_all_costs_one_each_and_finds_the_best():
    found = run_strategy(train_all(), make_candidates())
    assert (found.cost, found.best) == (20.0, 19.0)
    assert found.trained.all()


def test_survivors_resume_full_training():
    two = Strategy("two", (Rung(EARLY, BestCount(10)), Rung(LATE, BestCount(2))), needs_study=False)
    assert run_strategy(two, make_candidates()).cost == pytest.approx(20 * 0.1 + 10 * 0.4 + 2 * 0.5)


def test_survivors_of_a_proxy_task_start_anew():
    assert run_strategy(use_proxy(SMALL, top=3), make_candidates()).cost == pytest.approx(20 * 0.2 + 3)


def test_survivors_of_a_proxy_task_start_anew_at_a_rung_of_full_training():
    mixed = Strategy("mixed", (Rung(SMALL, BestCount(10)), Rung(LATE, BestCount(2))), needs_study=True)
    assert run_strategy(mixed, make_candidates()).cost == pytest.approx(20 * 0.2 + 10 * 0.5 + 2 * 0.5)


def test_a_zero_cost_score_costs_the_full_trainings_only():
    assert run_strategy(use_zero_cost("parameters", top=4), make_candidates()).cost == pytest.approx(4.0)


def test_halving_keeps_a_third_at_each_rung():
    costs = {Place(FULL_TRAINING, step): step / 81 for step in range(1, 81)}
    found = run_strategy(halve(costs), Candidates(dict.fromkeys(costs, np.arange(81.0)), costs, np.arange(81.0)))
    assert found.trained.sum() == 3
    assert found.cost == pytest.approx(81 * 3 / 81 + 27 * 6 / 81 + 9 * 18 / 81 + 3 * 54 / 81)


def test_halving_with_few_checks_does_not_compare_twice_at_one_place():
    assert len(halve({LATE: 0.5}).rungs) == 1


def test_the_fixed_fraction_is_the_check_nearest_to_a_quarter():
    assert use_fixed_fraction(COSTS).rungs[0].place == LATE


def test_a_threshold_keeps_equal_scores_and_the_least_best():
    scores = np.array([0.1, 0.4, 0.3, 0.2])
    assert Threshold(0.3).keep(scores).tolist() == [False, True, True, False]
    assert Threshold(9.0, least=2).keep(scores).tolist() == [False, True, True, False]


def test_a_share_is_rounded_up():
    assert BestShare(1 / 3).keep(np.arange(10.0)).sum() == 4
    assert BestShare(1 / 3).keep(np.arange(9.0)).sum() == 3


def test_equal_scores_are_kept_in_order():
    assert BestCount(2).keep(np.zeros(4)).tolist() == [True, True, False, False]


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.integers(1, 40))
def test_the_best_of_a_count_are_no_worse_than_the_others(scores: list[float], count: int):
    values = np.array(scores)
    kept = BestCount(count).keep(values)
    assert kept.sum() == min(count, values.size)
    assert values[kept].min() >= values[~kept].max(initial=-np.inf)


@pytest.mark.parametrize("strategy", [train_all(), halve(COSTS), use_proxy(SMALL)], ids=lambda each: each.name)
def test_the_cost_of_a_larger_search_follows_from_a_smaller_one(strategy: Strategy):
    small, large = (run_strategy(strategy, make_candidates(count)).cost for count in (54, 540))
    assert scale_cost(strategy, COSTS, small, 54, 540) == pytest.approx(large)
