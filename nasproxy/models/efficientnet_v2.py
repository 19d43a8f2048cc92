"""The EfficientNetV2 search space: six stages around EfficientNetV2-B0, built by timm."""

from collections.abc import Mapping

from torch import nn

from nasproxy.models.choices import Choices
from nasproxy.models.network_stages import Activation, NetworkStage, Scale, build_efficientnet, make_bases, read_stage
from nasproxy.trials.spec import Choice

REFERENCE = make_bases((1, 2, 2, 3, 5, 8), (16, 32, 48, 96, 112, 192), (1, 2, 2, 2, 1, 2))


def list_stages(architecture: Mapping[str, Choice], scale: Scale) -> list[NetworkStage]:
    """Read the stages of an architecture.

    Args:
        architecture: `blocks.N.op` (mbconv or fused_mbconv), `.expand`, `.kernel`, `.se`, `.activation` (swish or
            relu), `.repeats` (an offset to the reference's) and `.filters` (a multiplier of the reference's) of each
            of the six blocks.
        scale: Multipliers of the proxy task.

    Raises:
        SpaceError: A choice is missing or unknown, or its value is invalid for a stage.
    """
    choices = Choices(architecture, "efficientnet_v2")
    read = [
        read_stage(choices, f"blocks.{n}", base, scale, ops=("mbconv", "fused_mbconv"), activations=("swish", "relu"))
        for n, base in enumerate(REFERENCE)
    ]
    choices.finish()
    return read


def build(
    architecture: Mapping[str, Choice],
    *,
    width: float,
    depth: float,
    num_classes: int,
    channels: int,
    image_size_px: int,
    activation: Activation = "swish",
    dropout: float = 0.0,
    drop_path: float = 0.0,
    divisor: int = 4,
) -> nn.Module:
    """Build the network of an architecture, with weights initialized from torch's default generator.

    Args:
        architecture: Choices, as in `list_stages`.
        width: Multiplier of all channels, including stem and head.
        depth: Multiplier of the repeats.
        num_classes: Number of classes.
        channels: Channels of an image.
        image_size_px: Side of an image; unused, the network accepts any size and has output stride 32.
        activation: Activation of stem and head.
        dropout: Dropout probability before the last layer.
        drop_path: Stochastic depth: probability of skipping the last block, rising linearly from 0 at the first.
        divisor: Channels are rounded to multiples of this.

    Raises:
        SpaceError: A choice is missing or unknown, or its value is invalid for a stage.
        ConfigError: A multiplier, rate or divisor is out of range.

    Source: Tan and Le (2021), EfficientNetV2.
    """
    del image_size_px
    scale = Scale(width, depth, divisor)
    return build_efficientnet(
        list_stages(architecture, scale),
        scale,
        num_classes=num_classes,
        channels=channels,
        activation=activation,
        dropout=dropout,
        drop_path=drop_path,
    )
