"""What is known of how tau rises: draws of the prior, and its update by curves of few models."""

import math

import numpy as np
import pytest

from nasproxy.statistics.tau_curve import TauCurve
from nasproxy.statistics.tau_prior import prior_mean

FRACTIONS = np.array([0.02, 0.14, 1.0])


def draw(curve: TauCurve, **options: int) -> np.ndarray:
    return curve.draw(FRACTIONS, 20_000, np.random.default_rng(0), **options)


def test_the_prior_is_that_of_published_curves() -> None:
    found = draw(TauCurve())
    for place, fraction in enumerate(FRACTIONS):
        assert found[:, place].mean() == pytest.approx(prior_mean(float(fraction)), abs=0.02)
    assert found[:, 1].std() == pytest.approx(math.sqrt(0.5), abs=0.02)
    assert found[:, 0].std() > found[:, 1].std(), "far from the centre the slope matters, too"


def test_the_best_of_several_tasks_lies_higher() -> None:
    one, three = draw(TauCurve()), draw(TauCurve(), best_of=3)
    assert three.mean() - one.mean() == pytest.approx(math.sqrt(0.5) * 0.846, abs=0.03), "largest of 3 deviates"


@pytest.mark.parametrize("tasks", [2, 5])
def test_the_best_level_of_several_tasks_is_the_largest_of_as_many_normal_values(tasks: int) -> None:
    levels = draw(TauCurve(), best_of=tasks)[:, 1]
    largest = np.random.default_rng(1).standard_normal((20_000, tasks)).max(axis=1)
    assert levels.mean() == pytest.approx(prior_mean(0.14) + math.sqrt(0.5) * largest.mean(), abs=0.02)
    assert levels.std() == pytest.approx(math.sqrt(0.5) * largest.std(), abs=0.02)


def test_observed_checks_move_the_curve_and_more_models_move_it_further() -> None:
    fractions = (0.02, 0.05, 0.14, 0.3)
    low = [prior_mean(fraction) - 0.8 for fraction in fractions]
    few, many = (TauCurve().update(low, fractions, models) for models in (10, 40))
    assert many.level < few.level < TauCurve().level
    assert many.variances[0] < few.variances[0] < TauCurve().variances[0]
    assert few.task_variance > 0, "a proxy task ranks differently from the references' own checks"


def test_late_checks_do_not_count_since_their_scores_are_nearly_the_final_ones() -> None:
    assert TauCurve().update([2.5, 3.0], [0.7, 1.0], 10) == TauCurve()
    early = TauCurve().update([0.5, 0.6], [0.1, 0.2], 10)
    assert TauCurve().update([0.5, 0.6, 3.0], [0.1, 0.2, 1.0], 10) == early
