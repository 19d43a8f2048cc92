"""The ladder and the comparison of strategies, from the curves of a study's reference models."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nasproxy.errors import ConfigError
from nasproxy.stages.worth.evidence import ReferenceCurves
from nasproxy.stages.worth.settings import LadderSettings
from nasproxy.stages.worth.stage import NO_RUNG, compare, describe_ladder, find_ladder, write_ladder
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


def describe(
    curves: ReferenceCurves, objective: Objective, max_risk: float = 0.25, *, trials: int = 200, most: int = 200
) -> Any:
    ladder = find_ladder(curves, max_risk)
    return describe_ladder(ladder, curves, objective, max_risk=max_risk, trials=trials, most=most)


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


def test_a_small_search_is_not_advised_more_reference_models_than_it_has_candidates() -> None:
    reason = describe(make_curves(10, 0.95), Objective(), max_risk=0.05, trials=20).reason
    assert "needs 40 reference models at least, and there are 10; a search of 20 does not pay them" in reason
    assert "references.initial" not in reason
    assert reason.endswith("10 suffice for the larger risk ladder.max_risk=0.2")


def test_the_ladder_is_written_in_a_line() -> None:
    found = describe(make_curves(39, 0.95), Objective())
    share = f"{100 * found.cost:.0f} % of a full training for each candidate"
    assert write_ladder(found).startswith(f"certified ladder: {len(found.rungs)} rung")
    assert f"risk 0.25, {share}, in ladder.json" in write_ladder(found)
    assert write_ladder(describe(make_curves(5, 0.95), Objective())).startswith(
        "no ladder: a ladder of risk 0.25 needs 8"
    )


@pytest.mark.parametrize("most", [200, 60, 21])
@pytest.mark.parametrize("left_out", [0, 1])
def test_the_advised_number_of_models_is_possible_and_gives_a_ladder(most: int, left_out: int) -> None:
    curves = make_curves(15, 0.95, proxy_task="width50", left_out=left_out)
    reason = describe(curves, Objective(), 0.1, trials=20_000, most=most).reason
    assert (" with a score under width50;" in reason) is (left_out > 0)
    found = re.search(r"(\d+) would make study and search cheapest \(references\.initial\)", reason)
    assert found is not None
    assert int(found[1]) <= most
    assert find_ladder(make_curves(int(found[1]) - left_out, 0.95), 0.1) is not None


@pytest.mark.parametrize(
    ("models", "max_risk", "most"), [(15, 0.1, 19), (15, 0.1, 15), (30, 0.005, 200), (220, 0.002, 200)]
)
def test_a_risk_that_no_possible_number_of_models_allows_is_to_be_raised(
    models: int, max_risk: float, most: int
) -> None:
    curves = make_curves(models, 0.95)
    reason = describe(curves, Objective(), max_risk, most=most).reason
    assert "references.initial" not in reason
    assert f"at most {max(most, models)} are practical in this study" in reason
    found = re.search(r"ladder\.max_risk=([\d.]+)$", reason)
    assert found is not None
    LadderSettings(float(found[1])).check()
    assert describe(curves, Objective(), float(found[1]), most=most).rungs


def test_no_risk_is_advised_where_none_allows_a_ladder() -> None:
    reason = describe(make_curves(3, 0.95), Objective(), most=3).reason
    assert reason.endswith("and there are 3; at most 3 are practical in this study")


def test_equal_early_scores_give_no_ladder_and_say_why() -> None:
    curves = make_curves(30, 0.95)
    flat = Candidates(
        {place: np.zeros(30) for place in curves.models.scores}, curves.models.costs, curves.models.finals
    )
    assert describe(replace(curves, models=flat), Objective()).reason == NO_RUNG


def test_too_few_models_are_not_compared() -> None:
    worth = compare(make_curves(6, 0.9), None, Objective(), trials=100)
    assert worth.recommended is None
    assert "8 reference models at least, and there are 6" in worth.reason


def test_an_accepted_task_that_cannot_be_compared_is_stored_with_the_reason() -> None:
    curves = make_curves(20, 0.9, proxy_task="width50", proxy_reason="7 of 20 have a score", left_out=0)
    worth = compare(curves, None, Objective(), trials=12)
    assert (worth.proxy_task, worth.proxy_reason) == (None, "7 of 20 have a score")
    assert worth.recommended is not None
    assert "proxy" not in {outlook.prospect.strategy for outlook in worth.planned}


def test_scores_of_the_best_found_model_are_values_of_the_metric() -> None:
    curves = make_curves(40, 0.9)
    worth = compare(curves, find_ladder(curves, 0.25), LOSS, trials=12)
    random = next(outlook for outlook in worth.planned if outlook.prospect.strategy == "random")
    assert random.score is not None
    assert random.score_low is not None
    assert random.score_low > random.score, "the worse end of a loss is the larger one"


@pytest.mark.parametrize("risk", [0.0, 0.6, -1.0, float("nan")])
def test_a_risk_out_of_range_is_refused(risk: float) -> None:
    with pytest.raises(ConfigError, match=r"ladder\.max_risk must lie in \(0, 0\.5\]"):
        LadderSettings(risk).check()
