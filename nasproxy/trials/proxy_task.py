"""Proxy tasks: settings of the fidelity dimensions, with overrides, and their names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from nasproxy.errors import ConfigError
from nasproxy.trials.overrides import Override

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


SHORT_NAMES = {
    "data_fraction": "data",
    "width": "width",
    "depth": "depth",
    "image_size": "image",
    "augmentation": "augment",
    "regularisation": "regular",
    "batch_size": "batch",
}


ResizeMode = Literal["resize", "crop"]
CROP: ResizeMode = "crop"


COMPOUND_BASES = {"width": 1.1, "depth": 1.2, "image_size": 1.15}
"""EfficientNet's beta, alpha and gamma: a dimension's multiplier is its base to the power of phi."""


FRACTIONS = ("data_fraction", "image_size")
MULTIPLIERS = ("width", "depth", "batch_size")
SMALLEST = 0.0001
"""Smallest fraction or multiplier of a dimension: anything below leaves no images and no channels."""


@dataclass(frozen=True)
class ProxyTask:
    """One training setting; the defaults reduce nothing.

    Attributes:
        data_fraction: Share of the training images, in (0, 1].
        width: Multiplier of the channels, in (0, 10].
        depth: Multiplier of the repeats of a block, in (0, 10].
        image_size: Multiplier of the image's side, in (0, 1].
        image_mode: How images are made smaller: `resize`, or `crop` to the centre.
        augmentation: Strength of augmentation relative to the trainer's own, at least 0.
        regularisation: Strength of weight decay and dropout relative to the trainer's own, at least 0.
        batch_size: Multiplier of the trainer's batch size, above 0; the learning rate is scaled with it.
        devices: Devices that one training uses; None for `training.devices`.
        overrides: Values of the configuration by dotted path, such as `trainer.batch_size`.
    """

    data_fraction: float = 1.0
    width: float = 1.0
    depth: float = 1.0
    image_size: float = 1.0
    image_mode: ResizeMode = "resize"
    augmentation: float = 1.0
    regularisation: float = 1.0
    batch_size: float = 1.0
    devices: int | None = None
    overrides: Mapping[str, Override] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in SHORT_NAMES:
            _check_number(name, getattr(self, name))
        if self.devices is not None and (isinstance(self.devices, bool) or not isinstance(self.devices, int)):
            raise ConfigError(f"proxy.devices must be a whole number, got {self.devices!r}: give one such as 2")
        if self.devices is not None and self.devices < 1:
            raise ConfigError(f"proxy.devices must be at least 1, got {self.devices}: use null for training.devices")
        if self.image_mode not in get_args(ResizeMode):
            raise ConfigError(f"proxy.image_mode must be one of {get_args(ResizeMode)}, got {self.image_mode!r}")

    def batch(self, size: int, multiple: int = 1) -> int:
        """Compute the images of one optimizer step under this task.

        Args:
            size: Batch size of the trainer.
            multiple: A changed batch size is rounded to a multiple of this; an unchanged one is not.

        >>> half = ProxyTask(batch_size=0.5)
        >>> half.batch(12), half.batch(12, multiple=4), ProxyTask().batch(6, multiple=4)
        (6, 8, 6)
        """
        return size if self.batch_size == 1.0 else multiple * max(1, round(size * self.batch_size / multiple))

    @property
    def plain(self) -> "ProxyTask":
        """The same setting in normal form: `image_mode` is the default if images keep their size."""
        return replace(self, image_mode="resize") if self.image_size == 1.0 else self

    @property
    def is_cropped(self) -> bool:
        """Whether images are smaller because only their centre is kept."""
        return self.image_size != 1.0 and self.image_mode == CROP

    @property
    def default_name(self) -> str:
        """Name made of the changed dimensions, such as `data50_image75_crop`; `full` if nothing is reduced."""
        return self.name_with_compound()

    def name_with_compound(self, phi: float = 0.0) -> str:
        """Make the default name, with `compound-2` for the dimensions set by compound scaling with phi = -2.

        Args:
            phi: Compound coefficient; 0 if the task uses no compound scaling.
        """
        parts = [
            f"{short}{_format_percent(getattr(self, name))}"
            + (f"_{CROP}" if name == "image_size" and self.is_cropped else "")
            for name, short in SHORT_NAMES.items()
            if getattr(self, name) != 1.0 and not (phi and name in COMPOUND_BASES)
        ]
        if phi:
            compound = f"compound{phi:g}" + (f"_{CROP}" if self.is_cropped else "")
            parts.insert(0 if self.data_fraction == 1.0 else 1, compound)
        parts += [] if self.devices is None else [f"devices{self.devices}"]
        parts += [f"{path.rsplit('.', 1)[-1]}-{value}" for path, value in sorted(self.overrides.items())]
        return re.sub(r"[^A-Za-z0-9._-]", "-", "_".join(parts))[:64] or "full"


DIMENSIONS = tuple(f.name for f in fields(ProxyTask) if f.name != "overrides")


def _format_percent(fraction: float) -> str:
    return f"{fraction * 100:g}"


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"proxy.{name} must be a number, got {value!r}: give one such as 0.5, or a list of them")
    advice = f"give a fraction, {value / 100:g}, not a percentage" if value > 1 else "give a fraction such as 0.5"
    if name in FRACTIONS and not 0 < value <= 1:
        raise ConfigError(f"proxy.{name} must lie in (0, 1], got {value:g}: {advice}")
    if name in MULTIPLIERS and not 0 < value <= 10:
        raise ConfigError(f"proxy.{name} must be a multiplier in (0, 10], got {value:g}: {advice}")
    if name in (*FRACTIONS, *MULTIPLIERS) and value < SMALLEST:
        raise ConfigError(f"proxy.{name} must be at least {SMALLEST:g}, got {value:g}: {advice}")
    if name in ("augmentation", "regularisation") and not 0 <= value <= 10:
        raise ConfigError(f"proxy.{name} must be a strength in [0, 10], got {value:g}: {advice}")
