"""The criteria: values computed by hand, simulated error rates, and properties of all criteria."""

import importlib
import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nasproxy.errors import ConfigError
from nasproxy.statistics.acceptance import Criterion, Evidence, LookPlan, VerdictKind, count_models_to_add
from nasproxy.statistics.boundary import raise_to_floor
from nasproxy.statistics.criteria.first_crossing import FirstCrossing
from nasproxy.statistics.criteria.group_sequential import GroupSequential, SimulatedStudies, calibrate_boundary
from nasproxy.statistics.deviation import atanh_deviation, tau_lower_limit
from nasproxy.statistics.look_spacing import LookSpacing

CONFIGS = sorted((Path(__file__).parents[3] / "conf" / "criterion").glob("*.yaml"))
RULES: tuple[Callable[..., Criterion], ...] = (FirstCrossing, GroupSequential)
GEOMETRIC = tuple(float(f) for f in np.geomspace(0.01, 0.98, 16))
AT_THE_END = LookSpacing(0, 6)
HALVES = LookSpacing(12, 12)


def seen(fractions: tuple[float, ...], proxy: np.ndarray, reference: np.ndarray, **plan: Any) -> Evidence:
    """Make evidence at the last of several checks, with equal scores of all models before."""
    before = np.zeros((len(fractions) - 1, reference.size))
    return Evidence(reference, np.vstack([before, proxy[None]]), np.array(fractions), LookPlan(**plan))


def needed(rule: Criterion, n: int, fractions: tuple[float, ...] = GEOMETRIC, **plan: Any) -> float:
    value = rule.judge(seen(fractions, np.arange(float(n)), np.arange(float(n)), **{"sizes": (n,), **plan})).needed
    assert value is not None
    return value


def test_first_crossing_requires_the_target_only() -> None:
    assert needed(FirstCrossing(target=0.7), 10) == 0.7


def test_a_single_look_on_many_models_is_an_ordinary_test() -> None:
    found = calibrate_boundary(AT_THE_END, (40,), 0.65, 0.02) * math.sqrt(0.48 / 34)
    assert found == pytest.approx(stats.norm.isf(0.02) * math.sqrt(0.437 / 36), rel=0.1)


@pytest.mark.parametrize("looks", [8, 20])
@pytest.mark.parametrize("sizes", [(10,), (10, 15, 20)], ids=str)
def test_a_true_tau_at_the_floor_is_accepted_with_the_stated_probability(sizes: tuple[int, ...], looks: int) -> None:
    """Simulate studies with other seeds, for each share of independent noise."""
    fractions, rule = np.geomspace(0.01, 1.0, looks), GroupSequential(alpha=0.2)
    plan, studies = LookPlan(sizes=sizes), 80
    for noise_share in (0.0, 0.5, 1.0):
        scores = on_the_floor(fractions, sizes[-1], noise_share, studies)
        accepted = sum(is_accepted(rule, fractions, plan, each) for each in scores)
        assert stats.binom.sf(accepted - 1, studies, 0.2) > 0.005, f"{accepted} of {studies}"


def on_the_floor(
    fractions: np.ndarray, models: int, noise_share: float, studies: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Simulate full-training and proxy scores with a true tau of 0.55 at every check."""
    random, rho = np.random.default_rng(99), math.sin(math.pi * 0.55 / 2)
    for _ in range(studies):
        reference, waning, rows = random.standard_normal(models), random.standard_normal(models), []
        for before, now in pairwise((fractions[0], *fractions)):
            kept = before / now
            waning = kept * waning + math.sqrt(1 - kept**2) * random.standard_normal(models)
            own = random.standard_normal(models)
            noise = math.sqrt(1 - noise_share) * waning + math.sqrt(noise_share) * own
            rows.append(rho * reference + math.sqrt(1 - rho**2) * noise)
        yield reference, np.array(rows)


def is_accepted(rule: Criterion, fractions: np.ndarray, plan: LookPlan, scores: tuple[np.ndarray, np.ndarray]) -> bool:
    """Return whether a criterion accepts at any look, adding models while it is inconclusive."""
    reference, proxy = scores
    n = plan.sizes[0]
    for look in range(1, fractions.size + 1):
        while True:
            verdict = rule.judge(Evidence(reference[:n], proxy[:look, :n], fractions[:look], plan))
            if verdict.kind is VerdictKind.ACCEPTED:
                return True
            more = count_models_to_add(verdict, n, step=5, maximum=plan.sizes[-1])
            if not more:
                break
            n += more
    return False


def test_a_task_near_the_target_adds_models_after_the_last_check_only() -> None:
    reference = np.arange(10.0)
    near = reference[[1, 0, 4, 3, 2, 7, 6, 9, 8, 5]]
    assert stats.kendalltau(near, reference).statistic == pytest.approx(25 / 45)
    for fractions, adds in (((1.0,), True), ((0.5,), False)):
        verdict = GroupSequential().judge(seen(fractions, near, reference, sizes=(10, 15, 20)))
        assert (count_models_to_add(verdict, 10, step=5, maximum=20) == 5) is adds
    assert FirstCrossing().judge(seen((1.0,), near, reference, sizes=(10, 15, 20))).kind is VerdictKind.REJECTED


@pytest.mark.parametrize(("true_tau", "least"), [(0.69, 0.44), (0.75, 0.78)])
def test_models_added_after_the_last_check_find_good_tasks_at_the_stated_error(true_tau: float, least: float) -> None:
    """Simulate one of three tasks judged at one check; without these models 0.33 and 0.58 are accepted."""
    sizes = (10, 15, 20, 25, 30)
    alpha = GroupSequential().error_spent(LookPlan(3, sizes))
    quantile = calibrate_boundary(AT_THE_END, sizes, 0.65, alpha)

    def share(tau: float) -> float:
        return SimulatedStudies([1.0], sizes, 0.65, 0.5, true_tau=tau, seed=5).accepted(quantile)

    assert share(0.55) < 1.3 * alpha, "other seeds than the calibration's"
    assert share(true_tau) > least


@pytest.mark.gate
@pytest.mark.parametrize(
    "fractions",
    [
        np.array([0.25, 0.5, 1.0]),
        np.linspace(0.04, 1.0, 25),
        np.linspace(0.8, 1.0, 21),
        np.outer(2.0 ** np.arange(-6, 1), [0.9, 0.95, 1.0]).ravel(),
    ],
    ids=["few", "equal steps", "late start", "clusters"],
)
def test_the_stated_error_holds_at_looks_that_are_not_known_beforehand(fractions: np.ndarray) -> None:
    rule, plan, studies = GroupSequential(), LookPlan(sizes=(10,)), 60
    for noise_share in (0.0, 1.0):
        scores = on_the_floor(fractions, 10, noise_share, studies)
        accepted = sum(is_accepted(rule, fractions, plan, each) for each in scores)
        assert stats.binom.sf(accepted - 1, studies, rule.alpha) > 0.005, f"{accepted} of {studies}"


def test_a_verdict_depends_only_on_the_looks_so_far() -> None:
    """The boundary of a look is the same whatever looks follow, so a resumed study repeats its decisions."""
    rule, plan, fractions = GroupSequential(), LookPlan(sizes=(10,)), np.array([0.05, 0.2, 0.25, 1.0])
    found = [rule.find_boundary(fractions[: look + 1], plan) for look in range(4)]
    calibrate_boundary.cache_clear()
    again = [rule.find_boundary(fractions[: look + 1], plan) for look in reversed(range(4))]
    assert again[::-1] == found


def test_a_sparse_look_needs_more_than_one_among_many_but_less_than_one_of_few() -> None:
    rule, plan = GroupSequential(), LookPlan(sizes=(20,))
    smoothed, single, few = (
        rule.find_boundary(ratio ** np.arange(-12.0, 0) * 0.5 ** (ratio < 1.2), plan) for ratio in (1.19, 1.41, 2.0)
    )
    assert few < single
    assert smoothed < single


def test_the_threshold_depends_on_the_neighbouring_checks() -> None:
    reference, rule = np.arange(20.0), GroupSequential()
    swapped = reference.copy()
    swapped[:8] = swapped[7::-1]
    plan, fractions = LookPlan(sizes=(20,)), np.array([0.1, 0.5, 0.6])

    def need_after(*proxy: np.ndarray) -> float | None:
        return rule.judge(Evidence(reference, np.array(proxy), fractions[: len(proxy)], plan)).needed

    far, near_bad, near_good = need_after(swapped, reference), need_after(swapped, swapped, swapped), None
    assert far == need_after(reference, reference), "a check at a fifth of the training does not count"
    near_good = need_after(swapped, reference, swapped)
    assert near_bad is not None
    assert near_good is not None
    assert near_good < near_bad, "one just before does"
    quantile = rule.find_boundary(fractions, plan)
    bound = math.atanh(0.55) + quantile * math.sqrt(0.48 / 14)
    tau = stats.kendalltau(swapped, reference).statistic
    assert near_bad == pytest.approx(math.tanh(2 * bound - math.atanh(tau)))


def test_more_tasks_and_sizes_need_more_and_more_models_less() -> None:
    rule = GroupSequential()
    for fractions in (GEOMETRIC[:1], (0.1, 1.0)):
        plain = needed(rule, 20, fractions)
        assert needed(rule, 20, fractions, tasks=8) > plain
        assert needed(rule, 20, fractions, sizes=(10, 15, 20, 25, 30)) > plain
        assert needed(rule, 30, fractions) < plain


@pytest.mark.parametrize("models", [10, 20])
def test_bad_tasks_are_rarely_accepted_over_all_looks_and_tasks(models: int) -> None:
    """Simulate a true tau of target - 0.2 at 20 looks of 8 proxy tasks; at most 1 of 20 studies accepts."""
    random, families, tasks, rule = np.random.default_rng(models), 25, 8, GroupSequential()
    plan, fractions = LookPlan(tasks=tasks, sizes=(models,)), np.geomspace(0.01, 1.0, 20)
    rho, wrong = math.sin(math.pi * 0.45 / 2), 0
    for _ in range(families):
        reference = random.standard_normal(models)
        own = random.standard_normal((tasks, 20, models))
        proxies = rho * reference + math.sqrt(1 - rho**2) * own
        wrong += any(is_accepted(rule, fractions, plan, (reference, proxy)) for proxy in proxies)
    assert wrong <= 1


@given(st.permutations(range(12)), st.permutations(range(12)))
def test_neither_the_order_of_models_nor_the_scale_of_scores_matters(ranks: list[int], order: list[int]) -> None:
    proxy, reference = np.array(ranks, dtype=float), np.arange(12.0)
    for rule in RULES:
        verdict = rule().judge(seen(GEOMETRIC, proxy, reference))
        moved = rule().judge(seen(GEOMETRIC, np.exp(proxy)[order], (3 * reference - 5)[order]))
        assert (moved.kind, moved.needed) == (verdict.kind, verdict.needed)


@settings(deadline=None)
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


def test_seven_models_are_too_few_for_a_verdict() -> None:
    verdict = GroupSequential().judge(seen((0.5, 1.0), np.arange(7.0), np.arange(7.0)))
    assert (verdict.kind, verdict.needed) == (VerdictKind.INCONCLUSIVE, None)
    assert verdict.reason.startswith("tau 1.000 on 7 models after 100 % of training; too few models for acceptance")
    assert atanh_deviation(7) is None


@pytest.mark.parametrize(("models", "tau"), [(10, 0.3), (10, 0.6), (20, 0.45), (30, 0.7)])
def test_the_lower_limit_has_the_stated_coverage(models: int, tau: float) -> None:
    random, draws, rho = np.random.default_rng(7), 3000, math.sin(math.pi * tau / 2)
    holds, find_limit = 0, lru_cache(tau_lower_limit)
    for _ in range(draws):
        x = random.standard_normal(models)
        y = rho * x + math.sqrt(1 - rho**2) * random.standard_normal(models)
        limit = find_limit(float(stats.kendalltau(x, y).statistic), models)
        holds += limit is not None and limit <= tau
    assert 0.935 <= holds / draws <= 0.985


def test_the_verdict_records_the_lower_limit() -> None:
    reference = np.arange(10.0)
    verdict = GroupSequential().judge(seen(GEOMETRIC, reference[[1, 0, 2, 3, 4, 5, 6, 7, 8, 9]], reference))
    assert verdict.correlation is not None
    assert verdict.lower_limit == tau_lower_limit(verdict.correlation.tau, 10)
    assert verdict.lower_limit is not None
    assert verdict.lower_limit < verdict.correlation.tau


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("target", [0.0, -0.1, 1.01, 65.0, float("nan")])
def test_a_target_out_of_range_is_refused(rule: Callable[..., Criterion], target: float) -> None:
    with pytest.raises(ConfigError, match=r"criterion.target must lie in \(0, 1\], got"):
        rule(target=target)


def test_an_error_out_of_range_is_refused() -> None:
    for alpha in (0.0, 0.5, -1.0, 5.0):
        with pytest.raises(ConfigError, match=r"criterion.alpha must lie in \(0, 0.5\), got"):
            GroupSequential(alpha=alpha)
    with pytest.raises(ConfigError, match=r"criterion.target must lie above 0.1 for this rule, got 0.1"):
        GroupSequential(target=0.1)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_config_builds_the_criterion(path: Path) -> None:
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    module, _, name = config.pop("_target_").rpartition(".")
    assert module.endswith(f"criteria.{path.stem}")
    criterion: Criterion = getattr(importlib.import_module(module), name)(**config)
    assert vars(criterion) == vars(type(criterion)()), "the settings in conf are the defaults, which benchmarks measure"


def test_the_error_decreases_with_models_and_is_divided_over_tasks() -> None:
    rule = GroupSequential(alpha=0.2)
    assert rule.error_spent(LookPlan(sizes=(8,))) == 0.2
    assert rule.error_spent(LookPlan(sizes=(10,), tasks=4)) == pytest.approx(0.05)
    assert rule.error_spent(LookPlan(sizes=(10, 150))) == pytest.approx(0.1), "80 on average: half"


def test_the_threshold_is_higher_while_models_can_be_added() -> None:
    alone, growing = (raise_to_floor(10, most, 2.0) for most in (10, 30))
    assert alone == pytest.approx(2.0 * math.sqrt(0.48 / 4))
    assert growing == pytest.approx(2.0 * math.sqrt(0.48 / 4) * (24 / 4) ** 0.125)
    assert raise_to_floor(40, 30, 2.0) == raise_to_floor(40, 40, 2.0), "more models than planned count as the maximum"


def test_a_thousand_models_take_no_longer_than_sixty() -> None:
    assert calibrate_boundary(HALVES, (1000,), 0.65, 0.05) == calibrate_boundary(HALVES, (60,), 0.65, 0.05)
    assert needed(GroupSequential(), 1000, (0.5, 1.0)) == 0.65, "1000 models distinguish 0.65 from 0.55"


@pytest.mark.parametrize("sizes", [(10,), (20,), (10, 15, 20, 25, 30)], ids=str)
@pytest.mark.parametrize("apart", [2, 5, 11])
def test_the_boundary_holds_on_other_simulated_studies(sizes: tuple[int, ...], apart: int) -> None:
    spacing, alpha = LookSpacing(84, apart), 0.1
    quantile = calibrate_boundary(spacing, sizes, 0.65, alpha)
    studies = [SimulatedStudies(spacing.fractions, sizes, 0.65, share, seed=77) for share in (0.0, 0.5, 1.0)]
    shares = [each.accepted(quantile) for each in studies]
    assert max(shares) <= 1.3 * alpha
    assert max(shares) >= 0.4 * alpha, "the error rate is used, as far as discrete taus allow"


def test_the_extrapolated_boundary_increases_as_the_error_decreases() -> None:
    spacing = LookSpacing(36, 12)
    found = [calibrate_boundary(spacing, (30,), 0.65, alpha) for alpha in (0.05, 0.01, 1e-3, 1e-4, 1e-5)]
    assert found == sorted(set(found))
    assert stats.norm.isf(1e-5) < found[-1] < stats.norm.isf(1e-5 / 8)
