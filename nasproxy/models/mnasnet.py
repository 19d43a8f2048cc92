"""The MnasNet search space: seven stages around MobileNetV2 or MnasNet-A1, built by timm."""

from collections.abc import Mapping
from typing import Literal

from torch import nn

from nasproxy.models.choices import Choices
from nasproxy.models.network_stages import Activation, NetworkStage, Scale, build_efficientnet, make_bases, read_stage
from nasproxy.trials.spec import Choice

STRIDES = (1, 2, 2, 2, 1, 2, 1)
REFERENCES = {
    "mobilenet_v2": make_bases((1, 2, 3, 4, 3, 3, 1), (16, 24, 32, 64, 96, 160, 320), STRIDES),
    "mnasnet_a1": make_bases((1, 2, 3, 4, 2, 3, 1), (16, 24, 40, 80, 112, 160, 320), STRIDES),
}


def list_stages(architecture: Mapping[str, Choice], reference: str, scale: Scale) -> list[NetworkStage]:
    """Read the stages of an architecture.

    Args:
        architecture: `blocks.N.op` (conv or mbconv), `.kernel`, `.repeats` (an offset to the reference's), `.filters`
            (a multiplier of the reference's) of each of the seven blocks, and `.expand` and `.se` of an mbconv.
        reference: Key of `REFERENCES`.
        scale: Multipliers of the proxy task.

    Raises:
        SpaceError: A choice is missing or without effect, or its value is invalid for a stage.
    """
    choices = Choices(architecture, "mnasnet")
    read = [
        read_stage(choices, f"blocks.{n}", base, scale, ops=("conv", "mbconv"))
        for n, base in enumerate(REFERENCES[reference])
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
    reference: Literal["mobilenet_v2", "mnasnet_a1"] = "mobilenet_v2",
    activation: Activation = "relu",
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
        reference: Network that repeats and filters are relative to.
        activation: Activation of all layers.
        dropout: Dropout probability before the last layer.
        drop_path: Stochastic depth: probability of skipping the last block, rising linearly from 0 at the first.
        divisor: Channels are rounded to multiples of this.

    Raises:
        SpaceError: A choice is missing or without effect, or its value is invalid for a stage.
        ConfigError: A multiplier, rate or divisor is out of range.

    Source: Tan et al. (2019), MnasNet.
    """
    del image_size_px
    scale = Scale(width, depth, divisor)
    return build_efficientnet(
        list_stages(architecture, reference, scale),
        scale,
        num_classes=num_classes,
        channels=channels,
        activation=activation,
        dropout=dropout,
        drop_path=drop_path,
    )
