"""Zero-cost scores: values computed by hand, and invariances."""

import pytest
import torch
from torch import nn

from nasproxy.models.complexity import count_flops, measure_complexity, measure_synflow

IMAGE = (1, 2, 2)


def linear(*rows: list[float]) -> nn.Sequential:
    """Make a linear layer on four pixels with the given weights and biases of 0.5."""
    layer = nn.Linear(4, len(rows))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(rows))
        layer.bias.fill_(0.5)
    return nn.Sequential(nn.Flatten(), layer)


def test_scores_of_a_linear_layer_match_a_computation_by_hand() -> None:
    scores = measure_complexity(linear([1.0, -2.0, 3.0, 0.0], [0.5, 0.5, -0.5, 0.5]), IMAGE)
    assert scores.parameters == 4 * 2 + 2
    assert scores.flops == 2 * 4 * 2, "a multiply-add is two operations"
    assert scores.synflow == pytest.approx(1 + 2 + 3 + 4 * 0.5), "the gradient of a weight is its pixel, 1"


def test_flops_of_a_convolution_count_every_output_position() -> None:
    model = nn.Conv2d(3, 5, kernel_size=3, padding=1, bias=False)
    assert count_flops(model, (3, 8, 8)) == 2 * (3 * 3 * 3) * 5 * 8 * 8


def test_two_linear_layers_score_the_sum_over_all_paths_once_a_layer() -> None:
    first, second = nn.Linear(4, 1, bias=False), nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, -1.0, 2.0, 0.0]]))
        second.weight.fill_(-3.0)
    score = measure_synflow(nn.Sequential(nn.Flatten(), first, nn.ReLU(), second), IMAGE)
    assert score == pytest.approx(2 * (1 + 1 + 2) * 3)


def test_norms_do_not_change_the_flow() -> None:
    def scored(*norm: nn.Module) -> float | None:
        torch.manual_seed(0)
        return measure_synflow(nn.Sequential(nn.Conv2d(1, 4, 1), *norm, nn.Flatten(), nn.Linear(16, 2)), IMAGE)

    assert scored() == scored(nn.BatchNorm2d(4)) == scored(nn.GroupNorm(2, 4))


def test_a_flow_that_overflows_double_precision_has_no_score() -> None:
    layers = [nn.Linear(4, 4, bias=False) for _ in range(8)]
    for layer in layers:
        nn.init.constant_(layer.weight, 1e38)
    scores = measure_complexity(nn.Sequential(nn.Flatten(), *layers, nn.Linear(4, 2)), IMAGE)
    assert scores.synflow is None
    assert scores.flops == 2 * (8 * 16 + 8)


def test_a_model_that_depends_on_values_has_no_flops() -> None:
    class Choosy(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1) if images.sum() >= 0 else images.flatten(1) * 2

    scores = measure_complexity(nn.Sequential(Choosy(), nn.Linear(4, 2)), IMAGE)
    assert scores.flops is None
    assert scores.size == scores.parameters == 10
