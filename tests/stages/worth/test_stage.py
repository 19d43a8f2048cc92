"""The ladder and the comparison of strategies, from the curves of a study's reference models."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nasproxy.errors import ConfigError
from nasproxy.stages.worth.evidence import ReferenceCurves, collect_curves
from nasproxy.stages.worth.settings import LadderSettings
from nasproxy.stages.worth.stage import NO_RUNG, compare, describe_ladder, find_ladder
from nasproxy.statistics.strategies import FULL_TRAINING, Candidates, Place
from nasproxy.trials.objective import Objective

LOSS = Objective("loss", "min")
STEPS = (5, 10, 20, 40, 80)


def make_curves(models: int, correlation: float, **others: Any) -> ReferenceCurves:
    """Make curves of reference models on 100 steps of full training."""
    random = np.random.default_rng(0)
    finals = random.standard_normal(models)
    noise = random.standard_normal((len(STEPS), models))
    scores = correlation * finals + np.sqrt(1 - correlation**2) * noise
    places = [Place(FULL_TRAINING, step) for step in STEPS]
    costs = {place: place.step / 100 for place in places}
    return ReferenceCurves(Candidates(dict(zip(places, scores, strict=True)), costs, finals), 3.0, 40.0, **others)


def describe(curves: ReferenceCurves, objective: Objective, max_risk: float = 0.25) -> Any:
    ladder = find_ladder(curves, max_risk)
    return describe_ladder(ladder, curves, objective, max_risk=max_risk, trials=200)


def test_thresholds_of_a_loss_are_losses() -> None:
    curves = make_curves(40, 0.95)
    by_score, by_loss = describe(curves, Objective()), describe(curves, LOSS)
    assert by_loss.rungs
    assert [rung.threshold for rung in by_loss.rungs] == [-rung.threshold for rung in by_score.rungs]
    assert (by_loss.metric, by_loss.mode) == ("loss", "min")


def test_the_ladder_states_its_risk_and_whom_it_holds_for() -> None:
    state = describe(make_curves(39, 0.95), Objective())
    assert (state.risk, state.top_share, state.models) == (0.25, 0.1, 39)
    assert state.cost == pytest.approx(find_ladder(make_curves(39, 0.95), 0.25).cost)  # type: ignore[union-attr]


def test_a_smaller_risk_than_the_models_allow_is_explained_with_the_number_that_is_needed() -> None:
    state = describe(make_curves(15, 0.95), Objective(), max_risk=0.1)
    assert state.rungs == ()
    assert "needs 20 reference models at least, and there are 15" in state.reason


def test_equal_early_scores_give_no_ladder_and_say_why() -> None:
    curves = make_curves(30, 0.95)
    flat = Candidates(
        {place: np.zeros(30) for place in curves.models.scores}, curves.models.costs, curves.models.finals
    )
    assert describe(replace(curves, models=flat), Objective()).reason == NO_RUNG


def test_too_few_models_are_not_compared() -> None:
    worth = compare(make_curves(6, 0.9), None, Objective(), trials=100, proxy_task=None)
    assert worth.recommended is None
    assert "8 reference models at least, and there are 6" in worth.reason


def test_scores_of_the_best_found_model_are_values_of_the_metric() -> None:
    curves = make_curves(40, 0.9)
    worth = compare(curves, find_ladder(curves, 0.25), LOSS, trials=12, proxy_task=None)
    random = next(outlook for outlook in worth.planned if outlook.prospect.strategy == "random")
    assert random.score is not None
    assert random.score_low is not None
    assert random.score_low > random.score, "the worse end of a loss is the larger one"


@pytest.mark.parametrize("risk", [0.0, 0.6, -1.0, float("nan")])
def test_a_risk_out_of_range_is_refused(risk: float) -> None:
    with pytest.raises(ConfigError, match=r"ladder\.max_risk must lie in \(0, 0\.5\]"):
        LadderSettings(risk).check()


@pytest.fixture(scope="module")
def curves(full_study: Any) -> ReferenceCurves:
    """Curves collected from a study."""
    return collect_curves(full_study.folder, Objective(), time_tolerance=0.05)


def test_full_training_can_be_compared_at_each_of_its_checks_but_the_last(curves: ReferenceCurves) -> None:
    places = [place for place in curves.models.costs if place.task == FULL_TRAINING]
    assert len(places) > 3
    assert max(curves.models.costs[place] for place in places) < 1
    assert [curves.models.costs[place] for place in places] == sorted(curves.models.costs[p] for p in places)


def test_all_models_have_scores_at_all_places(curves: ReferenceCurves) -> None:
    for scores in curves.models.scores.values():
        assert scores.shape == curves.models.finals.shape
        assert not np.isnan(scores).any()


def test_the_accepted_task_is_one_of_the_places_and_no_rung(curves: ReferenceCurves) -> None:
    assert curves.proxy is not None
    assert curves.proxy not in curves.rung_scores
    assert curves.proxy_task is not None
    assert curves.proxy.task.startswith(curves.proxy_task)
    assert 0 < curves.models.costs[curves.proxy] < 1


def test_the_study_costs_more_than_its_reference_models(curves: ReferenceCurves) -> None:
    assert curves.study_cost > curves.models.finals.size
