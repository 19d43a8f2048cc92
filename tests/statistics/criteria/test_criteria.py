"""The rules of decision: by hand, by simulation, and what must hold for each of them."""

import importlib
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nasproxy.errors import ConfigError
from nasproxy.statistics.acceptance import Criterion, Evidence, VerdictKind
from nasproxy.statistics.criteria.alpha_spending import AlphaSpending
from nasproxy.statistics.criteria.first_crossing import FirstCrossing
from nasproxy.statistics.criteria.group_sequential import GroupSequential, boundary
from nasproxy.statistics.criteria.weak_prior import WeakPrior
from nasproxy.statistics.deviation import atanh_deviation, tau_lower_limit

CONFIGS = sorted((Path(__file__).parents[3] / "conf" / "criterion").glob("*.yaml"))
RULES: tuple[Callable[..., Criterion], ...] = (FirstCrossing, WeakPrior, AlphaSpending, GroupSequential)
HONEST: tuple[Callable[..., Criterion], ...] = (AlphaSpending, GroupSequential)
GEOMETRIC = tuple(float(f) for f in np.geomspace(0.01, 0.98, 16))


def seen(fractions: tuple[float, ...], proxy: np.ndarray, reference: np.ndarray) -> Evidence:
    """Evidence whose earlier checks were without order."""
    before = np.zeros((len(fractions) - 1, reference.size))
    return Evidence(reference, np.vstack([before, proxy[None]]), np.array(fractions), len(GEOMETRIC), 1)


def needed(rule: Criterion, n: int, fractions: tuple[float, ...] = GEOMETRIC, **plan: int) -> float:
    value = rule.judge(replace(seen(fractions, np.arange(float(n)), np.arange(float(n))), **plan)).needed
    assert value is not None
    return value


def test_the_first_crossing_needs_the_target_and_no_more() -> None:
    assert needed(FirstCrossing(target=0.7), 10) == 0.7


def test_the_weak_prior_follows_its_formula() -> None:
    variance, floor = 0.48 / 4, math.atanh(0.55)
    prior = 1.6 + 0.35 * math.log(0.1)
    z = floor + 2.0 * math.sqrt(variance * (1 + variance / 0.5)) - (variance / 0.5) * (prior - floor)
    assert needed(WeakPrior(), 10, (0.1,)) == pytest.approx(math.tanh(z))
    assert needed(WeakPrior(), 10, (0.1,), sizes_planned=5) > needed(WeakPrior(), 10, (0.1,))
    assert needed(WeakPrior(), 40, (1.0,)) == pytest.approx(0.7), "the margin of 0.05 holds"


def test_alpha_spending_spends_in_proportion_to_training() -> None:
    z = math.atanh(0.55) + stats.norm.isf(0.2 * 0.25) * math.sqrt(0.48 / 14)
    assert needed(AlphaSpending(alpha=0.2), 20, (0.25, 0.5)) == pytest.approx(math.tanh(z))


def test_a_single_look_is_an_ordinary_test() -> None:
    assert boundary((1.0,), 0.05) == pytest.approx(1.645, abs=2e-3)
    assert boundary((0.5,), 0.05) == pytest.approx(1.960, abs=2e-3)


def test_boundaries_are_crossed_as_often_as_stated() -> None:
    random, walks = np.random.default_rng(0), 200_000
    score = random.standard_normal(walks)
    has_crossed = score >= boundary(GEOMETRIC[:1], 0.1)
    for look in range(1, len(GEOMETRIC)):
        correlation = GEOMETRIC[look - 1] / GEOMETRIC[look]
        score = correlation * score + math.sqrt(1 - correlation**2) * random.standard_normal(walks)
        has_crossed |= score >= boundary(GEOMETRIC[: look + 1], 0.1)
    assert has_crossed.mean() == pytest.approx(0.98 * 0.1, rel=0.05)


def test_many_looks_alike_cost_less_than_as_many_apart() -> None:
    close = tuple(float(f) for f in np.linspace(0.5, 1.0, 50))
    assert boundary(close, 0.1) < stats.norm.isf(0.1 * (close[-1] - close[-2])) - 0.3


def test_hundreds_of_looks_are_no_too_deep_recursion() -> None:
    assert 1.0 < boundary(tuple(float(f) for f in np.linspace(0.001, 1.0, 1500)), 0.1) < 5.0


@pytest.mark.parametrize("rule", HONEST)
def test_more_tasks_and_sizes_need_more_and_more_models_less(rule: Callable[[], Criterion]) -> None:
    for fractions in (GEOMETRIC[:3], GEOMETRIC):
        plain = needed(rule(), 10, fractions)
        assert needed(rule(), 10, fractions, tasks_planned=8) > plain
        assert needed(rule(), 10, fractions, sizes_planned=5) > plain
        assert needed(rule(), 20, fractions) < plain


@pytest.mark.parametrize("models", [10, 20])
def test_a_bad_task_is_hardly_ever_accepted_over_all_looks_and_tasks(models: int) -> None:
    """True tau is target - 0.2 at each of 20 looks of 8 proxy tasks: the family is wrong at most once in 20."""
    random, families, tasks = np.random.default_rng(models), 100, 8
    fractions = tuple(float(f) for f in np.geomspace(0.01, 1.0, 20))
    limits = [needed(GroupSequential(), models, fractions[: look + 1], tasks_planned=tasks) for look in range(20)]
    rho, wrong = math.sin(math.pi * 0.45 / 2), 0
    for _ in range(families):
        reference = random.standard_normal(models)
        noise, is_wrong = random.standard_normal((tasks, models)), False
        for look, limit in enumerate(limits):
            if look:
                keep = fractions[look - 1] / fractions[look]
                noise = keep * noise + math.sqrt(1 - keep**2) * random.standard_normal((tasks, models))
            proxies = rho * reference + math.sqrt(1 - rho**2) * noise
            is_wrong |= any(stats.kendalltau(proxy, reference).statistic >= limit for proxy in proxies)
        wrong += is_wrong
    assert wrong / families <= 0.05


@given(st.permutations(range(12)), st.permutations(range(12)))
def test_neither_the_order_of_models_nor_the_scale_of_scores_matters(ranks: list[int], order: list[int]) -> None:
    proxy, reference = np.array(ranks, dtype=float), np.arange(12.0)
    for rule in RULES:
        verdict = rule().judge(seen(GEOMETRIC, proxy, reference))
        moved = rule().judge(seen(GEOMETRIC, np.exp(proxy)[order], (3 * reference - 5)[order]))
        assert (moved.kind, moved.needed) == (verdict.kind, verdict.needed)


@given(st.permutations(range(12)))
def test_a_better_order_is_never_accepted_less(ranks: list[int]) -> None:
    reference, proxy = np.arange(12.0), np.array(ranks, dtype=float)
    better = proxy.copy()
    swap = next((i for i in range(11) if proxy[i] > proxy[i + 1]), None)
    if swap is not None:
        better[[swap, swap + 1]] = better[[swap + 1, swap]]
    for rule in RULES:
        if rule().judge(seen(GEOMETRIC, proxy, reference)).kind is VerdictKind.ACCEPTED:
            assert rule().judge(seen(GEOMETRIC, better, reference)).kind is VerdictKind.ACCEPTED


@pytest.mark.parametrize("rule", [WeakPrior, *HONEST])
def test_seven_models_are_too_few_for_a_verdict(rule: Callable[[], Criterion]) -> None:
    verdict = rule().judge(seen(GEOMETRIC, np.arange(7.0), np.arange(7.0)))
    assert verdict.kind is VerdictKind.REJECTED
    assert "no tau is enough on 7 models" in verdict.reason
    assert atanh_deviation(7) is None


@pytest.mark.parametrize(("models", "tau"), [(10, 0.3), (10, 0.6), (20, 0.45), (30, 0.7)])
def test_the_lower_limit_holds_as_often_as_it_says(models: int, tau: float) -> None:
    random, draws, rho = np.random.default_rng(7), 3000, math.sin(math.pi * tau / 2)
    holds = 0
    for _ in range(draws):
        x = random.standard_normal(models)
        y = rho * x + math.sqrt(1 - rho**2) * random.standard_normal(models)
        limit = tau_lower_limit(float(stats.kendalltau(x, y).statistic), models)
        holds += limit is not None and limit <= tau
    assert 0.935 <= holds / draws <= 0.985


@pytest.mark.parametrize("rule", HONEST)
def test_the_limit_stands_on_record_with_the_verdict(rule: Callable[[], Criterion]) -> None:
    reference = np.arange(10.0)
    verdict = rule().judge(seen(GEOMETRIC, reference[[1, 0, 2, 3, 4, 5, 6, 7, 8, 9]], reference))
    assert verdict.correlation is not None
    assert verdict.lower_limit == tau_lower_limit(verdict.correlation.tau, 10)
    assert verdict.lower_limit is not None
    assert verdict.lower_limit < verdict.correlation.tau


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("target", [0.0, -0.1, 1.01, 65.0, float("nan")])
def test_a_target_that_is_no_tau_is_refused(rule: Callable[..., Criterion], target: float) -> None:
    with pytest.raises(ConfigError, match=r"criterion.target must lie in \(0, 1\], got"):
        rule(target=target)


@pytest.mark.parametrize("rule", HONEST)
def test_an_error_that_is_none_is_refused(rule: Callable[..., Criterion]) -> None:
    for alpha in (0.0, 0.5, -1.0, 5.0):
        with pytest.raises(ConfigError, match=r"criterion.alpha must lie in \(0, 0.5\), got"):
            rule(alpha=alpha)
    with pytest.raises(ConfigError, match=r"criterion.target must lie above 0.1 for this rule, got 0.1"):
        rule(target=0.1)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_config_builds_the_criterion(path: Path) -> None:
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    module, _, name = config.pop("_target_").rpartition(".")
    assert module.endswith(f"criteria.{path.stem}")
    criterion: Criterion = getattr(importlib.import_module(module), name)(**config)
    assert criterion.target == 0.65
