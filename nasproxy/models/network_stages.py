"""Stages of mobile networks as timm block definitions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from timm.layers import get_act_layer
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.efficientnet import EfficientNet
from torch import nn

from nasproxy.errors import SpaceError
from nasproxy.models.choices import ADVICE, Choices
from nasproxy.models.dropout import add_dropout, check_rate
from nasproxy.models.scaling import scale_channels, scale_repeats

Op = Literal["conv", "mbconv", "fused_mbconv"]
Activation = Literal["relu", "swish", "hard_swish"]

ACTIVATION_CODES = {"relu": "re", "swish": "sw", "hard_swish": "hs"}
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280


@dataclass(frozen=True, kw_only=True)
class NetworkStage:
    """A sequence of equal blocks; the first has the stride, the others are residual.

    Attributes:
        op: `conv`, one full convolution; `mbconv`, expansion, depthwise convolution and projection;
            `fused_mbconv`, expansion and depthwise convolution fused into one full convolution.
        repeats: Number of blocks.
        kernel: Side of the spatial convolution.
        stride: Stride of the first block.
        channels: Output channels.
        expand: Expanded channels of a block, as a multiple of its input channels.
        se: Squeeze-and-excitation channels, as a share of the block's input channels (of its expanded channels in
            `MobileNetV3`); 0 for none.
        activation: Activation of this stage; None for the network's default.
    """

    op: Op
    repeats: int
    kernel: int
    stride: int
    channels: int
    expand: float = 1.0
    se: float = 0.0
    activation: Activation | None = None

    @property
    def definition(self) -> str:
        """timm's block definition of the stage, such as `ir_r2_k3_s2_e6_c24_se0.25`.

        With `expand` 1, a block has no expansion convolution, as in the published networks: `mbconv` is depthwise
        separable and `fused_mbconv` a single convolution. A `fused_mbconv` with squeeze-and-excitation keeps its
        projection, since timm's single convolution has no squeeze-and-excitation.
        """
        parts = [self._block, f"r{self.repeats}", f"k{self.kernel}", f"s{self.stride}"]
        parts += [f"e{self.expand:g}"] if self._block in ("ir", "er") else []
        parts += [f"c{self.channels}"]
        parts += [f"se{self.se:g}"] if self.se and self._block != "cn" else []
        parts += [f"n{ACTIVATION_CODES[self.activation]}"] if self.activation else []
        parts += ["skip"] if self._block == "cn" else []
        return "_".join(parts)

    @property
    def _block(self) -> str:
        if self.op == "mbconv":
            return "ds" if self.expand == 1 else "ir"
        return "er" if self.op == "fused_mbconv" and (self.expand != 1 or self.se) else "cn"


@dataclass(frozen=True)
class Base:
    """A stage of the reference network that a searched stage is relative to.

    Attributes:
        repeats: Number of blocks.
        channels: Output channels.
        stride: Stride of the first block.
    """

    repeats: int
    channels: int
    stride: int


@dataclass(frozen=True)
class Scale:
    """Width and depth multipliers of a proxy task.

    Attributes:
        width: Multiplier of channels.
        depth: Multiplier of repeats.
        divisor: Channels are rounded to multiples of this.
    """

    width: float = 1.0
    depth: float = 1.0
    divisor: int = 8

    def channels(self, channels: int, filters: float = 1.0) -> int:
        """Scale channels by `width` and `filters`, rounding once."""
        return scale_channels(channels, filters * self.width, self.divisor)

    def repeats(self, repeats: int) -> int:
        """Scale repeats by `depth`, to at least 1."""
        return scale_repeats(repeats, self.depth)


def read_stage(
    choices: Choices,
    name: str,
    base: Base,
    scale: Scale,
    *,
    ops: Sequence[Op],
    activations: Sequence[Activation] = (),
) -> NetworkStage:
    """Read one stage: `repeats` is an offset to the reference's, `filters` a multiplier.

    Args:
        choices: Choices `op`, `kernel`, `repeats` and `filters` below `name`; also `expand` and `se` unless `op` is
            conv, and `activation` if `activations` is not empty.
        name: Group of the stage, such as `blocks.0`.
        base: Stage of the reference network.
        scale: Multipliers of the proxy task.
        ops: Allowed values of `op`.
        activations: Allowed values of `activation`.

    Raises:
        SpaceError: A choice is missing, or its value is invalid for a stage.
    """
    op = choices.one_of(f"{name}.op", ops)
    is_plain = op == "conv"
    offset = choices.whole(f"{name}.repeats")
    if base.repeats + offset < 1:
        raise SpaceError(f"{name}.repeats must be at least {1 - base.repeats}, got {offset}: {ADVICE}")
    return NetworkStage(
        op=op,
        repeats=scale.repeats(base.repeats + offset),
        kernel=choices.odd(f"{name}.kernel"),
        stride=base.stride,
        channels=scale.channels(base.channels, choices.number(f"{name}.filters", least=0.05, most=20)),
        expand=1.0 if is_plain else choices.number(f"{name}.expand", least=1, most=20),
        se=0.0 if is_plain else choices.number(f"{name}.se", least=0, most=1),
        activation=choices.one_of(f"{name}.activation", activations) if activations else None,
    )


def make_bases(repeats: Sequence[int], channels: Sequence[int], strides: Sequence[int]) -> tuple[Base, ...]:
    """Build the stages of a reference network from the columns of its table."""
    return tuple(Base(*stage) for stage in zip(repeats, channels, strides, strict=True))


def write_block_args(stages: Sequence[Sequence[NetworkStage]]) -> Any:
    """Convert stages to timm's `block_args`; the inner lists are timm's stages."""
    return decode_arch_def([[part.definition for part in stage] for stage in stages])


def build_efficientnet(
    stages: Sequence[NetworkStage],
    scale: Scale,
    *,
    num_classes: int,
    channels: int,
    activation: Activation,
    dropout: float,
    drop_path: float,
) -> nn.Module:
    """Build timm's `EfficientNet`: stem, stages, head, average pool, linear layer.

    Args:
        stages: Stages, already scaled.
        scale: Multipliers of stem and head.
        num_classes: Number of classes.
        channels: Channels of an image.
        activation: Activation of stem, head and stages without their own.
        dropout: Dropout probability before the last layer.
        drop_path: Stochastic depth: probability of skipping the last block, rising linearly from 0 at the first.

    Raises:
        ConfigError: A rate is out of range.
    """
    check_rate("drop_path", drop_path)
    model: nn.Module = EfficientNet(
        write_block_args([[stage] for stage in stages]),
        num_classes=num_classes,
        in_chans=channels,
        stem_size=scale.channels(STEM_CHANNELS),
        num_features=scale.channels(HEAD_CHANNELS),
        round_chs_fn=int,  # already rounded by Scale
        act_layer=get_act_layer(activation),
        drop_path_rate=drop_path,
    )
    add_dropout(model, dropout)
    return model
