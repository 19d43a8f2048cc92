"""Expected acceptance by the study's own criterion."""

from hypothesis import given
from hypothesis import strategies as st

from nasproxy.stages.proxy_search.expected_acceptance import (
    ExpectedAcceptance,
    assume_tau,
    expect_acceptance,
    make_ranking,
)
from nasproxy.stages.proxy_search.judge import Judge
from nasproxy.stages.proxy_search.race import TaskSpeed
from nasproxy.stages.references.candidate_pool import CandidatePool
from nasproxy.statistics.acceptance import Criterion
from nasproxy.statistics.criteria.first_crossing import FirstCrossing
from nasproxy.statistics.criteria.group_sequential import GroupSequential
from nasproxy.statistics.rank_correlation import kendall_tau
from nasproxy.testing import synthetic
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.spec import Split, TrialSpec

SPEED = TaskSpeed(tuple(range(4, 101, 4)), 0.01)


def expect(criterion: Criterion, maximum: int = 0, tasks: int = 1) -> ExpectedAcceptance:
    recipe = synthetic.make_recipe()
    candidate_pool = CandidatePool(
        candidates=[TrialSpec({"quality": q}, ProxyTask(), Split.FULL, 0, recipe) for q in range(25)],
        first_number=10,
        step=5,
        maximum=maximum,
        search_trials=2000,
        full_seconds=1.0,
    )
    judge = Judge(criterion, min_models=5, min_valid_ratio=0.7)
    return expect_acceptance("half", SPEED, judge=judge, candidate_pool=candidate_pool, models=10, tasks=tasks)


@given(n=st.integers(5, 40), tau=st.floats(-1, 1))
def test_an_assumed_ranking_has_the_given_tau_up_to_one_pair(n: int, tau: float) -> None:
    found = kendall_tau(make_ranking(n, tau), range(n))
    assert found is not None
    assert abs(found.tau - tau) <= 2 / (n * (n - 1) / 2)


def test_first_crossing_accepts_where_the_assumed_tau_reaches_the_target() -> None:
    ends = expect(FirstCrossing(target=0.65))
    first = next(step for step in SPEED.check_steps if assume_tau(step / 100, 1) >= 0.63)
    assert ends.step is not None
    assert abs(ends.step - first) <= 4
    assert ends.added == 0


def test_group_sequential_takes_longer_and_adds_references_if_allowed() -> None:
    alone, grown = expect(GroupSequential()), expect(GroupSequential(), maximum=30)
    crossing = expect(FirstCrossing(target=0.65))
    assert crossing.step is not None
    assert grown.step is not None
    assert grown.step > crossing.step
    assert grown.added > 0
    assert alone.added == 0
    assert alone.step is None or alone.step > grown.step


def test_the_best_of_several_proxy_tasks_is_accepted_earlier() -> None:
    one, six = expect(FirstCrossing(target=0.85)), expect(FirstCrossing(target=0.85), tasks=6)
    assert one.step is not None
    assert six.step is not None
    assert six.step < one.step


def test_a_target_of_one_is_never_accepted() -> None:
    assert expect(FirstCrossing(target=1.0)).step is None
