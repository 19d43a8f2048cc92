"""The comparison criteria, tested against their formulas."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from benchmarks.criteria.alpha_spending import AlphaSpending, find_critical_tau
from benchmarks.criteria.weak_prior import WeakPrior
from nasproxy.errors import ConfigError
from nasproxy.statistics.acceptance import Criterion, Evidence, LookPlan, VerdictKind
from nasproxy.statistics.score_test import tau_deviation

Judged = tuple[VerdictKind, float | None]


def judge_perfect_order(rule: Criterion, n: int, fractions: list[float], plan: LookPlan) -> Judged:
    """Return the verdict at the last of several checks, with its threshold."""
    order = np.arange(float(n))
    verdict = rule.judge(Evidence(order, np.tile(order, (len(fractions), 1)), np.array(fractions), plan))
    return verdict.kind, verdict.needed


def test_the_weak_prior_follows_its_formula() -> None:
    variance, floor = 0.48 / 4, math.atanh(0.55)
    prior = 1.6 + 0.35 * math.log(0.1)
    z = floor + 2.0 * math.sqrt(variance * (1 + variance / 0.5)) - (variance / 0.5) * (prior - floor)
    _, alone = judge_perfect_order(WeakPrior(), 10, [0.1], LookPlan(sizes=(10,)))
    _, growing = judge_perfect_order(WeakPrior(), 10, [0.1], LookPlan(sizes=(10, 15)))
    assert alone == pytest.approx(math.tanh(z))
    assert growing is not None
    assert growing > alone
    _, many = judge_perfect_order(WeakPrior(), 40, [0.99], LookPlan(sizes=(40,)))
    assert many == pytest.approx(0.7), "the margin of 0.05 holds"


def test_alpha_spending_spends_in_proportion_to_training_over_tasks_and_sizes() -> None:
    plan = LookPlan(tasks=2, sizes=(20, 30))
    _, needed = judge_perfect_order(AlphaSpending(alpha=0.2), 20, [0.25, 0.5], plan)
    assert needed == pytest.approx(find_critical_tau(0.55, 20, 0.2 * 0.25 / 4))


@pytest.mark.parametrize("n", [10, 20, 30])
def test_the_critical_tau_is_the_one_whose_p_value_is_the_error(n: int) -> None:
    tau = find_critical_tau(0.55, n, 0.05)
    assert tau is not None
    distance = math.asin(tau - 2 / (n * (n - 1))) - math.asin(0.55)
    assert stats.norm.sf(distance * math.sqrt(1 - 0.55**2) / tau_deviation(0.55, n)) == pytest.approx(0.05)
    assert find_critical_tau(0.55, 8, 1e-6) is None, "no tau of 8 models is enough"


@pytest.mark.parametrize("rule", [WeakPrior, AlphaSpending])
def test_a_perfect_order_is_accepted_but_not_on_seven_models(rule: Callable[[], Criterion]) -> None:
    for n, kind in ((7, VerdictKind.INCONCLUSIVE), (30, VerdictKind.ACCEPTED)):
        assert judge_perfect_order(rule(), n, [0.5], LookPlan(sizes=(n,)))[0] is kind


def test_a_target_or_an_error_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"criterion.target must lie in \(0, 1\], got 65"):
        WeakPrior(target=65.0)
    with pytest.raises(ConfigError, match=r"criterion.alpha must lie in \(0, 0.5\), got 5"):
        AlphaSpending(alpha=5.0)
