"""The tau, the bound and the grade that an accepted proxy task is reported with."""

import json
from dataclasses import replace

import pytest

from nasproxy.stages.confirmation.state import ConfirmationOutcome, ConfirmationState
from nasproxy.stages.confirmation.void import Void, VoidReason
from nasproxy.stages.headline import find_headline
from nasproxy.stages.proxy_search.state import StoppingState, TaskCheck, TaskState
from nasproxy.statistics.acceptance import Grade
from nasproxy.statistics.contradiction import Confirmation
from nasproxy.statistics.rank_correlation import RankCorrelation
from nasproxy.trials.proxy_task import ProxyTask

RACED = RankCorrelation(0.91, 0.001, 0.8, 0.96, 20)
CONFIRMED = RankCorrelation(0.78, 0.001, 0.6, 0.9, 20)
RULES = json.dumps({"criterion": {"target": 0.65}})
TASK = TaskState(
    "data50",
    0,
    ProxyTask(data_fraction=0.5),
    RULES,
    keys=("a", "b"),
    total_steps=100,
    checks=(TaskCheck(20, 20, RACED, 0.7, 0.8, 0.5, 1.0, 1.0),),
    stopping_state=StoppingState.MET_CORRELATION,
    final_step=20,
    bound=0.6,
)
RESULT = Confirmation(0.65, 0.05, CONFIRMED, p_value=0.5, bound=0.5)
STANDS = ConfirmationState("data50", 20, RULES, ("a", "b"), ("c", "d"), True, ConfirmationOutcome.STANDS, RESULT)


def test_confirmation_runs_give_tau_and_bound_and_the_tau_of_the_race_stays_beside_them() -> None:
    shown = find_headline(TASK, STANDS)
    assert (shown.correlation, shown.raced, shown.bound, shown.is_selected) == (CONFIRMED, RACED, 0.5, False)
    assert (shown.target, shown.grade) == (0.65, Grade.MODERATE)


@pytest.mark.parametrize(
    ("bound", "grade"),
    [
        (0.7, Grade.STRONG),
        (0.55, Grade.STRONG),
        (0.549, Grade.MODERATE),
        (0.40, Grade.MODERATE),
        (0.399, Grade.WEAK),
        (None, Grade.WEAK),
    ],
)
def test_the_grade_follows_the_bound_of_the_confirmation_runs(bound: float | None, grade: Grade) -> None:
    assert find_headline(TASK, replace(STANDS, result=replace(RESULT, bound=bound))).grade is grade


VOID = replace(STANDS, outcome=ConfirmationOutcome.VOID, result=None, void=Void(VoidReason.FAILED_TRIALS, 20, 2, 2))


@pytest.mark.parametrize("confirmation", [None, replace(STANDS, outcome=None, result=None), VOID])
def test_without_confirmation_the_task_is_weak_and_the_selected_tau_is_told_as_such(
    confirmation: ConfirmationState | None,
) -> None:
    shown = find_headline(TASK, confirmation)
    assert (shown.correlation, shown.bound, shown.is_selected) == (RACED, 0.6, True)
    assert shown.grade is Grade.WEAK


def test_a_contradicted_task_is_weak_whatever_its_bound() -> None:
    contradicted = replace(STANDS, outcome=ConfirmationOutcome.CONTRADICTED, result=replace(RESULT, bound=0.9))
    assert find_headline(TASK, contradicted).grade is Grade.WEAK


def test_a_task_accepted_at_its_end_is_confirmed_by_its_own_trials_and_keeps_the_selected_tau() -> None:
    own = replace(STANDS, keys=STANDS.judged_keys)
    shown = find_headline(TASK, own)
    assert (shown.correlation, shown.bound, shown.is_selected) == (RACED, 0.6, True)
    assert shown.grade is Grade.STRONG
