"""The Once-for-all search space around MobileNetV3-large: every block has its own kernel and expansion."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from timm.layers import get_act_layer
from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models._efficientnet_builder import round_channels
from timm.models.mobilenetv3 import MobileNetV3
from torch import nn

from nasproxy.models.choices import Choices
from nasproxy.models.dropout import add_dropout, check_rate
from nasproxy.models.network_stages import Activation, NetworkStage, Scale, write_block_args
from nasproxy.trials.spec import Choice

STEM_CHANNELS = 16
LAST_CHANNELS = 960
HEAD_CHANNELS = 1280
MAX_DEPTH = 4


@dataclass(frozen=True)
class FixedProperties:
    """Properties of a stage that are not searched, as in MobileNetV3-large."""

    channels: int
    stride: int
    activation: Activation
    se: float


STAGES = (
    FixedProperties(24, 2, "relu", 0.0),
    FixedProperties(40, 2, "relu", 0.25),
    FixedProperties(80, 2, "hard_swish", 0.0),
    FixedProperties(112, 1, "hard_swish", 0.25),
    FixedProperties(160, 2, "hard_swish", 0.25),
)


def list_stages(architecture: Mapping[str, Choice], scale: Scale) -> list[list[NetworkStage]]:
    """Read the stages of an architecture, each a list of blocks.

    Args:
        architecture: `stages.N.depth` (1 to 4) of each of the five stages, and `stages.N.kernelM` and
            `stages.N.expandM` of each of its blocks, M from 1 to its depth.
        scale: Multipliers of the proxy task; depth below 1 removes a stage's last blocks, above 1 repeats its last one.

    Raises:
        SpaceError: A choice is missing or without effect, or its value is invalid for a block.
    """
    choices = Choices(architecture, "mobilenet_v3")
    read = [_read_blocks(choices, f"stages.{n}", fixed, scale) for n, fixed in enumerate(STAGES)]
    choices.finish()
    first = NetworkStage(
        op="mbconv", repeats=1, kernel=3, stride=1, channels=scale.channels(STEM_CHANNELS), activation="relu"
    )
    last = NetworkStage(op="conv", repeats=1, kernel=1, stride=1, channels=scale.channels(LAST_CHANNELS))
    return [[first], *read, [last]]


def _read_blocks(choices: Choices, name: str, fixed: FixedProperties, scale: Scale) -> list[NetworkStage]:
    blocks = [
        NetworkStage(
            op="mbconv",
            repeats=1,
            kernel=choices.odd(f"{name}.kernel{block}"),
            stride=fixed.stride if block == 1 else 1,
            channels=scale.channels(fixed.channels),
            expand=choices.number(f"{name}.expand{block}", least=1, most=20),
            se=fixed.se,
            activation=fixed.activation,
        )
        for block in range(1, 1 + choices.one_of(f"{name}.depth", range(1, 1 + MAX_DEPTH)))
    ]
    repeats = scale.repeats(len(blocks))
    blocks[-1] = replace(blocks[-1], repeats=1 + max(0, repeats - len(blocks)))
    return blocks[:repeats]


def build(
    architecture: Mapping[str, Choice],
    *,
    width: float,
    depth: float,
    num_classes: int,
    channels: int,
    image_size_px: int,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    divisor: int = 8,
) -> nn.Module:
    """Build the network of an architecture, with weights initialized from torch's default generator.

    Args:
        architecture: Choices, as in `list_stages`.
        width: Multiplier of all channels, including stem and head.
        depth: Multiplier of the number of blocks of a stage.
        num_classes: Number of classes.
        channels: Channels of an image.
        image_size_px: Side of an image; unused, the network accepts any size and has output stride 32.
        dropout: Dropout probability before the last layer.
        drop_path: Stochastic depth: probability of skipping the last block, rising linearly from 0 at the first.
        divisor: Channels are rounded to multiples of this.

    Raises:
        SpaceError: A choice is missing or without effect, or its value is invalid for a block.
        ConfigError: A multiplier, rate or divisor is out of range.

    Source: Howard et al. (2019), MobileNetV3; Cai et al. (2020), Once-for-all.
    """
    del image_size_px
    check_rate("drop_path", drop_path)
    scale = Scale(width, depth, divisor)
    model: nn.Module = MobileNetV3(
        write_block_args(list_stages(architecture, scale)),
        num_classes=num_classes,
        in_chans=channels,
        stem_size=scale.channels(STEM_CHANNELS),
        num_features=scale.channels(HEAD_CHANNELS),
        round_chs_fn=int,  # already rounded by Scale
        act_layer=get_act_layer("hard_swish"),
        se_layer=partial(SqueezeExcite, gate_layer="hard_sigmoid", force_act_layer=nn.ReLU, rd_round_fn=round_channels),
        drop_path_rate=drop_path,
    )
    add_dropout(model, dropout)
    return model
