"""The lower confidence bound of a selected tau, against simulated studies whose true tau is known."""

import math

import numpy as np
import pytest

from nasproxy.statistics.acceptance import Evidence, LookPlan
from nasproxy.statistics.concordance import kendall_taus
from nasproxy.statistics.deviation import tau_lower_limit
from nasproxy.statistics.fisher import fisher_z
from nasproxy.statistics.missing import Floats
from nasproxy.statistics.rank_correlation import kendall_tau
from nasproxy.statistics.selection_bound import TRUE_TAUS, SelectionMargin, bound_selected_tau, measure_margin

FRACTIONS = np.array([0.1, 0.2, 0.5, 1.0])
"""Looks too far apart to be smoothed, so that a bound depends on one tau."""
TRUE_TAU = 0.55
STUDIES = 400
MOST = 0.075
"""Largest share of 400 studies in which a bound that holds with 95 % may fail: 5 %, and over two standard errors."""


def draw_study(random: np.random.Generator, n: int, tau: float = TRUE_TAU) -> tuple[Floats, Floats]:
    """Draw reference scores, and proxy scores at all looks and of one more training, all with the same true tau.

    Half of a score's deviation is shared by all trainings of its model.
    """
    rho = math.sin(math.pi / 2 * tau)
    reference, shared = random.standard_normal(n), random.standard_normal(n)
    own = random.standard_normal((FRACTIONS.size + 1, n))
    return reference, rho * reference + math.sqrt(1 - rho**2) * (shared + own) / math.sqrt(2)


def measure_margins(plan: LookPlan) -> list[SelectionMargin]:
    return [measure_margin(FRACTIONS[: look + 1], plan) for look in range(FRACTIONS.size)]


def find_highest_bound(reference: Floats, proxy: Floats, margins: list[SelectionMargin]) -> float:
    """Return the highest bound of all looks, as of a rule that selects by it."""
    n = reference.size
    z = fisher_z(kendall_taus(proxy[: FRACTIONS.size], reference), n).tolist()
    return max(margin.bound_tau(each, n) or -1.0 for margin, each in zip(margins, z, strict=True))


@pytest.mark.parametrize("n", [10, 20])
def test_the_bound_holds_at_all_looks_at_once(n: int) -> None:
    random, margins = np.random.default_rng(0), measure_margins(LookPlan(sizes=(n,)))
    wrong, wrong_alone = 0, 0
    for _ in range(STUDIES):
        reference, proxy = draw_study(random, n)
        highest = max(kendall_taus(proxy[: FRACTIONS.size], reference).tolist())
        wrong += find_highest_bound(reference, proxy, margins) > TRUE_TAU
        wrong_alone += (tau_lower_limit(highest, n) or -1.0) > TRUE_TAU
    assert wrong <= MOST * STUDIES
    assert wrong_alone > MOST * STUDIES, "the limit of one look alone does not hold for the best of four"


def test_the_bound_holds_for_all_tasks_and_numbers_of_models_at_once() -> None:
    plan = LookPlan(tasks=3, sizes=(10, 20))
    random, margins = np.random.default_rng(0), measure_margins(plan)
    wrong = 0
    for _ in range(STUDIES):
        studies = [draw_study(random, 20) for _ in range(plan.tasks)]
        bounds = [
            find_highest_bound(reference[:size], proxy[:, :size], margins)
            for reference, proxy in studies
            for size in plan.sizes
        ]
        wrong += max(bounds) > TRUE_TAU
    assert wrong <= MOST * STUDIES


def test_the_bound_of_another_training_of_the_selected_models_holds_too() -> None:
    n = 10
    random, margins = np.random.default_rng(2), measure_margins(LookPlan(sizes=(n,)))
    wrong = 0
    for _ in range(STUDIES):
        reference, proxy = draw_study(random, n)
        taus = kendall_taus(proxy, reference)
        selected = margins[int(np.argmax(taus[:-1]))]
        bound = selected.bound_tau(float(fisher_z(taus[-1], n)), n)
        wrong += bound is not None and bound > TRUE_TAU
    assert wrong <= MOST * STUDIES


def test_the_bound_lies_below_the_observed_tau() -> None:
    random = np.random.default_rng(3)
    for _ in range(20):
        reference, proxy = draw_study(random, 12, tau=0.9)
        bound = bound_selected_tau(Evidence(reference, proxy[: FRACTIONS.size], FRACTIONS, LookPlan(sizes=(12,))))
        assert bound is not None
        assert bound < kendall_taus(proxy[3:4], reference)[0]


def test_a_last_tau_below_its_neighbours_limits_the_bound() -> None:
    reference = np.arange(30.0)
    fractions = np.array([0.8, 0.9, 1.0])
    last = np.random.default_rng(0).permutation(30).astype(float)
    evidence = Evidence(reference, np.array([reference, reference, last]), fractions, LookPlan(sizes=(30,)))
    found = kendall_tau(last, reference)
    assert found is not None
    assert bound_selected_tau(evidence) == found.tau


def test_more_looks_and_more_tasks_lower_the_bound_and_more_models_raise_it() -> None:
    def bound(looks: int, tasks: int, n: int) -> float:
        margin = measure_margin(np.geomspace(0.01, 1.0, looks), LookPlan(tasks, (n,)))
        found = margin.bound_tau(math.atanh(0.8), n)
        assert found is not None
        return found

    assert bound(2, 1, 12) > bound(8, 1, 12)
    assert bound(2, 1, 12) > bound(2, 4, 12) > bound(2, 16, 12)
    assert bound(2, 1, 10) < bound(2, 1, 12) < bound(2, 1, 20)


def test_the_bound_rises_with_the_observed_tau() -> None:
    margin = SelectionMargin((2.0, 2.4, 3.0, 3.4), 10)
    bounds = [margin.bound_tau(z, 10) for z in np.linspace(-0.5, 2.5, 61)]
    assert bounds == sorted(bounds, key=float)
    assert len(set(bounds)) == 61


def test_each_calibrated_tau_is_just_not_rejected_at_its_own_boundary() -> None:
    margin = SelectionMargin((2.0, 2.4, 3.0, 3.4), 10)
    unit = math.sqrt(0.48 / 4)
    for tau, boundary in zip(TRUE_TAUS, margin.boundaries, strict=True):
        assert margin.bound_tau(math.atanh(tau) + boundary * unit, 10) == pytest.approx(tau)


def test_too_few_models_or_equal_scores_give_no_bound() -> None:
    few = Evidence(np.arange(7.0), np.arange(7.0)[None], np.array([1.0]), LookPlan(sizes=(7,)))
    equal = Evidence(np.arange(10.0), np.ones((1, 10)), np.array([1.0]), LookPlan())
    assert bound_selected_tau(few) is None
    assert bound_selected_tau(equal) is None


def test_missing_models_count_as_in_the_criterion() -> None:
    reference, proxy = np.arange(12.0), np.arange(12.0)[None].copy()
    proxy[0, :2] = np.nan
    plan, fractions = LookPlan(sizes=(12,)), np.array([1.0])
    lost = bound_selected_tau(Evidence(reference, proxy, fractions, plan))
    expected = measure_margin(fractions, plan).bound_tau(float(fisher_z(1.0, 10)), 10)
    assert lost == expected
