"""What strategies are expected to find, and which one is recommended."""

import numpy as np
import pytest

from nasproxy.statistics.ladder import design_ladder
from nasproxy.statistics.missing import Floats
from nasproxy.statistics.strategies import (
    FULL_TRAINING,
    Candidates,
    Place,
    Strategy,
    halve,
    run_strategy,
    train_all,
    use_fixed_fraction,
    use_proxy,
    use_zero_cost,
)
from nasproxy.statistics.worth import Prospect, SearchSimulation, compare_strategies, score_of_share

STEPS = (1, 3, 10, 25, 50, 75)
COSTS = {Place(FULL_TRAINING, step): step / 100 for step in STEPS}
EARLY = Place(FULL_TRAINING, 10)


def draw_models(models: int, correlations: Floats, seed: int = 0) -> Candidates:
    """Draw models with a correlation between each place's scores and those after full training."""
    random = np.random.default_rng(seed)
    finals = random.standard_normal(models)
    noise = random.standard_normal((len(STEPS), models))
    scores = correlations[:, None] * finals + np.sqrt(1 - correlations[:, None] ** 2) * noise
    return Candidates(dict(zip(COSTS, scores, strict=True)), COSTS, finals)


GOOD, USELESS = np.full(len(STEPS), 0.97), np.zeros(len(STEPS))


def list_strategies(references: Candidates) -> list[Strategy]:
    """List strategies for a study on these reference models."""
    ladder = design_ladder(references.scores, COSTS, references.finals, max_risk=0.25)
    assert ladder is not None
    return [train_all(), halve(COSTS), use_fixed_fraction(COSTS), use_proxy(EARLY), ladder.strategy]


def predict(references: Candidates, trials: int) -> dict[str, Prospect]:
    """Predict what all strategies find, by name."""
    strategies = list_strategies(references)
    found = SearchSimulation(references, 40.0, populations=60).predict(strategies, [trials] * len(strategies))
    return {prospect.strategy: prospect for prospect in found}


def test_training_all_is_expected_to_find_the_best_of_so_many_random_models():
    assert predict(draw_models(30, GOOD), 100)["random"].rank == pytest.approx(1 / 101, rel=0.3)


def test_useless_early_ranks_make_halving_poor_and_leave_the_ladder_good():
    found = predict(draw_models(40, USELESS), 200)
    assert found["halving"].rank > 5 * found["random"].rank
    assert found["ladder"].rank < 2 * found["random"].rank


def test_good_early_ranks_make_halving_as_good_as_training_all():
    found = predict(draw_models(60, GOOD), 200)
    assert found["halving"].rank < 1.5 * found["random"].rank


def test_the_study_is_part_of_the_cost_of_the_strategies_that_need_it():
    found = predict(draw_models(30, GOOD), 100)
    assert found["random"].cost == pytest.approx(100)
    assert found["proxy"].cost == pytest.approx(40 + 100 * 0.1 + 10 * 0.9)


def test_an_attenuated_place_ranks_candidates_worse():
    references = draw_models(40, GOOD)
    strategies = [use_proxy(EARLY)]
    plain = SearchSimulation(references, 0.0, populations=60).predict(strategies, [200])[0]
    attenuated = SearchSimulation(references, 0.0, populations=60, attenuation={EARLY: 0.5}).predict(strategies, [200])[
        0
    ]
    assert attenuated.rank > 2 * plain.rank


def test_the_realised_rank_lies_in_the_interval_in_most_draws():
    inside = []
    for seed in range(40):
        models = draw_models(2_000, np.linspace(0.2, 0.95, len(STEPS)), seed)
        references = Candidates({p: s[:30] for p, s in models.scores.items()}, COSTS, models.finals[:30])
        searched = Candidates({p: s[30:230] for p, s in models.scores.items()}, COSTS, models.finals[30:230])
        strategies = [halve(COSTS), use_fixed_fraction(COSTS)]
        simulation = SearchSimulation(references, 0.0, populations=60)
        for strategy, found in zip(strategies, simulation.predict(strategies, [200, 200]), strict=True):
            share = float(np.mean(models.finals > run_strategy(strategy, searched).best))
            inside.append(found.low - 1 / 2000 <= share <= found.high)
    assert np.mean(inside) >= 0.85


def test_where_early_ranks_are_useless_no_strategy_without_a_certificate_is_recommended():
    references = draw_models(40, USELESS)
    simulation = SearchSimulation(references, 40.0, populations=60)
    worth = compare_strategies(list_strategies(references), 200, simulation, proxy="proxy")
    assert worth.recommended.strategy in ("random", "ladder")


def test_a_small_search_is_recommended_to_train_without_the_cost_of_a_study():
    references = draw_models(30, USELESS)
    worth = compare_strategies(list_strategies(references), 20, SearchSimulation(references, 40.0, populations=60))
    assert worth.recommended.strategy == "random"
    assert worth.recommended.cost <= 20


def test_strategies_are_compared_within_equal_cost():
    references = draw_models(40, np.linspace(0.3, 0.95, len(STEPS)))
    simulation = SearchSimulation(references, 40.0, populations=40)
    worth = compare_strategies(list_strategies(references), 500, simulation, proxy="proxy")
    limit = next(prospect.cost for prospect in worth.planned if prospect.strategy == "proxy")
    assert {prospect.strategy for prospect in worth.at_proxy_cost} >= {"random", "halving", "proxy"}
    assert all(prospect.cost <= 1.1 * limit for prospect in worth.at_proxy_cost)
    assert max(prospect.cost for prospect in worth.at_proxy_cost) > 0.9 * limit


def test_a_larger_search_than_simulated_costs_in_proportion():
    references = draw_models(30, GOOD)
    found = SearchSimulation(references, 0.0, populations=10).predict([train_all(), use_proxy(EARLY)], [10_000, 10_000])
    assert [prospect.cost for prospect in found] == pytest.approx([10_000, 1_009])


def test_a_score_beyond_the_best_reference_model_is_open():
    finals = np.arange(10.0)
    assert score_of_share(finals, 0.05) == 9.0
    assert score_of_share(finals, 0.5) == pytest.approx(4.5)
    assert score_of_share(finals, 0.01) is None


def test_a_zero_cost_score_is_compared_and_not_recommended():
    models = draw_models(40, GOOD)
    parameters = Place("parameters", 0)
    references = Candidates({**models.scores, parameters: models.finals}, {**COSTS, parameters: 0.0}, models.finals)
    strategies = [train_all(), use_zero_cost("parameters")]
    worth = compare_strategies(strategies, 200, SearchSimulation(references, 40.0, populations=40))
    free = next(prospect for prospect in worth.planned if prospect.strategy == "zero_cost")
    assert free.cost < 60
    assert worth.recommended.strategy == "random"


@pytest.mark.parametrize("trials", [1, 5, 8])
def test_a_small_search_within_a_cost_does_not_exceed_it(trials: int):
    references = draw_models(40, GOOD)
    simulation = SearchSimulation(references, 40.0, populations=20)
    worth = compare_strategies(list_strategies(references), trials, simulation, proxy="proxy")
    limit = next(prospect.cost for prospect in worth.planned if prospect.strategy == "proxy")
    assert all(prospect.cost <= 1.05 * limit for prospect in worth.at_proxy_cost)


def test_fewer_candidates_are_not_recommended_where_larger_searches_are_not_simulated():
    references = draw_models(30, GOOD)
    simulation = SearchSimulation(references, 40.0, populations=4)
    strategies = [train_all(), halve(COSTS)]
    assert compare_strategies(strategies, 20_000, simulation).recommended.candidates == 20_000


def test_the_recommendation_does_not_depend_on_the_draw_of_populations():
    references = draw_models(30, np.linspace(0.3, 0.95, len(STEPS)))
    recommended = {
        compare_strategies(
            list_strategies(references), 200, SearchSimulation(references, 40.0, seed=seed), proxy="proxy"
        ).recommended.strategy
        for seed in range(4)
    }
    assert len(recommended) == 1
