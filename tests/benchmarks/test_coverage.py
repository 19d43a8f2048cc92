"""The statements of verdicts, tested by simulation: a small version of `benchmarks.coverage`."""

import json
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from benchmarks.coverage import Family, compute_coverage, compute_upper95, count_false_acceptances
from benchmarks.criteria import CRITERIA
from helpers import cli
from nasproxy.statistics.acceptance import Evidence, LookPlan, VerdictKind


@pytest.mark.parametrize("n", [10, 20, 30])
def test_the_stated_lower_limit_covers_at_least_95_of_100_samples_on_average(n: int) -> None:
    random = np.random.default_rng(n)
    found = [compute_coverage(n, tau, 4000, random) for tau in np.arange(0.3, 0.81, 0.05).tolist()]
    assert 0.95 <= np.mean(found) <= 0.98


@pytest.mark.parametrize(("n", "low", "high"), [(10, 0.935, 0.993), (20, 0.94, 0.98), (30, 0.94, 0.98)])
def test_the_stated_lower_limit_covers_at_every_true_tau(n: int, low: float, high: float) -> None:
    random = np.random.default_rng(n)
    for tau in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
        assert low <= compute_coverage(n, tau, 8000, random) <= high, f"true tau {tau}"


def test_no_limit_based_on_the_tau_of_ten_models_alone_covers_95_of_100_at_a_true_tau_of_080() -> None:
    random = np.random.default_rng(0)
    reference, noise = random.standard_normal((2, 20_000, 10))
    rho = np.sin(np.pi / 2 * 0.8)
    proxy = rho * reference + np.sqrt(1 - rho**2) * noise
    pairs = np.triu_indices(10, 1)
    x, y = (values[:, pairs[0]] - values[:, pairs[1]] for values in (reference, proxy))
    taus = (np.sign(x) * np.sign(y)).mean(axis=1)
    shares = [(taus <= value + 1e-9).mean() for value in np.unique(taus)]
    assert not any(0.94 <= share <= 0.98 for share in shares)


@pytest.mark.parametrize("is_correlated", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_default_criterion_rarely_accepts_any_of_eight_bad_proxy_tasks_at_any_of_twenty_looks(
    is_correlated: bool,
) -> None:
    family = Family(0.65, 20, looks=20, tasks=8, is_correlated=is_correlated)
    counts = count_false_acceptances(family, 60, seed=1)
    assert counts["group_sequential"] <= 5, "3 are 5 %"
    assert counts["first_crossing"] > 30, "the default has a lower error rate"


@pytest.mark.parametrize("name", CRITERIA)
def test_no_criterion_accepts_below_the_target(name: str) -> None:
    rule, random = CRITERIA[name](0.65), np.random.default_rng(2)
    for n in (10, 20, 30):
        for _ in range(30):
            proxy, reference = random.standard_normal((2, n))
            proxy = proxy + random.uniform(0, 3) * reference
            tau = stats.kendalltau(proxy, reference).statistic
            verdict = rule.judge(Evidence(reference, proxy[None], np.array([0.9]), LookPlan(sizes=(n,))))
            assert tau >= 0.65 - 1e-9 or verdict.kind is not VerdictKind.ACCEPTED


def test_scores_at_neighbouring_looks_are_similar_if_deviations_are_correlated() -> None:
    def likeness(is_correlated: bool) -> float:
        random, found = np.random.default_rng(3), []
        for _ in range(300):
            reference, scores = Family(0.65, 10, 20, 1, is_correlated).draw(random)
            rest = scores[0] - np.sin(np.pi / 2 * 0.45) * reference
            found.append(rest[10] @ rest[11] / np.sqrt(rest[10] @ rest[10] * (rest[11] @ rest[11])))
        return float(np.mean(found))

    steps = Family(0.65, 10, 20, 1, is_correlated=True).steps
    assert likeness(True) == pytest.approx(steps[10] / steps[11], abs=0.03)
    assert likeness(False) == pytest.approx(0.0, abs=0.06)


def test_the_upper_limit_is_that_of_clopper_and_pearson() -> None:
    expected = stats.binomtest(2, 50, alternative="less").proportion_ci(0.95).high
    assert compute_upper95(2, 50) == pytest.approx(expected)
    assert compute_upper95(50, 50) == 1.0


def test_the_last_line_is_json() -> None:
    command = [sys.executable, "-m", "benchmarks.coverage", "--models", "10", "--draws", "50", "--studies", "2"]
    done = subprocess.run([*command, "--json"], cwd=cli.ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["coverage"][0]["low"] <= found["coverage"][0]["mean"] <= found["coverage"][0]["high"]
    assert {row["criterion"] for row in found["false_acceptance"]} == set(CRITERIA)
