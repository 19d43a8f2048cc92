from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nasproxy.errors import ConfigError
from nasproxy.statistics import acceptance
from nasproxy.statistics.acceptance import Criterion, Evidence, FirstCrossing, VerdictKind
from nasproxy.statistics.rank_correlation import kendall_tau

NAN = float("nan")
REFERENCE = np.arange(10.0)
TURNED = REFERENCE[::-1].copy()
FLAT = np.full(10, 0.5)
CONFIG = Path(__file__).parents[2] / "conf" / "criterion" / "first_crossing.yaml"


def evidence(*checks: np.ndarray, looks_planned: int = 4, reference: np.ndarray = REFERENCE) -> Evidence:
    return Evidence(
        reference=reference,
        proxy=np.array(checks).reshape(len(checks), reference.size),
        fractions=np.arange(1, len(checks) + 1) / 10,
        looks_planned=looks_planned,
        tasks_planned=3,
    )


def test_the_first_check_that_reaches_the_target_is_accepted() -> None:
    verdict = FirstCrossing().judge(evidence(TURNED, REFERENCE, TURNED))
    assert (verdict.kind, verdict.check, verdict.models_needed) == (VerdictKind.ACCEPTED, 1, None)
    assert verdict.correlation == kendall_tau(REFERENCE, REFERENCE)
    assert verdict.reason == ("tau is 1.000 on 10 models after 20 % of training, the first check to reach 0.65")


def test_a_proxy_task_with_looks_left_is_undecided() -> None:
    verdict = FirstCrossing().judge(evidence(REFERENCE[[1, 0, 3, 2, 5, 4, 7, 6, 9, 8]][::-1], TURNED))
    assert (verdict.kind, verdict.check) == (VerdictKind.UNDECIDED, None)
    assert verdict.correlation == kendall_tau(TURNED, REFERENCE)
    assert verdict.reason == "tau has not reached 0.65 in 2 of 4 checks"


def test_a_proxy_task_without_looks_left_is_rejected() -> None:
    verdict = FirstCrossing().judge(evidence(TURNED, TURNED, looks_planned=2))
    assert (verdict.kind, verdict.check) == (VerdictKind.REJECTED, 1)
    assert verdict.reason == "tau did not reach 0.65 in any of 2 checks"


def test_no_check_yet_is_undecided() -> None:
    verdict = FirstCrossing().judge(evidence())
    assert (verdict.kind, verdict.correlation) == (VerdictKind.UNDECIDED, None)


def test_checks_whose_tau_is_undefined_are_passed_over() -> None:
    too_few = np.where(np.arange(10) < 4, REFERENCE, NAN)
    verdict = FirstCrossing().judge(evidence(FLAT, too_few, REFERENCE))
    assert (verdict.kind, verdict.check) == (VerdictKind.ACCEPTED, 2)
    undefined = FirstCrossing().judge(evidence(FLAT, too_few, looks_planned=2))
    assert (undefined.kind, undefined.correlation) == (VerdictKind.REJECTED, None)


def test_a_tau_that_is_the_target_but_for_rounding_reaches_it() -> None:
    proxy = np.array([1.0, 2, 3, 5, 4])
    correlation = kendall_tau(proxy, range(5))
    assert correlation is not None
    assert correlation.tau < 0.8  # 8 / 10, through square roots
    verdict = FirstCrossing(target=0.8).judge(evidence(proxy, reference=np.arange(5.0)))
    assert verdict.kind is VerdictKind.ACCEPTED


@given(arrays(np.float64, (4, 8), elements=st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, NAN])))
def test_an_accepted_task_stays_accepted_as_checks_come_in(proxy: np.ndarray) -> None:
    kinds = [FirstCrossing(target=0.3).judge(evidence(*proxy[:seen], reference=np.arange(8.0))) for seen in range(5)]
    accepted = [verdict for verdict in kinds if verdict.kind is VerdictKind.ACCEPTED]
    assert kinds[-1].kind is not VerdictKind.UNDECIDED
    assert [verdict.kind for verdict in kinds].count(VerdictKind.REJECTED) <= 1
    assert accepted == kinds[len(kinds) - len(accepted) :]
    assert len({verdict.check for verdict in accepted}) <= 1


@pytest.mark.parametrize("target", [0.0, -0.1, 1.01, 65.0, NAN])
def test_a_target_that_is_no_tau_is_refused(target: float) -> None:
    with pytest.raises(ConfigError, match=r"criterion.target must lie in \(0, 1\], got"):
        FirstCrossing(target=target)


def test_the_config_builds_the_criterion() -> None:
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    module, _, name = config.pop("_target_").rpartition(".")
    assert module == acceptance.__name__
    criterion: Criterion = getattr(acceptance, name)(**config)
    assert criterion.target == 0.65


def test_scores_that_do_not_fit_the_checks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"proxy must have shape \(checks, models\), got \(10, 2\)"):
        Evidence(REFERENCE, np.zeros((10, 2)), np.array([0.1, 0.2]), looks_planned=4, tasks_planned=1)


@pytest.mark.parametrize("fractions", [[0.0, 0.5], [0.5, 0.5], [0.5, 50.0], [0.5, NAN]], ids=str)
def test_fractions_that_do_not_increase_to_one_are_refused(fractions: list[float]) -> None:
    with pytest.raises(ValueError, match=r"fractions must increase within \(0, 1\], got"):
        Evidence(REFERENCE, np.zeros((2, 10)), np.array(fractions), looks_planned=4, tasks_planned=1)


def test_a_plan_without_looks_is_refused() -> None:
    with pytest.raises(ValueError, match="must be at least 1, got 0 and 1"):
        Evidence(REFERENCE, np.zeros((0, 10)), np.zeros(0), looks_planned=0, tasks_planned=1)
