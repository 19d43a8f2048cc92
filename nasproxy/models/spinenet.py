"""SpineNet classifiers: scale-permuted blocks, each with two earlier features of any scale as inputs.

Features are numbered in the order of computation: 0 and 1 are the stem's, 2 the first block's. A feature of level l
has the image's side divided by 2^l, rounded up, so that every network accepts images of any size.

Source: Du, Lin, Jin, Ghiasi, Tan, Cui, Le and Song (2020), SpineNet and Mobile SpineNet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from timm.layers import SqueezeExcite
from timm.models._efficientnet_blocks import InvertedResidual
from timm.models.resnet import BasicBlock, Bottleneck, downsample_conv
from torch import Tensor, nn

from nasproxy.errors import SpaceError
from nasproxy.models.scaling import scale_channels, scale_repeats
from nasproxy.models.small_cnn import ACTIVATIONS, ConvNormAct
from nasproxy.models.spine_graph import MIDDLE_LEVEL, STEM_FEATURES, Block, read_graph
from nasproxy.trials.spec import Choice

EXPANSION: Mapping[str, int] = {"residual": 1, "bottleneck": Bottleneck.expansion, "mbconv": 1}
"""Channels of a block's feature, as a multiple of the filters of its level."""
MBCONV_EXPANSION = 6
SQUEEZE = 0.2
"""Squeeze-and-excitation channels of an mbconv block, as a share of its input channels."""


@dataclass(frozen=True)
class Family:
    """Properties of a published family of networks.

    Attributes:
        stem_filters: Filters of the first convolution.
        level_filters: Filters by level, from level 1.
        stem_levels: Levels of the two stem features.
        is_mobile: Whether stem and resampling use depthwise convolutions.
    """

    stem_filters: int
    level_filters: tuple[int, ...]
    stem_levels: tuple[int, int]
    is_mobile: bool


FAMILIES: Mapping[str, Family] = {
    "spinenet": Family(64, (32, 64, 128, 256, 256, 256, 256), (2, 2), is_mobile=False),
    "mobile": Family(8, (16, 24, 40, 80, 112, 112, 112), (1, 2), is_mobile=True),
}


@dataclass(frozen=True)
class Shape:
    """Size of a network, independent of its graph; repeats and filters are already scaled.

    Attributes:
        family: Family that gives the filters of each level.
        filter_scale: Multiplier of these filters.
        repeats: Consecutive layers of each block of the graph.
        endpoint_filters: Channels that every output is projected to.
        resample_alpha: Filters of a resampling, as a share of its input filters.
        activation: Name of the activation function.
        head_convs: Convolutions between the averaged outputs and the average pool.
        head_filters: Channels of these convolutions.
        image_size: Side that images are resized to, as a share of their own.
    """

    family: Family
    filter_scale: float
    repeats: int
    endpoint_filters: int
    resample_alpha: float
    activation: str
    head_convs: int
    head_filters: int
    image_size: float

    def filters(self, level: int) -> int:
        """Return the filters of a block at a level."""
        return scale_channels(self.family.level_filters[level - 1], self.filter_scale)

    def channels(self, block: Block) -> int:
        """Return the channels of a block's feature."""
        return self.filters(block.level) * EXPANSION[block.function]


def make_conv_norm(inputs: int, outputs: int) -> nn.Sequential:
    """Build a pointwise convolution with batch normalization and no activation."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))


def make_block(function: str, inputs: int, filters: int, shape: Shape, *, stride: int = 1) -> nn.Sequential:
    """Build the layers of one block of the graph; the first changes stride and channels."""
    outputs = filters * EXPANSION[function]
    build_layer = partial(_build_layer, function, filters=filters, activation=shape.activation)
    return nn.Sequential(
        build_layer(inputs, stride=stride),
        *(build_layer(outputs, stride=1) for _ in range(shape.repeats - 1)),
    )


def _build_layer(function: str, inputs: int, *, filters: int, activation: str, stride: int) -> nn.Module:
    act = ACTIVATIONS[activation]
    outputs = filters * EXPANSION[function]
    if function == "mbconv":
        squeeze = partial(SqueezeExcite, rd_ratio=SQUEEZE / MBCONV_EXPANSION)
        block: nn.Module = InvertedResidual(
            inputs, outputs, stride=stride, exp_ratio=MBCONV_EXPANSION, act_layer=act, se_layer=squeeze
        )
        return block
    skip = None if inputs == outputs and stride == 1 else downsample_conv(inputs, outputs, 1, stride)
    kind = Bottleneck if function == "bottleneck" else BasicBlock
    layer: nn.Module = kind(inputs, filters, stride=stride, downsample=skip, act_layer=act)
    return layer


class Stem(nn.Module):
    """Maps images to the two stem features."""

    def __init__(self, channels: int, shape: Shape) -> None:
        super().__init__()
        family, activation = shape.family, shape.activation
        filters = scale_channels(family.stem_filters, shape.filter_scale)
        function, kernel = ("mbconv", 3) if family.is_mobile else ("bottleneck", 7)
        self.entry = nn.Sequential(ConvNormAct(channels, filters, kernel=kernel, activation=activation, stride=2))
        level = 1
        if not family.is_mobile:
            self.entry.append(nn.MaxPool2d(3, stride=2, padding=1))
            level = 2
        self.blocks = nn.ModuleList()
        for target in family.stem_levels:
            stride = 2 ** (target - level)
            self.blocks.append(make_block(function, filters, shape.filters(target), shape, stride=stride))
            filters, level = shape.filters(target) * EXPANSION[function], target
        self.channels = [shape.filters(level) * EXPANSION[function] for level in family.stem_levels]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images (n, channels, height, width) to the two stem features."""
        x = self.entry(images)
        features = []
        for block in self.blocks:
            x = block(x)
            features.append(x)
        return features


class Resample(nn.Module):
    """Resamples a feature to another level's side and to a block's channels."""

    def __init__(self, inputs: int, outputs: int, *, filters: int, down: int, shape: Shape) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if shape.family.is_mobile:
            layers += [_halve(inputs, shape.activation, groups=inputs) for _ in range(down)]
        else:
            reduced = scale_channels(filters, shape.resample_alpha)
            layers.append(ConvNormAct(inputs, reduced, kernel=1, activation=shape.activation))
            inputs = reduced
            if down > 0:
                layers.append(_halve(inputs, shape.activation))
            if down > 1:
                layers.append(nn.MaxPool2d(2 ** (down - 1), ceil_mode=True))
        self.layers = nn.Sequential(*layers, *make_conv_norm(inputs, outputs))

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Resample a feature to `size`; channels change before upsampling, which is cheaper and equivalent."""
        return _enlarge(self.layers(x), size)


def _halve(channels: int, activation: str, *, groups: int = 1) -> ConvNormAct:
    return ConvNormAct(channels, channels, kernel=3, activation=activation, stride=2, groups=groups)


def _enlarge(x: Tensor, size: tuple[int, int]) -> Tensor:
    if x.shape[2:] == size:
        return x
    return nn.functional.interpolate(x, size, mode="nearest")


class SpineBlock(nn.Module):
    """One block of the graph: the sum of its two resampled inputs, the activation, the block's layers."""

    def __init__(self, block: Block, sources: Sequence[Block], channels: Sequence[int], shape: Shape) -> None:
        super().__init__()
        self.inputs = block.inputs
        self.extra = block.extra
        self.level = block.level
        outputs = shape.channels(block)
        self.resamples = nn.ModuleList(
            Resample(
                inputs,
                outputs,
                filters=inputs // EXPANSION[source.function],
                down=max(0, block.level - source.level),
                shape=shape,
            )
            for source, inputs in zip(sources, channels, strict=True)
        )
        self.activation = ACTIVATIONS[shape.activation]()
        self.layers = make_block(block.function, outputs, shape.filters(block.level), shape)

    def forward(self, features: Mapping[int, Tensor], size: tuple[int, int]) -> Tensor:
        """Compute the block's feature, with height and width `size`, from the earlier features."""
        x = sum(resample(features[i], size) for i, resample in zip(self.inputs, self.resamples, strict=True))
        for feature in self.extra:
            x = x + features[feature]
        output: Tensor = self.layers(self.activation(x))
        return output


class Outputs(nn.Module):
    """Projects the outputs of all levels, resamples them to the middle level and averages them.

    Finer outputs are average-pooled: nearest-neighbour sampling would discard most pixels of a small image.
    """

    def __init__(self, channels: Mapping[int, int], shape: Shape) -> None:
        super().__init__()
        activation = shape.activation
        self.projections = nn.ModuleDict(
            {
                str(level): ConvNormAct(inputs, shape.endpoint_filters, kernel=1, activation=activation)
                for level, inputs in sorted(channels.items())
            }
        )
        self.shrink = nn.ModuleDict(
            {
                str(level): nn.AvgPool2d(2 ** (MIDDLE_LEVEL - level), ceil_mode=True, count_include_pad=False)
                for level in channels
                if level < MIDDLE_LEVEL
            }
        )

    def forward(self, outputs: Mapping[int, Tensor], size: tuple[int, int]) -> Tensor:
        """Combine the outputs by level into one feature with height and width `size`."""
        maps = []
        for level, project in self.projections.items():
            x = project(outputs[int(level)])
            maps.append(_enlarge(self.shrink[level](x) if level in self.shrink else x, size))
        return torch.stack(maps).mean(dim=0)


class SpineNet(nn.Module):
    """The network of a graph; blocks that no output depends on are not built.

    Attributes:
        num_classes: Number of classes.
        num_features: Channels before the classifier.
    """

    def __init__(self, graph: Sequence[Block], shape: Shape, *, channels: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.image_size = shape.image_size
        self.stem = Stem(channels, shape)
        stem_function = "mbconv" if shape.family.is_mobile else "bottleneck"
        sources = dict(enumerate(Block(level, stem_function, (0, 0)) for level in shape.family.stem_levels))
        widths = dict(enumerate(self.stem.channels))
        self.blocks = nn.ModuleDict()
        self.levels: dict[str, int] = {}
        for number, block in enumerate(graph, start=STEM_FEATURES):
            sources[number], widths[number] = block, shape.channels(block)
            if block.is_needed:
                inputs = [sources[i] for i in block.inputs]
                self.levels[str(number)] = block.level
                self.blocks[str(number)] = SpineBlock(block, inputs, [widths[i] for i in block.inputs], shape)
        self.output_features = {b.level: n for n, b in enumerate(graph, start=STEM_FEATURES) if b.is_output}
        self.outputs = Outputs({level: widths[n] for level, n in self.output_features.items()}, shape)
        self.head = nn.Sequential()
        inputs_of_head = shape.endpoint_filters
        for _ in range(shape.head_convs):
            self.head.append(ConvNormAct(inputs_of_head, shape.head_filters, kernel=3, activation=shape.activation))
            inputs_of_head = shape.head_filters
        self.num_features = inputs_of_head
        self.classifier = nn.Linear(self.num_features, num_classes)

    def get_classifier(self) -> nn.Module:
        """Return the last layer, as timm's models do."""
        return self.classifier

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images (n, channels, height, width) to features (n, num_features, height / 32, width / 32)."""
        if self.image_size != 1.0:
            sides = [max(1, round(side * self.image_size)) for side in x.shape[2:]]
            x = nn.functional.interpolate(x, sides, mode="bilinear", antialias=True)
        height, width = x.shape[2:]

        def size(level: int) -> tuple[int, int]:
            return -(-height // 2**level), -(-width // 2**level)

        features = dict(enumerate(self.stem(x)))
        for number, block in self.blocks.items():
            features[int(number)] = block(features, size(self.levels[number]))
        outputs = {level: features[number] for level, number in self.output_features.items()}
        averaged: Tensor = self.head(self.outputs(outputs, size(MIDDLE_LEVEL)))
        return averaged

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map features to logits (n, num_classes), or to pooled features (n, num_features) if `pre_logits`."""
        pooled = x.mean(dim=(2, 3))
        if pre_logits:
            return pooled
        logits: Tensor = self.classifier(pooled)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, channels, height, width) to logits (n, num_classes)."""
        return self.forward_head(self.forward_features(x))


def build(
    architecture: Mapping[str, Choice],
    *,
    width: float,
    depth: float,
    num_classes: int,
    channels: int,
    image_size_px: int,
    family: Literal["spinenet", "mobile"] = "spinenet",
    activation: Literal["relu", "silu"] = "silu",
    filter_scale: float = 1.0,
    resample_alpha: float = 0.5,
    block_repeats: int = 1,
    endpoint_filters: int = 256,
    head_convs: int = 0,
    head_filters: int = 256,
    image_size: float = 1.0,
) -> nn.Module:
    """Build the network of an architecture, with weights initialized from torch's default generator.

    Args:
        architecture: `levels.I`, and `blocks.I.` with `level_offset`, `block_fn`, `inputs.0` and `inputs.1`, for each
            block; `output_levels.I`, and `outputs.I.` with `block_fn` and `inputs`, for each of the five outputs.
        width: Multiplier of all filters.
        depth: Multiplier of the repeats.
        num_classes: Number of classes.
        channels: Channels of an image.
        image_size_px: Side of an image; unused, the network accepts any size.
        family: `spinenet`, or `mobile`: the narrow filters, stem and resampling of Mobile SpineNet.
        activation: `relu` or `silu`.
        filter_scale: Multiplier of the filters of stem and blocks.
        resample_alpha: Filters of a resampling, as a share of its input filters; unused by `mobile`.
        block_repeats: Consecutive layers of each block of the graph.
        endpoint_filters: Channels that every output is projected to.
        head_convs: Convolutions between the averaged outputs and the average pool.
        head_filters: Channels of these convolutions.
        image_size: Side that the network resizes images to, as a share of their own.

    Raises:
        SpaceError: A choice is missing or unknown, or its value is invalid for a block.
        ConfigError: A multiplier or a number of filters is not positive.
    """
    del image_size_px
    graph = read_graph(architecture, tuple(EXPANSION))
    if family not in FAMILIES or activation not in ACTIVATIONS:
        raise SpaceError(
            f"search_space.model must have family {' or '.join(FAMILIES)} and activation {' or '.join(ACTIVATIONS)}, "
            f"got {family!r} and {activation!r}: choose one of each"
        )
    shape = Shape(
        family=FAMILIES[family],
        filter_scale=width * filter_scale,
        repeats=scale_repeats(block_repeats, depth),
        endpoint_filters=scale_channels(endpoint_filters, width),
        resample_alpha=resample_alpha,
        activation=activation,
        head_convs=head_convs,
        head_filters=scale_channels(head_filters, width),
        image_size=image_size,
    )
    return SpineNet(graph, shape, channels=channels, num_classes=num_classes)
