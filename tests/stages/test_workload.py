"""Planned work against counts made by hand and the formulas of the stages."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasproxy.stages.confirmation.workload import plan_confirmation
from nasproxy.stages.proxy_search.expected_acceptance import ExpectedAcceptance
from nasproxy.stages.proxy_search.race import TaskSpeed
from nasproxy.stages.proxy_search.settings import ProxySearchSettings
from nasproxy.stages.proxy_search.workload import RaceWork, plan_proxy_search
from nasproxy.stages.references.random_selection import RandomSelection
from nasproxy.stages.references.spread_selection import SpreadSelection
from nasproxy.stages.references.workload import plan_selection
from nasproxy.stages.variance.settings import VarianceSettings
from nasproxy.stages.variance.workload import plan_variance
from nasproxy.stages.workload import Work
from nasproxy.statistics.spread import selection_cost
from nasproxy.testing import synthetic
from nasproxy.trials.spec import Architecture

RECIPE = synthetic.make_recipe(total_steps=100, check_every_steps=10)
CANDIDATES: list[Architecture] = [{"quality": quality} for quality in range(60)]
BASELINE: Architecture = {"quality": 99}


def count_trials(works: Iterable[Work]) -> int:
    return sum(work.trials for work in works)


def count_steps(works: Iterable[Work]) -> int:
    return sum(work.steps for work in works)


def test_variance_trains_five_seeds_of_which_one_starts_twice() -> None:
    course = plan_variance(VarianceSettings(), RECIPE, CANDIDATES)
    (copies,) = course.middle
    assert copies.models == (CANDIDATES[0],)
    assert (copies.trials, copies.starts, copies.steps, copies.checks) == (5, 6, 500, 50)
    assert course.low == course.middle
    assert (count_trials(course.high), count_steps(course.high)) == (5 + 9, 500 + 9 * 10), (
        "nine candidates fail at their first check"
    )


def test_variance_on_a_short_schedule_counts_its_steps() -> None:
    (copies,) = plan_variance(VarianceSettings(total_steps=40), RECIPE, CANDIDATES).middle
    assert (copies.steps, copies.checks) == (200, 20)


@pytest.mark.parametrize(("is_first_trained", "expected"), [(True, 10), (False, 11)])
def test_random_selection_trains_its_models_and_the_baseline(is_first_trained: bool, expected: int) -> None:
    settings = RandomSelection(models=10, max_failure_ratio=0.2)
    course = plan_selection(settings, RECIPE, CANDIDATES, BASELINE, is_first_trained=is_first_trained)
    assert (count_trials(course.middle), count_steps(course.middle)) == (expected, 100 * expected)
    assert settings.candidates == 13
    assert (count_trials(course.high), count_steps(course.high)) == (expected + 3, 100 * (expected + 3))
    used = [model for work in course.middle for model in work.models]
    assert (CANDIDATES[0] in used) is not is_first_trained
    assert BASELINE in used


def test_planned_spread_selection_agrees_with_its_cost_formula() -> None:
    fine = synthetic.make_recipe(total_steps=10_000, check_every_steps=1)
    course = plan_selection(SpreadSelection(), fine, CANDIDATES, None, is_first_trained=False)
    assert count_trials(course.middle) == 30
    assert count_steps(course.middle) / 10_000 == pytest.approx(selection_cost(30, 10, 5), abs=0.01)
    assert [work.starts for work in course.middle] == [30, 25, 20, 15, 10], "paused after each round"


def make_race(maximum: int = 30, **settings: object) -> RaceWork:
    checks = tuple(range(10, 101, 10))
    return RaceWork(
        task_speeds={"full": TaskSpeed(checks, 0.2), "half": TaskSpeed(checks, 0.1)},
        models=tuple(CANDIDATES[:10]),
        candidate_pool=tuple(CANDIDATES[10:40]),
        maximum=maximum,
        full_steps=checks,
        settings=ProxySearchSettings(**settings),  # type: ignore[arg-type]
    )


def test_a_race_plans_two_checks_at_minimum_and_all_checks_on_all_references_at_maximum() -> None:
    course = plan_proxy_search(make_race(), ExpectedAcceptance("full", step=40, added=5))
    assert (count_trials(course.low), count_steps(course.low)) == (20, 2 * 10 * 20)
    assert count_trials(course.high) == 2 * 30 + 20
    assert count_steps(course.high) == (2 * 30 + 20) * 100


def test_in_the_middle_case_all_tasks_train_to_the_rung_of_the_accepted_one() -> None:
    course = plan_proxy_search(make_race(rung_growth=2.0), ExpectedAcceptance("full", step=40, added=5))
    full, half, references = course.middle
    assert full.steps == 15 * 40, "the first rung ends at 4 s, after both speeds are measured, the next at 8 s"
    assert half.steps == 10 * 80, "the same time at half the cost per step"
    assert (references.trials, references.steps, references.task) == (5, 500, None)
    assert full.starts == 15 * 2, "paused once, at the second check"


@given(
    step=st.sampled_from([None, *range(10, 101, 10)]),
    added=st.integers(0, 20),
    growth=st.floats(1.1, 4.0),
)
def test_the_middle_case_lies_between_minimum_and_maximum(step: int | None, added: int, growth: float) -> None:
    run, expected, fresh = (
        make_race(rung_growth=growth),
        ExpectedAcceptance("half", step, added),
        tuple(CANDIDATES[40:43]),
    )
    for course in (plan_proxy_search(run, expected), plan_confirmation(run, expected, fresh)):
        for count in (count_trials, count_steps, lambda works: sum(work.starts for work in works)):
            assert count(course.low) <= count(course.middle) <= count(course.high)


def test_without_acceptance_all_tasks_train_to_the_end() -> None:
    course = plan_proxy_search(make_race(), ExpectedAcceptance("full", step=None, added=0))
    assert count_steps(course.middle) == 2 * 10 * 100


def test_a_time_limit_ends_a_task_at_the_first_check_that_reaches_it() -> None:
    course = plan_proxy_search(
        make_race(maximum=0, train_seconds_limit=4.5), ExpectedAcceptance("full", step=None, added=0)
    )
    full, half, _ = course.high
    assert (full.steps, half.steps) == (10 * 30, 10 * 50)
    assert course.middle[:2] == course.high[:2]


def test_no_references_are_planned_if_none_can_be_added() -> None:
    course = plan_proxy_search(make_race(maximum=0), ExpectedAcceptance("full", step=40, added=0))
    assert count_trials(course.high) == 2 * 10


def test_confirmation_trains_the_models_of_the_accepted_task_once_and_fresh_models_twice() -> None:
    course = plan_confirmation(
        make_race(), ExpectedAcceptance("half", step=40, added=5), fresh=tuple(CANDIDATES[40:43])
    )
    again, fully = course.middle
    assert (again.trials, again.steps, again.checks, again.task) == (18, 18 * 40, 18 * 4, "half")
    assert (fully.trials, fully.steps, fully.task) == (3, 300, None)
    assert not plan_confirmation(make_race(), ExpectedAcceptance("half", step=None, added=0), fresh=()).middle
    at_its_end = plan_confirmation(make_race(), ExpectedAcceptance("half", step=100, added=0), fresh=())
    assert count_trials(at_its_end.middle) == 0, "a task accepted at its last step needs no confirmation runs"
    assert count_trials(at_its_end.high) == 2 * 30, "each task may be accepted and contradicted"


def test_without_early_stopping_each_task_is_accepted_at_the_same_fraction() -> None:
    run = make_race(early_stop_if_not_best=False)
    full, half, _ = plan_proxy_search(run, ExpectedAcceptance("half", step=40, added=0)).middle
    assert full.steps == half.steps == 10 * 40
