"""One SpineNet at many sizes: the graph is given, and what is searched is how large to build it."""

from collections.abc import Mapping
from typing import Any, Literal

from torch import nn

from nasproxy.errors import SpaceError
from nasproxy.models import spinenet
from nasproxy.models.fixed import spelled_out
from nasproxy.trial import Choice

RATIOS = ("image_size", "filter_scale", "resample_alpha")
COUNTS = ("block_repeats", "endpoint_filters", "head_convs", "head_filters")


def build(
    architecture: Mapping[str, Choice],
    *,
    fixed: Mapping[str, Any],
    width: float,
    depth: float,
    num_classes: int,
    channels: int,
    image_size_px: int,
    family: Literal["spinenet", "mobile"] = "spinenet",
    activation: Literal["relu", "silu"] = "silu",
) -> nn.Module:
    """Build the fixed graph at the chosen size, as `nasproxy.models.spinenet.build` does.

    Args:
        architecture: `image_size`, as a share of the images' own, `filter_scale`, `resample_alpha`, `block_repeats`,
            `endpoint_filters`, `head_convs` and `head_filters`; what they are is told there.
        fixed: Choices of the graph, nested or by path.
        width: Passed on, as all that follows.
        depth: Multiplier of the repeats.
        num_classes: Outputs.
        channels: Channels of an image.
        image_size_px: Side of an image.
        family: `spinenet` or `mobile`.
        activation: `relu` or `silu`.

    Raises:
        SpaceError: A choice is missing or unknown, or has a value that nothing can be built from.
    """
    if set(architecture) != {*RATIOS, *COUNTS}:
        raise SpaceError(
            f"spinenet_scaling needs the choices {', '.join((*RATIOS, *COUNTS))}, got {', '.join(architecture)}"
        )
    ratios = {name: _number(architecture, name) for name in RATIOS}
    counts = {name: int(_number(architecture, name, is_whole=True)) for name in COUNTS}
    if ratios["image_size"] > 1:
        raise SpaceError(f"image_size must be a share in (0, 1], got {ratios['image_size']}: 1 is the images' own side")
    return spinenet.build(
        spelled_out(fixed),
        width=width,
        depth=depth,
        num_classes=num_classes,
        channels=channels,
        image_size_px=image_size_px,
        family=family,
        activation=activation,
        image_size=ratios["image_size"],
        filter_scale=ratios["filter_scale"],
        resample_alpha=ratios["resample_alpha"],
        block_repeats=counts["block_repeats"],
        endpoint_filters=counts["endpoint_filters"],
        head_convs=counts["head_convs"],
        head_filters=counts["head_filters"],
    )


def _number(architecture: Mapping[str, Choice], name: str, *, is_whole: bool = False) -> int | float:
    value = architecture[name]
    if isinstance(value, bool | str) or value <= 0 or (is_whole and value != int(value)):
        kind = "whole number" if is_whole else "number"
        raise SpaceError(f"{name} must be a {kind} above 0, got {value!r}: change the search space")
    return value
