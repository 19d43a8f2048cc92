"""The EfficientNetV2 search space: six stages around EfficientNetV2-B0, built by timm."""

from collections.abc import Mapping

from torch import nn

from nasproxy.models.choices import Choices
from nasproxy.models.network_stages import Activation, NetworkStage, Scale, build_efficientnet, make_bases, read_stage
from nasproxy.trials.spec import Choice

REFERENCE = make_bases((1, 2, 2, 3, 5, 8), (16, 32, 48, 96, 112, 192), (1, 2, 2, 2, 1, 2))


def list_stages(architecture: Mapping[str, Choice], scale: Scale) -> list[NetworkStage]:
    """The stages of an architecture.

    Args:
        architecture: `blocks.N.op` (mbconv or fused_mbconv), `.expand`, `.kernel`, `.se`, `.activation` (swish or
            relu), `.repeats` (an offset to the reference's) and `.filters` (a multiplier of the reference's) of each
            of the six blocks.
        scale: Of the proxy task.

    Raises:
        SpaceError: A choice is missing or unknown, or has a value that no stage can be built from.
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
    """Build the network of an architecture; its weights are drawn from torch's own generator.

    Args:
        architecture: As `list_stages` takes it.
        width: Multiplier of all channels, those of stem and head too.
        depth: Multiplier of the repeats.
        num_classes: Outputs.
        channels: Channels of an image.
        image_size_px: Side of an image; the network takes any, and leaves a 32nd of it.
        activation: Of stem and head.
        dropout: Probability with which a feature is dropped before the last layer.
        drop_path: Probability with which the last block is skipped; it rises to this from 0 at the first.
        divisor: What channels are a multiple of.

    Raises:
        SpaceError: A choice is missing or unknown, or has a value that no stage can be built from.
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
