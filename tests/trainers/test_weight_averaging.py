from typing import Any

import pytest
import torch
from torch import nn

from nasproxy.trainers import optimization
from nasproxy.trainers.weight_averaging import compute_decay


def settings(**changes: Any) -> optimization.ClassifierSettings:
    given = {"batch_size": 4, "learning_rate": 0.1, "weight_decay": 0.01, "momentum": 0.9}
    return optimization.ClassifierSettings(**{**given, "optimizer": "sgd", "schedule": "cosine", **changes})


def averaged(weights: list[float], **changes: Any) -> list[float]:
    """Return the validated weights and statistics after each step, given those of the trained model."""
    model = nn.BatchNorm1d(1)
    average = optimization.WeightAverage(model, settings(**changes), len(weights))
    found = []
    for step, weight in enumerate(weights, start=1):
        with torch.no_grad():
            model.weight.fill_(weight)
            model.running_mean.fill_(weight)
        average.update(step)
        assert average.model.running_mean.item() == pytest.approx(average.model.weight.item()), "statistics follow"
        found.append(average.model.weight.item())
    return found


def test_swa_is_the_mean_of_all_weights_since_the_start() -> None:
    assert averaged([1, 2, 3, 4], smoothing="swa") == pytest.approx([1, 1.5, 2, 2.5])
    assert averaged([9, 9, 3, 4], smoothing="swa", smoothing_start_fraction=0.5) == pytest.approx([9, 9, 3, 3.5])


def test_ema_soon_forgets_its_first_weights() -> None:
    assert averaged([0, 1], smoothing="ema", smoothing_decay=0.99)[1] == pytest.approx(1 - 2 / 11)
    assert averaged([0] + 29 * [1], smoothing="ema", smoothing_decay=0.99)[-1] > 0.999
    assert [compute_decay(settings(smoothing="ema", smoothing_decay=0.5), n) for n in (1, 100)] == pytest.approx(
        [2 / 11, 0.5]
    )


def test_without_smoothing_the_current_weights_are_validated() -> None:
    assert averaged([1, 2, 3]) == [1, 2, 3]
