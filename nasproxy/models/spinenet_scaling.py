"""Search space over the size of a SpineNet whose graph is fixed."""

from collections.abc import Mapping
from typing import Any, Literal

from torch import nn

from nasproxy.models import spinenet
from nasproxy.models.choices import Choices
from nasproxy.models.fixed import spell_out
from nasproxy.trials.spec import Choice

RATIOS = ("filter_scale", "resample_alpha")
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
            `endpoint_filters`, `head_convs` and `head_filters`, as in `nasproxy.models.spinenet.build`.
        fixed: Choices of the graph, nested or by path.
        width: Multiplier of all filters.
        depth: Multiplier of the repeats.
        num_classes: Number of classes.
        channels: Channels of an image.
        image_size_px: Side of an image.
        family: `spinenet` or `mobile`.
        activation: `relu` or `silu`.

    Raises:
        SpaceError: A choice is missing or unknown, or its value is invalid.
    """
    choices = Choices(architecture, "spinenet_scaling")
    sizes: dict[str, Any] = {
        "image_size": choices.number("image_size", least=0.05, most=1.0),
        **{name: choices.number(name, least=0.05, most=20) for name in RATIOS},
        **{name: choices.whole(name, least=1) for name in COUNTS},
    }
    choices.finish()
    return spinenet.build(
        spell_out(fixed),
        width=width,
        depth=depth,
        num_classes=num_classes,
        channels=channels,
        image_size_px=image_size_px,
        family=family,
        activation=activation,
        **sizes,
    )
