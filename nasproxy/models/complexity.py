"""Zero-cost scores of a model: parameters, floating-point operations (FLOPs), synaptic flow."""

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
"""Normalization layers: they would cancel the scale of the preceding weights, which synaptic flow measures."""


def measure_complexity(model: nn.Module, image_shape: tuple[int, int, int]) -> ZeroCost:
    """Compute the zero-cost scores of an untrained model; the model is unusable afterwards.

    Args:
        model: Maps images (n, channels, height, width) to logits; untrained.
        image_shape: Channels, height and width of an image.
    """
    model.eval()
    with torch.no_grad():
        model(torch.zeros(1, *image_shape))  # initializes lazy layers
    parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return ZeroCost(parameters, count_flops(model, image_shape), measure_synflow(model, image_shape))


def count_flops(model: nn.Module, image_shape: tuple[int, int, int]) -> int | None:
    """Count the floating-point operations of one image's forward pass, 2 per multiply-add.

    The forward pass runs on the meta device, which needs shapes only, so that large models are counted quickly.

    Returns:
        FLOPs of matrix products and convolutions, as torch counts them; None if the model depends on tensor values.
    """
    shapes = copy.deepcopy(model).to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        try:
            shapes(torch.zeros(1, *image_shape, device="meta"))
        except (RuntimeError, NotImplementedError):
            return None
    return int(counter.get_total_flops())


def measure_synflow(model: nn.Module, image_shape: tuple[int, int, int]) -> float | None:
    """Compute synaptic flow, the sum over weights of |weight x gradient|; changes the model.

    Weights are replaced by their absolute values, the image is all ones, and the gradient is that of the sum of the
    outputs. Normalization layers are removed, as is usual for architectures (Abdelfattah et al., 2021): they would
    rescale every path. Double precision avoids overflow in deep models.

    Returns:
        The score; None if it overflows double precision, or if the model rejects double precision.

    Source: Tanaka, Kunin, Yamins and Ganguli (2020).
    """
    model.double()
    _remove_norms(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    model.zero_grad()
    try:
        model(torch.ones(1, *image_shape, dtype=torch.float64)).sum().backward()
    except Exception:  # user code: a model that rejects double precision may raise any exception
        return None
    flows = [w.detach() * w.grad for w in model.parameters() if w.ndim > 1 and w.grad is not None]
    score = math.fsum(float(flow.abs().sum()) for flow in flows)
    return score if math.isfinite(score) else None


def _remove_norms(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, NORMS):
            # timm's normalization layers contain the activation that follows them.
            setattr(module, name, getattr(child, "act", nn.Identity()))
        else:
            _remove_norms(child)
