"""Zero-cost scores of a model: parameters, floating-point operations, synaptic flow."""

import copy
import math

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nasproxy.storage.zero_cost_scores import ZeroCost

NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
)
"""Layers that would undo what synaptic flow measures: the size of the weights before them."""


def measure_complexity(model: nn.Module, image_shape: tuple[int, int, int]) -> ZeroCost:
    """Score an untrained model; it is of no use afterwards.

    Args:
        model: From images (n, channels, height, width) to scores of classes, its weights as drawn.
        image_shape: Channels, height and width.
    """
    model.eval()
    with torch.no_grad():
        model(torch.zeros(1, *image_shape))  # layers that wait for their first input get their shapes
    parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return ZeroCost(parameters, count_flops(model, image_shape), measure_synflow(model, image_shape))


def count_flops(model: nn.Module, image_shape: tuple[int, int, int]) -> int | None:
    """Floating-point operations of the forward pass of one image, 2 a multiply-add.

    Counted on shapes alone, so that a large model takes no longer than a small one.

    Returns:
        The count of matrix products and convolutions, as Torch counts them; None where the model reads values.
    """
    shapes = copy.deepcopy(model).to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        try:
            shapes(torch.zeros(1, *image_shape, device="meta"))
        except (RuntimeError, NotImplementedError):
            return None
    return int(counter.get_total_flops())


def measure_synflow(model: nn.Module, image_shape: tuple[int, int, int]) -> float | None:
    """Synaptic flow: the sum over weights of |weight x gradient|, of all paths through the model; changes the model.

    Weights are replaced by their absolute values, the image is all ones, and what is derived is the sum of the
    outputs. Norms are left out, as is usual for architectures (Abdelfattah et al., 2021): they would scale every
    path back to size. Double precision holds what the products of deep models grow to.

    Returns:
        The score; None where it overflows double precision, or the model computes in another one.

    Source: Tanaka, Kunin, Yamins and Ganguli (2020).
    """
    model.double()
    _leave_out_norms(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    model.zero_grad()
    try:
        model(torch.ones(1, *image_shape, dtype=torch.float64)).sum().backward()
    except Exception:  # the model is the user's code, and may refuse doubles in its own way
        return None
    flows = [w.detach() * w.grad for w in model.parameters() if w.ndim > 1 and w.grad is not None]
    score = math.fsum(float(flow.abs().sum()) for flow in flows)
    return score if math.isfinite(score) else None


def _leave_out_norms(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, NORMS):
            # timm's norms hold the activation that follows them.
            setattr(module, name, getattr(child, "act", nn.Identity()))
        else:
            _leave_out_norms(child)
