"""Search space of augmentation policies: a fixed model behind a searched policy."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from nasproxy.errors import ConfigError, SpaceError
from nasproxy.models.augmentation_policy import COLOURS, MAX_MAGNITUDE, OPERATIONS, PixelRange, Policy, PolicyStep
from nasproxy.models.choices import Choices
from nasproxy.models.fixed import spell_out
from nasproxy.trials.spec import Choice

ModelBuilder = Callable[..., nn.Module]


class Augmented(nn.Module):
    """Applies an augmentation policy to the images in training mode, then the model.

    Attributes of the model, such as timm's `get_classifier` and `num_features`, are forwarded.

    Args:
        policy: Policy that is applied in training mode.
        model: Model that receives the images.
    """

    def __init__(self, policy: Policy, model: nn.Module) -> None:
        super().__init__()
        self.policy = policy
        self.model = model

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "model":
                raise
            return getattr(self.model, name)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, channels, height, width) to the model's logits."""
        logits: Tensor = self.model(self._augment(x))
        return logits

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images (n, channels, height, width) to the model's features."""
        features: Tensor = self.model.forward_features(self._augment(x))  # type: ignore[operator]
        return features

    def _augment(self, images: Tensor) -> Tensor:
        augmented: Tensor = self.policy(images) if self.training else images
        return augmented


def build(
    architecture: Mapping[str, Choice],
    *,
    model: ModelBuilder,
    fixed: Mapping[str, Any],
    low: float,
    high: float,
    fill: float,
    ops: Sequence[str] | None = None,
    width: float,
    depth: float,
    num_classes: int,
    channels: int,
    image_size_px: int,
) -> nn.Module:
    """Build the fixed model behind an AutoAugment or RandAugment policy.

    Weights are initialized from torch's default generator.

    Args:
        architecture: AutoAugment: `sub_policies.I.ops.J.` with `probability` and, if that is above 0, `op` and, if the
            operation has one, `magnitude`; each image draws one sub-policy, whose operations are applied in order.
            RandAugment: `num_ops`, the number of `ops` that each image draws, and their common `magnitude`.
        model: Builder of the model, with the interface of this function.
        fixed: Architecture of the model, nested or by path.
        low: Value of a black pixel.
        high: Value of a white pixel; operations on colours clamp to [low, high].
        fill: Value of pixels that an operation leaves empty.
        ops: Operations that RandAugment draws from; None for AutoAugment.
        width: Width multiplier, passed to the model.
        depth: Depth multiplier, passed to the model.
        num_classes: Number of classes.
        channels: Channels of an image, 1 or 3.
        image_size_px: Side of an image.

    Raises:
        SpaceError: A choice is missing or unknown, or a value is out of range.
        ConfigError: The images have neither 1 nor 3 channels.
    """
    if channels not in COLOURS:
        raise ConfigError(
            f"an augmentation policy needs images of 1 channel (grey) or 3 (colour), got {channels} channels: choose "
            f"another dataset or search space"
        )
    steps, times = read_policy(architecture, ops)
    inner = model(
        spell_out(fixed),
        width=width,
        depth=depth,
        num_classes=num_classes,
        channels=channels,
        image_size_px=image_size_px,
    )
    return Augmented(Policy(steps, times=times, pixels=PixelRange(low, high, fill)), inner)


def read_policy(architecture: Mapping[str, Choice], ops: Sequence[str] | None) -> tuple[list[list[PolicyStep]], int]:
    """Read the sub-policies and the number of them that each image draws.

    Args:
        architecture: Choices of the policy, as in `build`.
        ops: Operations that RandAugment draws from; None for AutoAugment.

    Raises:
        SpaceError: A choice is missing or unknown, or a value is out of range.
    """
    choices = Choices(architecture, "autoaugment" if ops is None else "randaugment")
    drawn_from, times = (_read_sub_policies(choices), 1) if ops is None else _read_operations(choices, ops)
    choices.finish()
    return drawn_from, times


def _read_operations(choices: Choices, ops: Sequence[str]) -> tuple[list[list[PolicyStep]], int]:
    """Read RandAugment's sub-policies, one for each operation, and the number of draws."""
    if not ops:
        raise SpaceError("randaugment needs at least 1 op, got none: list ops in search_space.model.ops")
    times = choices.whole("num_ops", least=1)
    magnitude = choices.number("magnitude", least=0, most=MAX_MAGNITUDE)
    return [[PolicyStep(op, magnitude=magnitude)] for op in ops], times


def _read_sub_policies(choices: Choices) -> list[list[PolicyStep]]:
    """Read AutoAugment's sub-policies; steps of probability 0 are omitted."""
    counts = [choices.count(f"sub_policies.{i}.ops") for i in range(choices.count("sub_policies"))]
    if not counts:
        raise SpaceError(
            "autoaugment needs sub_policies.I.ops.J. with probability, op and magnitude, counted from 0, got none: "
            "change the search space"
        )
    return [
        [step for j in range(count) if (step := _read_step(choices, f"sub_policies.{i}.ops.{j}"))]
        for i, count in enumerate(counts)
    ]


def _read_step(choices: Choices, name: str) -> PolicyStep | None:
    probability = choices.number(f"{name}.probability", least=0, most=1)
    if probability == 0:
        return None
    op = choices.one_of(f"{name}.op", tuple(OPERATIONS))
    if not OPERATIONS[op].has_magnitude:
        return PolicyStep(op, probability)
    return PolicyStep(op, probability, choices.number(f"{name}.magnitude", least=0, most=MAX_MAGNITUDE))
