"""Simulated candidates rank as the reference models do."""

import numpy as np
import pytest

from nasproxy.statistics.copula import normal_scores, resample
from nasproxy.statistics.missing import Floats


def draw_models(correlation: float, models: int) -> Floats:
    """Draw two scores of models with a correlation, shape (models, 2)."""
    random = np.random.default_rng(0)
    final = random.standard_normal(models)
    early = correlation * final + np.sqrt(1 - correlation**2) * random.standard_normal(models)
    return np.column_stack([early, final])


def test_normal_scores_depend_on_ranks_only():
    scores = draw_models(0.5, 20)
    assert normal_scores(np.exp(scores)) == pytest.approx(normal_scores(scores))


def test_equal_scores_get_equal_normal_scores():
    assert np.unique(normal_scores(np.array([[1.0], [1.0], [2.0]]))[:2]).size == 1


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_candidates_have_the_correlation_of_the_models(correlation: float):
    random = np.random.default_rng(1)
    models = normal_scores(draw_models(correlation, 200))
    populations = [resample(models, random) for _ in range(20)]
    found = [np.corrcoef(population.draw(2000, random), rowvar=False)[0, 1] for population in populations]
    assert np.mean(found) == pytest.approx(np.corrcoef(models, rowvar=False)[0, 1], abs=0.05)


def test_the_share_above_is_that_of_drawn_candidates():
    random = np.random.default_rng(2)
    population = resample(normal_scores(draw_models(0.5, 30)), random)
    drawn = population.draw(20_000, random)[:, 1]
    values = np.array([-1.0, 0.0, 1.5])
    assert population.share_above(values, 1) == pytest.approx([(drawn > value).mean() for value in values], abs=0.015)


def test_populations_of_few_models_differ_more():
    random = np.random.default_rng(3)

    def spread(models: int) -> float:
        scores = normal_scores(draw_models(0.7, models))
        populations = [resample(scores, random) for _ in range(50)]
        return float(np.std([np.corrcoef(population.centres, rowvar=False)[0, 1] for population in populations]))

    assert spread(10) > 2 * spread(100)
