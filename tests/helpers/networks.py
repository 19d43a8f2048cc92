"""Architectures and measurements for the tests of model builders."""

from nasproxy.models import efficientnet_v2, mnasnet, mobilenet_v3

MBCONV = {"op": "mbconv", "expand": 6, "kernel": 3, "se": 0, "repeats": 0, "filters": 1}
CONV = {"op": "conv", "kernel": 3, "repeats": 0, "filters": 1}
FUSED = {"op": "fused_mbconv", "expand": 4, "kernel": 3, "se": 0, "activation": "swish", "repeats": 0, "filters": 1}
FULL = {"width": 1.0, "depth": 1.0, "num_classes": 10, "channels": 3, "image_size_px": 32}


def blocks(*groups):
    """Make an architecture of numbered groups, such as blocks.0.op."""
    return {f"blocks.{n}.{name}": value for n, group in enumerate(groups) for name, value in group.items()}


MOBILENET_V2 = blocks({**MBCONV, "expand": 1}, *[MBCONV] * 6)
MNASNET_A1 = blocks(
    {**MBCONV, "expand": 1},
    MBCONV,
    {**MBCONV, "expand": 3, "kernel": 5, "se": 0.25},
    MBCONV,
    {**MBCONV, "se": 0.25},
    {**MBCONV, "kernel": 5, "se": 0.25},
    MBCONV,
)
EFFICIENTNET_V2_B0 = blocks(
    {**FUSED, "expand": 1},
    FUSED,
    FUSED,
    {**FUSED, "op": "mbconv", "se": 0.25},
    {**FUSED, "op": "mbconv", "expand": 6, "se": 0.25},
    {**FUSED, "op": "mbconv", "expand": 6, "se": 0.25},
)


def _stage(kernel, *expansions):
    group = {"depth": len(expansions)}
    for n, expand in enumerate(expansions, 1):
        group |= {f"kernel{n}": kernel, f"expand{n}": expand}
    return group


MOBILENET_V3_LARGE = {
    f"stages.{n}.{name}": value
    for n, group in enumerate(
        [_stage(3, 4, 3), _stage(5, 3, 3, 3), _stage(3, 6, 2.5, 2.3, 2.3), _stage(3, 6, 6), _stage(5, 6, 6, 6)]
    )
    for name, value in group.items()
}

REFERENCES = {
    "mobilenetv2_100": (mnasnet.build, MOBILENET_V2, {"reference": "mobilenet_v2"}),
    "semnasnet_100": (mnasnet.build, MNASNET_A1, {"reference": "mnasnet_a1"}),
    "tf_efficientnetv2_b0": (efficientnet_v2.build, EFFICIENTNET_V2_B0, {}),
    "mobilenetv3_large_100": (mobilenet_v3.build, MOBILENET_V3_LARGE, {}),
}
"""Builder, architecture and settings of published networks, by timm name."""


def shapes(model):
    return [tuple(parameter.shape) for parameter in model.parameters()]


def weights(model):
    return sum(parameter.numel() for parameter in model.parameters())
