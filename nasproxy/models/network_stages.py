"""Stages of mobile networks, written as timm's block definitions."""

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
    """Equal blocks in a row; the first takes the stride, the others add to what they are given.

    Attributes:
        op: `conv`, one full convolution; `mbconv`, expansion, convolution of each channel alone, projection;
            `fused_mbconv`, the first two as one full convolution.
        repeats: Blocks.
        kernel: Side of the convolution that looks around.
        stride: Of the first block.
        channels: Outputs.
        expand: Channels inside a block, as a multiple of its inputs.
        se: Squeeze-and-excitation's channels, as a share of the block's inputs (of the channels inside a block in
            `MobileNetV3`); 0 for none.
        activation: Of this stage; None for the network's.
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
        """The stage in timm's language, such as `ir_r2_k3_s2_e6_c24_se0.25`.

        Without expansion, a block has no first pointwise convolution: `mbconv` is depthwise separable, and
        `fused_mbconv` one convolution, as in the published networks. That leaves nothing to squeeze, so a
        `fused_mbconv` with squeeze-and-excitation keeps its projection.
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
    """What a reference network has where a stage is searched.

    Attributes:
        repeats: Blocks.
        channels: Outputs.
        stride: Of the first block.
    """

    repeats: int
    channels: int
    stride: int


@dataclass(frozen=True)
class Scale:
    """A proxy task's multipliers.

    Attributes:
        width: Of channels.
        depth: Of repeats.
        divisor: What channels are a multiple of.
    """

    width: float = 1.0
    depth: float = 1.0
    divisor: int = 8

    def channels(self, channels: int, filters: float = 1.0) -> int:
        """Scaled channels; `filters` multiplies them before they are rounded, once."""
        return scale_channels(channels, filters * self.width, self.divisor)

    def repeats(self, repeats: int) -> int:
        """Scaled repeats, at least 1."""
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
    """Read one stage: its repeats are an offset to the reference's, its filters a multiplier.

    Args:
        choices: Hold `op`, `kernel`, `repeats`, `filters` below the name; unless `op` is conv, `expand` and `se` too;
            `activation`, if there is more than none to choose from.
        name: Of the stage's group, such as `blocks.0`.
        base: The reference's stage.
        scale: Of the proxy task.
        ops: Values of `op`.
        activations: Values of `activation`.

    Raises:
        SpaceError: A choice is missing, or has a value that no stage can be built from.
    """
    op = choices.one_of(f"{name}.op", ops)
    is_plain = op == "conv"
    offset = choices.whole(f"{name}.repeats")
    if base.repeats + offset < 1:
        raise SpaceError(f"{name}.repeats must leave a block of the reference's {base.repeats}, got {offset}: {ADVICE}")
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
    """The stages of a reference network, from columns of its table."""
    return tuple(Base(*stage) for stage in zip(repeats, channels, strides, strict=True))


def write_block_args(stages: Sequence[Sequence[NetworkStage]]) -> Any:
    """What timm's networks take for their blocks: stages that share timm's count of one are listed together."""
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
    """Build stages into timm's `EfficientNet`: stem, stages, head, average pool, linear layer.

    Args:
        stages: Scaled already.
        scale: Of stem and head.
        num_classes: Outputs.
        channels: Channels of an image.
        activation: Where a stage has none of its own.
        dropout: Probability with which a feature is dropped before the last layer.
        drop_path: Probability with which the last block is skipped; it rises to this from 0 at the first.

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
        round_chs_fn=int,  # they are rounded already
        act_layer=get_act_layer(activation),
        drop_path_rate=drop_path,
    )
    add_dropout(model, dropout)
    return model
