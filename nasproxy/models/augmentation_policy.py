"""Augmentation policies: random operations on a batch of training images before the model's forward pass.

Magnitudes lie in [0, 10]: 0 changes nothing, 10 is the strongest. The strength at 10 is close to torchvision's
AutoAugment, with lengths as shares of the image's side. Random numbers come from torch's default generator of the
images' device.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import InterpolationMode, functional

from nasproxy.errors import SpaceError

MAX_MAGNITUDE = 10
MAX_DEGREES = 30.0
MAX_SHEAR = 0.3
"""Largest shift of a row (or column) relative to its neighbour, in pixels."""
MAX_SHIFT = 0.45
"""Largest translation, as a share of the image's side."""
MAX_HOLE = 0.4
"""Side of the largest cutout, as a share of the image's side."""
MAX_CHANGE = 0.9
"""Largest relative change of colour, contrast, brightness and sharpness."""
MAX_ADDITION = 110 / 255
MAX_BITS = 4
"""Most bits that posterize removes, of 8."""
COLOURS = (1, 3)

Change = Callable[[Tensor, float, float], Tensor]
"""Maps images in [0, 1], a strength in [-1, 1] and the fill value of empty pixels to images."""


@dataclass(frozen=True)
class Operation:
    """One augmentation operation.

    Attributes:
        change: Function that transforms the images.
        has_magnitude: Whether the operation uses a strength.
        is_signed: Whether the sign of the strength is drawn at random for each image.
    """

    change: Change
    has_magnitude: bool = True
    is_signed: bool = False


def _move(
    images: Tensor, fill: float, *, degrees: float = 0.0, shift: tuple[float, float] = (0, 0), shear: Sequence[float]
) -> Tensor:
    angles = [math.degrees(math.atan(part)) for part in shear]
    moved: Tensor = functional.affine(
        images,
        angle=degrees,
        translate=list(shift),
        scale=1.0,
        shear=angles,
        interpolation=InterpolationMode.BILINEAR,
        fill=[fill],
    )
    return moved


def _solarize(images: Tensor, strength: float, fill: float) -> Tensor:
    solarized: Tensor = functional.solarize(images.clamp(0, 1), threshold=1 - strength)
    return solarized


def _solarize_add(images: Tensor, strength: float, fill: float) -> Tensor:
    return torch.where(images < 0.5, images + strength * MAX_ADDITION, images).clamp(0, 1)


def _posterize(images: Tensor, strength: float, fill: float) -> Tensor:
    posterized: Tensor = functional.posterize(images.clamp(0, 1), bits=8 - round(strength * MAX_BITS))
    return posterized


def _cut_out(images: Tensor, strength: float, fill: float) -> Tensor:
    """Fill a square of each image; its centre is drawn over the whole image, so that an edge may clip the square."""
    inside = torch.ones((), dtype=torch.bool, device=images.device)
    for axis, side in ((2, images.shape[2]), (3, images.shape[3])):
        centre = torch.rand(len(images), 1, device=images.device) * side
        pixels = torch.arange(side, device=images.device) + 0.5
        near = (pixels - centre).abs() < strength * MAX_HOLE * side / 2
        inside = inside & near.view(len(images), 1, *((-1, 1) if axis == 2 else (1, -1)))
    return images.masked_fill(inside, fill)


def _blend(adjust: Callable[[Tensor, float], Tensor]) -> Change:
    """Return an operation that applies one of torchvision's adjust functions with factor 1 + strength * MAX_CHANGE."""
    return lambda images, strength, fill: adjust(images.clamp(0, 1), 1 + strength * MAX_CHANGE)


def _ignore_strength(change: Callable[[Tensor], Tensor]) -> Change:
    return lambda images, strength, fill: change(images.clamp(0, 1))


OPERATIONS: Mapping[str, Operation] = {
    "autocontrast": Operation(_ignore_strength(functional.autocontrast), has_magnitude=False),
    "brightness": Operation(_blend(functional.adjust_brightness), is_signed=True),
    "color": Operation(_blend(functional.adjust_saturation), is_signed=True),
    "contrast": Operation(_blend(functional.adjust_contrast), is_signed=True),
    "cutout": Operation(_cut_out),
    "equalize": Operation(_ignore_strength(functional.equalize), has_magnitude=False),
    "invert": Operation(_ignore_strength(functional.invert), has_magnitude=False),
    "posterize": Operation(_posterize),
    "rotate": Operation(lambda x, s, fill: _move(x, fill, degrees=s * MAX_DEGREES, shear=(0, 0)), is_signed=True),
    "sharpness": Operation(_blend(functional.adjust_sharpness), is_signed=True),
    "shear_x": Operation(lambda x, s, fill: _move(x, fill, shear=(s * MAX_SHEAR, 0)), is_signed=True),
    "shear_y": Operation(lambda x, s, fill: _move(x, fill, shear=(0, s * MAX_SHEAR)), is_signed=True),
    "solarize": Operation(_solarize),
    "solarize_add": Operation(_solarize_add),
    "translate_x": Operation(
        lambda x, s, fill: _move(x, fill, shift=(s * MAX_SHIFT * x.shape[3], 0), shear=(0, 0)), is_signed=True
    ),
    "translate_y": Operation(
        lambda x, s, fill: _move(x, fill, shift=(0, s * MAX_SHIFT * x.shape[2]), shear=(0, 0)), is_signed=True
    ),
}
"""Operations by name. `color` changes nothing in images of one channel, `equalize` in those below 256 pixels."""


@dataclass(frozen=True)
class PolicyStep:
    """One operation of a policy.

    Attributes:
        operation: One of `OPERATIONS`.
        probability: Probability that the operation is applied to an image, in [0, 1].
        magnitude: Strength in [0, 10]; ignored by operations without a strength.

    Raises:
        SpaceError: The operation is unknown, or a number is out of range.
    """

    operation: str
    probability: float = 1.0
    magnitude: float = MAX_MAGNITUDE

    def __post_init__(self) -> None:
        if self.operation not in OPERATIONS:
            raise SpaceError(
                f"op must be one of {', '.join(OPERATIONS)}, got {self.operation!r}: change the search space"
            )
        if isinstance(self.magnitude, bool) or not isinstance(self.magnitude, int | float):
            raise SpaceError(f"magnitude must be a number, got {self.magnitude!r}: change the search space")
        if not 0 <= self.magnitude <= MAX_MAGNITUDE:
            raise SpaceError(
                f"magnitude must lie in [0, {MAX_MAGNITUDE}], got {self.magnitude}: change the search space"
            )
        if not 0 <= self.probability <= 1:
            raise SpaceError(f"probability must lie in [0, 1], got {self.probability}: change the search space")


@dataclass(frozen=True)
class PixelRange:
    """The pixel values of black, white and empty pixels.

    Attributes:
        low: Value of black.
        high: Value of white.
        fill: Value of a pixel that an operation leaves empty.

    Raises:
        SpaceError: `high` is not above `low`.
    """

    low: float
    high: float
    fill: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise SpaceError(f"search_space.model.high must be above low, got {self.high} and {self.low}: swap them")

    def unit(self, values: Tensor) -> Tensor:
        """Rescale values so that black is 0 and white is 1, without clamping."""
        return (values - self.low) / (self.high - self.low)

    def own(self, values: Tensor) -> Tensor:
        """Rescale values in [0, 1] to this range; the inverse of `unit`."""
        return values * (self.high - self.low) + self.low

    @property
    def unit_fill(self) -> float:
        """The fill value on the scale where black is 0 and white is 1."""
        return (self.fill - self.low) / (self.high - self.low)


class Policy(nn.Module):
    """Applies one or more randomly drawn sub-policies to each image.

    The module has no weights and no state, and acts in training and evaluation mode alike.

    Args:
        sub_policies: Steps of each sub-policy, applied in order.
        times: Number of sub-policies that each image draws, with replacement.
        pixels: Pixel values of the images.
    """

    def __init__(self, sub_policies: Sequence[Sequence[PolicyStep]], *, times: int, pixels: PixelRange) -> None:
        super().__init__()
        self.sub_policies = tuple(tuple(steps) for steps in sub_policies)
        self.times = times
        self.pixels = pixels

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return augmented copies of images, shape (n, channels, height, width)."""
        steps = max(len(sub_policy) for sub_policy in self.sub_policies)
        # One draw for the whole batch, copied to the host once: the loops below select images there.
        chance = torch.rand(self.times, 1 + 2 * steps, len(images), device=images.device).cpu()
        images = images.clone()
        for picks, *draws in chance:
            picked = (picks * len(self.sub_policies)).long()
            for index, sub_policy in enumerate(self.sub_policies):
                for step, is_on, sign in zip(sub_policy, draws[::2], draws[1::2], strict=False):
                    self._apply_step(step, images, (picked == index) & (is_on < step.probability), sign < 0.5)
        return images

    def _apply_step(self, step: PolicyStep, images: Tensor, is_chosen: Tensor, is_reversed: Tensor) -> None:
        """Apply a step to the chosen images in place, batched by the sign of the strength."""
        operation = OPERATIONS[step.operation]
        strength = step.magnitude / MAX_MAGNITUDE if operation.has_magnitude else 1.0
        if strength == 0:
            return
        groups = [(is_chosen, strength)]
        if operation.is_signed:
            groups = [(is_chosen & ~is_reversed, strength), (is_chosen & is_reversed, -strength)]
        for members, signed in groups:
            rows = members.nonzero()[:, 0]
            if len(rows):
                rows = rows.to(images.device)
                changed = operation.change(self.pixels.unit(images[rows]), signed, self.pixels.unit_fill)
                images[rows] = self.pixels.own(changed)
