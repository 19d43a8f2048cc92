from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nasproxy.statistics.acceptance import (
    Evidence,
    Grade,
    LookPlan,
    VerdictKind,
    count_models_to_add,
    decide_acceptance,
    find_near_target,
    grade_acceptance,
)
from nasproxy.statistics.fisher import fisher_z
from nasproxy.statistics.rank_correlation import kendall_tau

NAN = float("nan")
REFERENCE = np.arange(10.0)
TURNED = REFERENCE[::-1].copy()
FLAT = np.full(10, 0.5)


def evidence(*checks: np.ndarray, planned: int = 4, reference: np.ndarray = REFERENCE) -> Evidence:
    fractions = np.arange(1, len(checks) + 1) / planned
    return Evidence(reference, np.array(checks).reshape(len(checks), reference.size), fractions, LookPlan(tasks=3))


def test_tau_is_that_of_the_last_check() -> None:
    assert evidence(TURNED, REFERENCE).correlation == kendall_tau(REFERENCE, REFERENCE)
    too_few = np.where(np.arange(10) < 4, REFERENCE, NAN)
    for undefined in (evidence(), evidence(REFERENCE, FLAT), evidence(REFERENCE, too_few)):
        assert undefined.correlation is None


@pytest.mark.parametrize(
    ("bound", "target", "grade"),
    [
        (0.55, 0.65, Grade.STRONG),
        (0.9, 0.65, Grade.STRONG),
        (0.549, 0.65, Grade.MODERATE),
        (0.65 - 0.25, 0.65, Grade.MODERATE),
        (0.399, 0.65, Grade.WEAK),
        (None, 0.65, Grade.WEAK),
        (0.9, None, Grade.WEAK),
    ],
)
def test_a_confirmed_task_is_graded_by_its_bound(bound: float | None, target: float | None, grade: Grade) -> None:
    assert grade_acceptance(bound, target, is_confirmed=True) is grade
    assert grade_acceptance(bound, target, is_confirmed=False) is Grade.WEAK


def test_z_is_averaged_over_the_near_checks() -> None:
    near = Evidence(REFERENCE, np.array([TURNED, REFERENCE, REFERENCE]), np.array([0.5, 0.9, 1.0]), LookPlan())
    assert near.earlier_z == pytest.approx(fisher_z([1.0], 10))
    assert near.smoothed_z == pytest.approx(float(fisher_z(1.0, 10)))
    assert Evidence(REFERENCE, FLAT[None], np.array([1.0]), LookPlan()).smoothed_z is None


def test_a_sufficient_tau_is_accepted() -> None:
    verdict = decide_acceptance(evidence(TURNED, REFERENCE), lambda n: 0.9, target=0.65)
    assert (verdict.kind, verdict.needed, verdict.models_needed) == (VerdictKind.ACCEPTED, 0.9, None)
    assert verdict.reason == "tau 1.000 on 10 models after 50 % of training reaches the acceptance threshold 0.900"


def test_a_tau_equal_to_the_threshold_up_to_rounding_is_accepted() -> None:
    proxy = np.array([1.0, 2, 3, 5, 4])
    correlation = kendall_tau(proxy, range(5))
    assert correlation is not None
    assert correlation.tau < 0.8  # 8 / 10, through square roots
    verdict = decide_acceptance(evidence(proxy, reference=np.arange(5.0)), lambda n: 0.8, target=0.65)
    assert verdict.kind is VerdictKind.ACCEPTED


def test_a_task_with_looks_left_is_inconclusive_and_one_without_is_rejected() -> None:
    early = decide_acceptance(evidence(REFERENCE, TURNED), lambda n: 0.9, target=0.65)
    assert early.kind is VerdictKind.INCONCLUSIVE
    rejected = decide_acceptance(evidence(TURNED, TURNED, planned=2), lambda n: 0.9, target=0.65)
    assert rejected.kind is VerdictKind.REJECTED
    assert rejected.reason == "tau -1.000 on 10 models after 100 % of training is below the acceptance threshold 0.900"


def test_more_models_are_requested_if_they_would_decide() -> None:
    near = REFERENCE[[1, 0, 2, 3, 5, 4, 6, 7, 9, 8]]  # tau 39/45
    seen = evidence(near, planned=1)
    verdict = decide_acceptance(seen, lambda n: 1.0 - n / 100, target=0.65)
    assert (verdict.kind, verdict.models_needed) == (VerdictKind.INCONCLUSIVE, 4), "1 - 14/100 is below 0.867"
    assert decide_acceptance(seen, lambda n: 0.9, target=0.65).kind is VerdictKind.REJECTED, (
        "no number of models would suffice"
    )
    assert decide_acceptance(seen, lambda n: 1.0 - n / 100, target=0.9).models_needed is None, (
        "tau is below the target itself"
    )


def test_the_reason_states_that_no_tau_suffices_on_too_few_models() -> None:
    verdict = decide_acceptance(evidence(REFERENCE), lambda n: None, target=0.65)
    assert verdict.kind is VerdictKind.INCONCLUSIVE
    assert verdict.reason.startswith("tau 1.000 on 10 models after 25 % of training; too few models for acceptance")


def test_models_are_added_step_by_step_up_to_the_maximum() -> None:
    asks = decide_acceptance(evidence(REFERENCE), lambda n: 1.1 if n < 25 else 0.5, target=0.65)
    assert asks.models_needed == 15
    assert count_models_to_add(asks, 10, step=5, maximum=30) == 5
    assert count_models_to_add(replace(asks, models_needed=2), 28, step=5, maximum=30) == 2
    assert count_models_to_add(replace(asks, models_needed=None), 10, step=5, maximum=30) == 0


def test_no_models_are_added_if_the_maximum_would_not_decide() -> None:
    asks = decide_acceptance(evidence(REFERENCE), lambda n: 1.1 if n < 25 else 0.5, target=0.65)
    assert count_models_to_add(asks, 10, step=5, maximum=24) == 0


def test_at_the_last_check_a_tau_near_the_target_adds_models() -> None:
    turned = REFERENCE[[1, 0, 4, 3, 2, 7, 6, 5, 9, 8]]  # tau 29/45, 0.644
    last, early = evidence(turned, planned=1), evidence(turned, planned=2)
    asks = decide_acceptance(last, lambda n: 0.9 - n / 100, target=0.65, near_target=0.6)
    assert (asks.kind, asks.is_near_target) == (VerdictKind.INCONCLUSIVE, True)
    assert asks.models_needed == 15, "25 models accept a tau of 0.65"
    assert count_models_to_add(asks, 10, step=5, maximum=20) == 5, "the next models may raise tau"
    assert count_models_to_add(asks, 20, step=5, maximum=20) == 0
    far = decide_acceptance(last, lambda n: 0.9 - n / 100, target=0.65, near_target=0.7)
    assert (far.kind, far.models_needed) == (VerdictKind.REJECTED, None)
    waiting = decide_acceptance(early, lambda n: 0.9 - n / 100, target=0.65, near_target=0.6)
    assert (waiting.models_needed, waiting.is_near_target) == (None, False), "a later check is cheaper than models"


def test_near_the_target_is_one_standard_deviation() -> None:
    near = find_near_target(0.65, 20)
    assert near is not None
    assert np.arctanh(0.65) - np.arctanh(near) == pytest.approx(np.sqrt(0.48 / 14))
    assert find_near_target(0.65, 7) is None


def test_the_last_look_is_the_one_at_the_end_of_the_training() -> None:
    steps = np.array([0.1, 0.3]) / 0.3
    for fractions, is_last in ((steps, True), (steps * (1 - 1e-10), True), (steps * 0.999, False)):
        assert Evidence(REFERENCE, np.zeros((2, 10)), fractions, LookPlan()).is_last_look is is_last
    assert not evidence().is_last_look, "no look yet"


def test_scores_that_do_not_fit_the_models_or_the_fractions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"proxy must have shape \(checks, models\), got \(10, 2\)"):
        Evidence(REFERENCE, np.zeros((10, 2)), np.array([0.5, 1.0]), LookPlan())
    with pytest.raises(ValueError, match=r"fractions must have shape \(3,\), one for each check of proxy, got \(2,\)"):
        Evidence(REFERENCE, np.zeros((3, 10)), np.array([0.5, 1.0]), LookPlan())


@pytest.mark.parametrize(
    "fractions", [(0.0, 0.5), (0.5, 0.5), (0.6, 0.5), (0.5, 50.0), (NAN, 0.5), (0.5, NAN)], ids=str
)
def test_fractions_that_do_not_increase_within_one_are_refused(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"fractions must increase within \(0, 1\], got"):
        Evidence(REFERENCE, np.zeros((2, 10)), np.array(fractions), LookPlan())


@pytest.mark.parametrize("plan", [{"tasks": 0}, {"sizes": ()}, {"sizes": (10, 10)}, {"sizes": (0, 5)}], ids=str)
def test_an_empty_plan_is_refused(plan: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a plan needs a task or more and sizes that rise, got"):
        LookPlan(**plan)
