"""The probability that an accepted proxy task's true tau lies below the target."""

import math
from functools import partial

import numpy as np
import pytest
from scipy import stats

from nasproxy.statistics.acceptance import Evidence, LookPlan, VerdictKind
from nasproxy.statistics.acceptance_error import (
    AcceptanceError,
    TauPrior,
    continue_looks,
    estimate_crossing_errors,
    estimate_sequential_errors,
)
from nasproxy.statistics.criteria.first_crossing import FirstCrossing
from nasproxy.statistics.criteria.group_sequential import GroupSequential

LOOKS = tuple(np.geomspace(0.05, 1.0, 4).tolist())
PLAN = LookPlan(sizes=(10,))
sequential = partial(estimate_sequential_errors, LOOKS, PLAN)


def of(errors: tuple[AcceptanceError, ...], prior: TauPrior) -> tuple[float, float, float]:
    (error,) = (each for each in errors if each.prior is prior)
    assert error.below_target is not None
    assert error.below_margin is not None
    return error.accepted, error.below_target, error.below_margin


def judge_by_hand(rule: FirstCrossing | GroupSequential, tau: float, random: np.random.Generator) -> bool:
    """Judge a study of 10 models with a constant true tau by the criterion itself; return whether it accepts."""
    reference, rho = random.standard_normal(10), math.sin(math.pi / 2 * tau)
    waning, rows = random.standard_normal(10), np.zeros((0, 10))
    for look, fraction in enumerate(LOOKS):
        kept = LOOKS[look - 1] / fraction if look else 0.0
        waning = kept * waning + math.sqrt(1 - kept**2) * random.standard_normal(10)
        apart = math.sqrt(0.5) * (waning + random.standard_normal(10))
        rows = np.vstack([rows, rho * reference + math.sqrt(1 - rho**2) * apart])
        evidence = Evidence(reference, rows, np.array(LOOKS[: look + 1]), PLAN)
        if rule.judge(evidence).kind is VerdictKind.ACCEPTED:
            return True
    return False


@pytest.mark.parametrize("rule", [FirstCrossing(target=0.65), GroupSequential(target=0.65)])
def test_under_even_taus_it_is_the_share_among_studies_judged_by_the_criterion(
    rule: FirstCrossing | GroupSequential,
) -> None:
    random, studies = np.random.default_rng(5), 300
    taus = random.uniform(0, 1, studies)
    accepted = np.array([judge_by_hand(rule, tau, random) for tau in taus])
    errors = (
        sequential(target=0.65, alpha=0.2)
        if isinstance(rule, GroupSequential)
        else estimate_crossing_errors(LOOKS, 10, target=0.65)
    )
    share, below, far_below = of(errors, TauPrior.UNIFORM)
    assert share == pytest.approx(accepted.mean(), abs=4 * math.sqrt(share * (1 - share) / studies))
    for stated, limit in ((below, 0.65), (far_below, 0.55)):
        found = (taus[accepted] < limit).mean()
        assert stated == pytest.approx(found, abs=4 * math.sqrt(stated * (1 - stated) / accepted.sum()))


@pytest.mark.parametrize("prior", list(TauPrior))
def test_a_larger_alpha_raises_it(prior: TauPrior) -> None:
    _, *found = zip(*(of(sequential(target=0.65, alpha=alpha), prior) for alpha in (0.05, 0.2, 0.45)), strict=True)
    for lowest, middle, highest in found:
        assert lowest < middle < highest


def test_a_higher_target_raises_it() -> None:
    found = [of(sequential(target=target, alpha=0.2), TauPrior.UNIFORM)[1] for target in (0.35, 0.65, 0.85)]
    assert found[0] < found[1] < found[2]


def test_more_models_lower_the_probability_of_a_tau_far_below_the_target() -> None:
    few, many = (
        of(estimate_sequential_errors(LOOKS, LookPlan(sizes=(n,)), target=0.65, alpha=0.2), TauPrior.UNIFORM)
        for n in (10, 40)
    )
    assert many[0] > few[0]
    assert many[2] < few[2] / 2


def test_first_crossing_errs_several_times_as_often() -> None:
    default = of(sequential(target=0.65, alpha=0.2), TauPrior.PUBLISHED)
    crossing = of(estimate_crossing_errors(LOOKS, 10, target=0.65), TauPrior.PUBLISHED)
    assert crossing[1] > 3 * default[1]
    assert crossing[2] > 10 * default[2]


def test_first_crossing_on_fewer_models_errs_more_often() -> None:
    five, eight = (of(estimate_crossing_errors(LOOKS, n, target=0.65), TauPrior.UNIFORM) for n in (5, 8))
    assert five[1] > eight[1]
    assert five[2] > eight[2]


def test_it_is_1_if_no_true_tau_can_reach_the_target() -> None:
    assert of(estimate_crossing_errors(LOOKS, 10, target=1.0), TauPrior.UNIFORM)[1] == 1.0


def test_half_hopeless_mixes_published_and_low_taus() -> None:
    errors = estimate_crossing_errors(LOOKS, 10, target=0.65)
    accepted, below, far_below = of(errors, TauPrior.PUBLISHED)
    even = of(errors, TauPrior.UNIFORM)
    of_low = even[0] * even[2] / 0.55
    mixed = of(errors, TauPrior.HALF_HOPELESS)
    assert mixed[0] == pytest.approx((accepted + of_low) / 2, rel=1e-3)
    assert mixed[1] == pytest.approx((accepted * below + of_low) / (accepted + of_low), rel=1e-3)
    assert mixed[2] == pytest.approx((accepted * far_below + of_low) / (accepted + of_low), rel=1e-3)


def test_without_an_accepted_study_it_is_unknown() -> None:
    strict = estimate_sequential_errors((1.0,), LookPlan(tasks=10**9, sizes=(10,)), target=1.0, alpha=0.001)
    assert all((error.accepted, error.below_target, error.below_margin) == (0.0, None, None) for error in strict)


def test_the_same_study_gets_the_same_probabilities() -> None:
    before = sequential(target=0.6, alpha=0.1)
    estimate_sequential_errors.cache_clear()
    assert sequential(target=0.6, alpha=0.1) == before


def test_later_looks_are_as_far_apart_as_the_last_two() -> None:
    assert continue_looks((0.25,)).tolist() == [0.25, 0.5, 0.75, 1.0]
    assert continue_looks((0.5, 1.0)).tolist() == [0.5, 1.0]
    close = continue_looks((0.01, 0.02))
    assert close[:2].tolist() == [0.01, 0.02]
    assert (close[1:] / close[:-1]).min() > 1.11


def test_published_taus_have_the_distribution_of_the_prior() -> None:
    at_end = of(estimate_crossing_errors((1.0,), 60, target=0.92), TauPrior.PUBLISHED)[0]
    assert at_end == pytest.approx(stats.norm.sf(math.atanh(0.92), 1.6, math.sqrt(0.5 + 4 * 0.04)), abs=0.08)


def test_a_target_without_hopeless_tasks_has_errors_under_every_prior() -> None:
    errors = estimate_crossing_errors(LOOKS, 10, target=0.1)
    assert of(errors, TauPrior.HALF_HOPELESS)[1:] == pytest.approx(of(errors, TauPrior.PUBLISHED)[1:])
    assert all(math.isfinite(value) for prior in TauPrior for value in of(errors, prior))
