"""The certified ladder: a good candidate survives with the stated probability, whatever the early ranks are like."""

import numpy as np
import pytest

from nasproxy.statistics.ladder import LEAST, Ladder, count_best, count_needed, design_ladder, suggest_references
from nasproxy.statistics.missing import Floats
from nasproxy.statistics.strategies import FULL_TRAINING, Candidates, Place, run_strategy

FRACTIONS = np.geomspace(0.01, 0.9, 16)
PLACES = [Place(FULL_TRAINING, step) for step in range(16)]
COSTS = dict(zip(PLACES, FRACTIONS.tolist(), strict=True))
CORRELATIONS = {
    "useless": np.zeros(16),
    "poor": np.full(16, 0.4),
    "rising": np.linspace(0.0, 0.98, 16),
    "good": np.full(16, 0.95),
}
"""Correlation of the scores at each look with those after full training, by kind of early ranks."""


def draw_curves(
    correlations: Floats, models: int, random: np.random.Generator, *, shared: bool
) -> tuple[Floats, Floats]:
    """Draw early scores, shape (looks, models), and final scores of exchangeable models.

    Args:
        correlations: Correlation at each look with the final scores.
        models: Number of models.
        random: Generator.
        shared: Whether a model's noise is the same at all looks; otherwise each look has its own.
    """
    finals = random.standard_normal(models)
    noise = random.standard_normal((1 if shared else correlations.size, models))
    return correlations[:, None] * finals + np.sqrt(1 - correlations[:, None] ** 2) * noise, finals


def design(scores: Floats, finals: Floats, max_risk: float = 0.25) -> Ladder:
    """Design a ladder on the looks of full training."""
    ladder = design_ladder(dict(zip(PLACES, scores, strict=True)), COSTS, finals, max_risk=max_risk)
    assert ladder is not None
    return ladder


def passes(ladder: Ladder, scores: Floats) -> bool:
    """Return whether a model passes all thresholds; scores have shape (looks,)."""
    return all(scores[rung.place.step] >= rung.threshold for rung in ladder.rungs)


def count_survivors(correlations: Floats, *, models: int, max_risk: float, shared: bool, draws: int) -> int:
    """Count draws in which a random one of the best models passes the ladder that the others give."""
    random, survivors = np.random.default_rng(0), 0
    for _ in range(draws):
        scores, finals = draw_curves(correlations, models + 1, random, shared=shared)
        best = np.argsort(-finals)[: count_best(max_risk) + 1]
        new = random.choice(best)
        others = np.delete(np.arange(models + 1), new)
        survivors += passes(design(scores[:, others], finals[others], max_risk), scores[:, new])
    return survivors


@pytest.mark.parametrize("shared", [False, True], ids=["own noise", "shared noise"])
@pytest.mark.parametrize("kind", CORRELATIONS)
def test_a_good_candidate_is_eliminated_with_the_stated_risk_at_most(kind: str, shared: bool):
    survivors = count_survivors(CORRELATIONS[kind], models=20, max_risk=0.25, shared=shared, draws=300)
    assert survivors / 300 >= 0.75 - 3 * np.sqrt(0.75 * 0.25 / 300)


def test_a_smaller_risk_is_kept_too():
    survivors = count_survivors(CORRELATIONS["useless"], models=24, max_risk=0.1, shared=False, draws=300)
    assert survivors / 300 >= 0.9 - 3 * np.sqrt(0.9 * 0.1 / 300)


def test_good_early_ranks_make_the_ladder_cheap():
    random = np.random.default_rng(0)
    costs = [design(*draw_curves(CORRELATIONS["good"], 60, random, shared=False)).cost for _ in range(20)]
    assert np.mean(costs) < 0.25


def test_useless_early_ranks_leave_the_ladder_nearly_as_expensive_as_full_training():
    random = np.random.default_rng(0)
    costs = [design(*draw_curves(CORRELATIONS["useless"], 60, random, shared=False)).cost for _ in range(20)]
    assert np.mean(costs) > 0.7


def test_the_stated_cost_is_what_candidates_cost_on_average():
    random = np.random.default_rng(1)
    stated, paid = [], []
    for _ in range(30):
        scores, finals = draw_curves(CORRELATIONS["rising"], 2040, random, shared=False)
        ladder = design(scores[:, :40], finals[:40])
        pool = Candidates(dict(zip(PLACES, scores[:, 40:], strict=True)), COSTS, finals[40:])
        stated.append(ladder.cost)
        paid.append(run_strategy(ladder.strategy, pool).cost / 2000)
    assert np.mean(stated) == pytest.approx(np.mean(paid), rel=0.1)


def test_shares_fall_and_costs_rise_from_rung_to_rung():
    scores, finals = draw_curves(CORRELATIONS["good"], 60, np.random.default_rng(2), shared=False)
    ladder = design(scores, finals)
    assert len(ladder.rungs) >= 2
    shares = [rung.share for rung in ladder.rungs]
    assert shares == sorted(shares, reverse=True)
    assert [rung.cost for rung in ladder.rungs] == sorted(rung.cost for rung in ladder.rungs)


def test_some_models_are_left_at_each_rung():
    scores, finals = draw_curves(CORRELATIONS["good"], 60, np.random.default_rng(2), shared=False)
    weak = Candidates(dict.fromkeys(PLACES, np.full(50, -9.0)), COSTS, np.zeros(50))
    assert run_strategy(design(scores, finals).strategy, weak).trained.sum() == LEAST


def test_a_cheaper_proxy_task_may_come_first():
    random = np.random.default_rng(3)
    scores, finals = draw_curves(CORRELATIONS["rising"], 60, random, shared=False)
    narrow = Place("width25", 100)
    good = 0.98 * finals + 0.2 * random.standard_normal(60)
    ladder = design_ladder(
        {narrow: good, **dict(zip(PLACES, scores, strict=True))}, {narrow: 0.01, **COSTS}, finals, max_risk=0.25
    )
    assert ladder is not None
    assert ladder.rungs[0].place == narrow
    assert ladder.rungs[0].threshold in good


def test_equal_early_scores_eliminate_nobody():
    assert design(np.zeros((16, 30)), np.arange(30.0)).rungs == ()


def test_failed_reference_models_rank_last():
    scores, finals = draw_curves(CORRELATIONS["good"], 40, np.random.default_rng(4), shared=False)
    scores[:, :5], finals[:5] = -np.inf, -np.inf
    assert all(np.isfinite(rung.threshold) for rung in design(scores, finals).rungs)


def test_too_few_reference_models_give_no_ladder():
    assert count_needed(0.25) == 8
    scores, finals = np.zeros((16, 7)), np.arange(7.0)
    assert design_ladder(dict(zip(PLACES, scores, strict=True)), COSTS, finals, max_risk=0.25) is None


def test_more_reference_models_are_suggested_for_larger_searches_and_smaller_risks():
    assert suggest_references(200, 0.25) < suggest_references(2000, 0.25) < suggest_references(2000, 0.1)
    assert suggest_references(1, 0.1) == count_needed(0.1)


@pytest.mark.parametrize("max_risk", [0.1, 0.25, 0.5])
def test_the_smallest_number_of_models_that_is_named_suffices(max_risk: float):
    models = count_needed(max_risk)
    scores, finals = draw_curves(CORRELATIONS["good"], models, np.random.default_rng(0), shared=False)
    assert design(scores, finals, max_risk).risk <= max_risk
