"""A fixed model whose training images pass an augmentation policy: what is searched is the policy."""

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
    """A model behind a policy that acts in training mode only; in evaluation it is the model, and nothing else.

    What the model offers beside `forward`, such as timm's `get_classifier` and `num_features`, is offered too.
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
        logits: Tensor = self.model(self._augmented(x))
        return logits

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images to the model's features."""
        features: Tensor = self.model.forward_features(self._augmented(x))  # type: ignore[operator]
        return features

    def _augmented(self, images: Tensor) -> Tensor:
        policed: Tensor = self.policy(images) if self.training else images
        return policed


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
    """Build the fixed model behind an AutoAugment or RandAugment policy; weights are drawn from torch's own generator.

    Args:
        architecture: AutoAugment's policy: `sub_policies.I.ops.J.` with `probability` and, where that is above 0, `op`
            and, where it has one, `magnitude`; an image draws a sub-policy, and undergoes its operations in turn. Or
            RandAugment's: `num_ops`, how many of `ops` an image draws, and `magnitude`, that of all.
        model: Builds the model, by the interface of this function.
        fixed: Its architecture, nested or by path.
        low: Value of a black pixel.
        high: Value of a white one; operations on colours clamp to the two.
        fill: Value of a pixel that is moved or cut away.
        ops: What RandAugment draws from; None for AutoAugment.
        width: Passed on to the model, as all that follows.
        depth: Multiplier of repeats.
        num_classes: Outputs.
        channels: Channels of an image, 1 or 3.
        image_size_px: Side of an image.

    Raises:
        SpaceError: A choice is missing or unknown, or a value is out of range.
        ConfigError: The images have neither 1 nor 3 channels.
    """
    if channels not in COLOURS:
        raise ConfigError(
            f"an augmentation policy needs images of 1 or 3 channels, grey or colour, got {channels}: choose other "
            f"data, or another search space"
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
    """What an image may undergo, and how many of these it draws.

    Args:
        architecture: As `build` takes it.
        ops: What RandAugment draws from; None for AutoAugment.

    Raises:
        SpaceError: A choice is missing or unknown, or a value is out of range.
    """
    choices = Choices(architecture, "autoaugment" if ops is None else "randaugment")
    drawn_from, times = (_sub_policies(choices), 1) if ops is None else _operations(choices, ops)
    choices.finish()
    return drawn_from, times


def _operations(choices: Choices, ops: Sequence[str]) -> tuple[list[list[PolicyStep]], int]:
    """RandAugment's: each operation at the magnitude of all, and how many are drawn."""
    if not ops:
        raise SpaceError("randaugment needs some ops to draw from, got none: list them in the search space's builder")
    times = choices.whole("num_ops", least=1)
    magnitude = choices.number("magnitude", least=0, most=MAX_MAGNITUDE)
    return [[PolicyStep(op, magnitude=magnitude)] for op in ops], times


def _sub_policies(choices: Choices) -> list[list[PolicyStep]]:
    """AutoAugment's; a step of probability 0 is left out."""
    counts = [choices.count(f"sub_policies.{i}.ops") for i in range(choices.count("sub_policies"))]
    if not counts:
        raise SpaceError(
            "autoaugment needs sub_policies.I.ops.J. with probability, op and magnitude, counted from 0, got none: "
            "change the search space"
        )
    return [
        [step for j in range(count) if (step := _step(choices, f"sub_policies.{i}.ops.{j}"))]
        for i, count in enumerate(counts)
    ]


def _step(choices: Choices, name: str) -> PolicyStep | None:
    probability = choices.number(f"{name}.probability", least=0, most=1)
    if probability == 0:
        return None
    op = choices.one_of(f"{name}.op", tuple(OPERATIONS))
    if not OPERATIONS[op].has_magnitude:
        return PolicyStep(op, probability)
    return PolicyStep(op, probability, choices.number(f"{name}.magnitude", least=0, most=MAX_MAGNITUDE))
