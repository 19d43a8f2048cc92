"""Tau on the models that chose a look is higher than on others."""

import numpy as np
import pytest

from nasproxy.statistics.cross_fit import find_attenuation, measure_optimism


def test_a_look_chosen_among_many_useless_ones_is_optimistic():
    random = np.random.default_rng(0)
    found = [
        measure_optimism(random.standard_normal((20, 20)), random.standard_normal(20), level=0.4) for _ in range(5)
    ]
    assert np.mean(found) > 0.3


def test_a_single_look_is_not_optimistic_on_average():
    random = np.random.default_rng(0)
    found = []
    for _ in range(20):
        reference = random.standard_normal(20)
        found.append(measure_optimism((reference + random.standard_normal(20))[None], reference, level=0.5))
    assert np.mean(found) < 0.02


def test_too_few_models_have_no_estimate():
    assert measure_optimism(np.zeros((3, 5)), np.arange(5.0), level=0.5) == 0.0


def test_equal_scores_have_no_estimate():
    assert measure_optimism(np.zeros((3, 12)), np.arange(12.0), level=0.5) == 0.0


@pytest.mark.parametrize(("tau", "corrected", "factor"), [(0.7, 0.7, 1.0), (0.7, 0.0, 0.0), (1.0, 1 / 3, 0.5)])
def test_the_correlation_falls_with_tau(tau: float, corrected: float, factor: float):
    assert find_attenuation(tau, corrected) == pytest.approx(factor)
