"""Equal scores of reference models."""

import pytest
from scipy import stats

from nasproxy.stages.references.state import Reference
from nasproxy.stages.references.ties import describe_equal_scores, describe_ties, have_equal_scores
from nasproxy.trials.objective import Objective
from nasproxy.trials.records import Check, TrialRecord

CONSTANT, LEVELLED = (0.1, 0.1), (0.05, 0.1)


def make_references(*scores: float) -> list[Reference]:
    return [Reference(number, {}, f"trial{number}", score, 1.0) for number, score in enumerate(scores)]


def make_record(*scores: float) -> TrialRecord:
    return TrialRecord(checks=tuple(Check(step, score, float(step)) for step, score in enumerate(scores, 1)))


@pytest.mark.parametrize(("scores", "expected"), [((0.1,) * 5, True), ((0.1, 0.1, 0.2), False), ((0.1,), False)])
def test_scores_of_several_models_are_equal_or_not(scores: tuple[float, ...], expected: bool) -> None:
    assert have_equal_scores(make_references(*scores)) is expected


@pytest.mark.parametrize(
    ("curves", "cause"),
    [
        ([CONSTANT, CONSTANT], "No training changes its score from check to check"),
        ([LEVELLED, LEVELLED], "check that the choices of the search space reach the model"),
        ([CONSTANT, LEVELLED], "saturated there, or too coarse: shorten training.total_steps"),
        ([(0.1,), (0.1,)], "may be constant, saturated or too coarse"),
    ],
)
def test_the_curves_tell_why_scores_are_equal(curves: list[tuple[float, ...]], cause: str) -> None:
    text = describe_equal_scores(make_references(0.1, 0.1), [make_record(*curve) for curve in curves], Objective())
    assert text.startswith(
        "reference models need scores that differ, got accuracy 0.1 for all 2: they cannot be ranked"
    )
    assert cause in text
    assert text.endswith("Then use another study=NAME")


def test_few_ties_are_not_reported() -> None:
    assert describe_ties(make_references(*range(10))) is None
    assert describe_ties(make_references(1, 1, *range(2, 10))) is None
    assert describe_ties([]) is None


def test_many_ties_limit_the_tau_that_a_proxy_task_can_reach() -> None:
    scores = [0.5] * 8 + [0.6, 0.7]
    reached = stats.kendalltau(range(10), scores).statistic
    assert reached == pytest.approx(0.615, abs=0.001)
    text = describe_ties(make_references(*scores))
    assert text is not None
    assert "10 reference models have only 3 different scores: 28 of 45 pairs are equal" in text
    assert f"reaches tau {reached:.2f} at most" in text
