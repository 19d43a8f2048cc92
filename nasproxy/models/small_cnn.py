"""Small convolutional networks for small images: a strided stem and two searched stages."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from nasproxy.models.choices import Choices
from nasproxy.models.scaling import scale_channels, scale_repeats
from nasproxy.trials.spec import Choice

DIVISOR = 4
"""Channels are rounded to multiples of this; a larger divisor would round small networks to the same width."""
STEM_CHANNELS = 16
STRIDES = {"stage1": 2, "stage2": 1}
"""Strides of the stages, after a stem of stride 2."""
STEM_KERNELS = (3, 5, 7)
DILATIONS = (1, 2)
NORM_MOMENTUM = 0.3
"""Weight of a batch in the running statistics. With torch's 0.1, checks in the first tenth of a training of 120 steps
validate networks whose statistics still depend on their initial values."""
ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}


def average_positions(features: Tensor) -> Tensor:
    """Average features (n, channels, height, width) over all positions."""
    return features.mean(dim=(2, 3))


def take_strongest(features: Tensor) -> Tensor:
    """Take the largest value of each channel of features (n, channels, height, width)."""
    return features.amax(dim=(2, 3))


POOLS: Mapping[str, Callable[[Tensor], Tensor]] = {"avg": average_positions, "max": take_strongest}


class ConvNormAct(nn.Sequential):
    """Same-padded convolution, batch normalization, activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int,
        activation: str,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        norm_momentum: float = 0.1,
    ) -> None:
        padding = dilation * (kernel // 2)
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False),
            nn.BatchNorm2d(outputs, momentum=norm_momentum),
            ACTIVATIONS[activation](),
        )


class Residual(nn.Module):
    """Adds a block's input to its output."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """Return the input plus the block's output, of the same shape."""
        output: Tensor = x + self.block(x)
        return output


@dataclass(frozen=True)
class CnnStage:
    """Configuration of one stage of 3 x 3 convolutions, with width and depth already scaled."""

    channels: int
    repeats: int
    dilation: int
    stride: int
    activation: str

    def layers(self, inputs: int) -> list[nn.Module]:
        """Build the stage's convolutions: the first changes channels and stride, the others are residual."""
        first = self._build_block(inputs, self.stride)
        return [first, *(Residual(self._build_block(self.channels, 1)) for _ in range(self.repeats - 1))]

    def _build_block(self, inputs: int, stride: int) -> nn.Module:
        return ConvNormAct(
            inputs,
            self.channels,
            kernel=3,
            activation=self.activation,
            stride=stride,
            dilation=self.dilation,
            norm_momentum=NORM_MOMENTUM,
        )


class SmallCnn(nn.Module):
    """Stem at output stride 2, two stages at 4, pool over positions, linear classifier.

    Attributes:
        num_classes: Number of classes.
        num_features: Channels before the classifier.
    """

    def __init__(
        self, stem: ConvNormAct, stages: list[CnnStage], *, inputs: int, pool: str, num_classes: int, dropout: float
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stem = stem
        layers: list[nn.Module] = []
        for stage in stages:
            layers += stage.layers(inputs)
            inputs = stage.channels
        self.stages = nn.Sequential(*layers)
        self.num_features = inputs
        self.pool = POOLS[pool]
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(inputs, num_classes)

    def get_classifier(self) -> nn.Module:
        """Return the last layer, as timm's models do."""
        return self.classifier

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images (n, channels, height, width) to features (n, num_features, height / 4, width / 4)."""
        features: Tensor = self.stages(self.stem(x))
        return features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map features to logits (n, num_classes), or to pooled features (n, num_features) if `pre_logits`."""
        pooled: Tensor = self.dropout(self.pool(x))
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
    dropout: float = 0.0,
) -> nn.Module:
    """Build the network of an architecture, with weights initialized from torch's default generator.

    Args:
        architecture: `activation`, `pool` (over positions), `stem.kernel`, and `channels`, `repeats`, `dilation` of
            `stage1` and of `stage2`.
        width: Multiplier of all channels.
        depth: Multiplier of the repeats.
        num_classes: Number of classes.
        channels: Channels of an image.
        image_size_px: Side of an image; unused, the network accepts any size.
        dropout: Dropout probability before the classifier.

    Raises:
        SpaceError: A choice is missing or unknown, or its value is invalid for a layer.
        ConfigError: A multiplier is not positive.
    """
    del image_size_px
    choices = Choices(architecture, "small_cnn")
    activation = choices.one_of("activation", tuple(ACTIVATIONS))
    pool = choices.one_of("pool", tuple(POOLS))
    kernel = choices.one_of("stem.kernel", STEM_KERNELS)
    stages = [_read_stage(choices, name, stride, activation, width, depth) for name, stride in STRIDES.items()]
    choices.finish()
    inputs = scale_channels(STEM_CHANNELS, width, DIVISOR)
    stem = ConvNormAct(channels, inputs, kernel=kernel, activation=activation, stride=2, norm_momentum=NORM_MOMENTUM)
    return SmallCnn(stem, stages, inputs=inputs, pool=pool, num_classes=num_classes, dropout=dropout)


def _read_stage(choices: Choices, name: str, stride: int, activation: str, width: float, depth: float) -> CnnStage:
    return CnnStage(
        channels=scale_channels(choices.whole(f"{name}.channels", least=1), width, DIVISOR),
        repeats=scale_repeats(choices.whole(f"{name}.repeats", least=1), depth),
        dilation=choices.one_of(f"{name}.dilation", DILATIONS),
        stride=stride,
        activation=activation,
    )
