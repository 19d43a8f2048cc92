"""Settings of the image classifiers' trainers, and their scaling by a proxy task."""

import functools
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import timm.optim
import torch

from nasproxy.errors import ConfigError
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.spec import TrialSpec

Schedule = Literal["cosine", "step", "constant"]
Smoothing = Literal["none", "ema", "swa"]
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


@functools.cache
def list_optimizers() -> tuple[str, ...]:
    """List the names of the supported timm optimizers.

    Optimizers of other packages, and those that need second derivatives, are excluded.
    """
    infos = {name: timm.optim.get_optimizer_info(name) for name in timm.optim.list_optimizers()}
    return tuple(name for name, info in infos.items() if not (isinstance(info.opt_class, str) or info.second_order))


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings:
    """Settings for training an image classifier; fractions refer to the whole training, so that schedules scale.

    Attributes:
        batch_size: Images per optimizer step, over all devices.
        optimizer: Name of a timm optimizer: `sgd` (with Nesterov momentum), `adamw`, `rmsproptf`, `lamb`, ...
        learning_rate: Peak learning rate.
        weight_decay: Weight decay, not applied to normalization parameters, biases and the model's `no_weight_decay`.
        momentum: Momentum, or the first beta of optimizers with two betas, in [0, 1).
        optimizer_options: Further arguments of the optimizer, by name.
        schedule: Learning-rate schedule: `cosine`, `step` or `constant`.
        warmup_fraction: Fraction of training for linear warm-up from near 0, in [0, 1).
        final_rate_fraction: Final learning rate of `cosine`, relative to the peak, in [0, 1].
        decay_every_fraction: Fraction of training between two drops of `step`, in (0, 1].
        decay_rate: Factor of a drop of `step`, in (0, 1].
        clip_norm: Norm to clip gradients at; None for no clipping.
        smoothing: Weights to validate and save: `none`, the current ones; `ema`, their exponential moving average;
            `swa`, the mean of all since averaging started.
        smoothing_decay: Final decay of `ema`, in (0, 1); it rises from 2/11, so that early weights are forgotten soon.
        smoothing_start_fraction: Fraction of training after which averaging starts, in [0, 1).
        label_smoothing: Label smoothing, in [0, 1).
        mixup: Alpha of mixup, at least 0; 0 for none.
        cutmix: Alpha of cutmix, at least 0; 0 for none. With mixup, each applies to half of the batches.
        flip: Whether to flip each training image horizontally with probability 1/2.
        shift_px: Largest random shift of a full-size training image, in pixels.
        erase: Probability of random erasing of a training image, in [0, 1].
        channels_last: Whether the model uses the channels-last memory format, which is faster on GPUs.
        compile: Whether to compile the model.
        sync_batch_norm: Whether batch norm computes statistics over all devices of a trial; GPUs only.

    Raises:
        ConfigError: A value is out of range.
    """

    batch_size: int
    optimizer: str
    learning_rate: float
    weight_decay: float
    momentum: float
    schedule: Schedule
    optimizer_options: Mapping[str, Any] = field(default_factory=dict)
    warmup_fraction: float = 0.0
    final_rate_fraction: float = 0.0
    decay_every_fraction: float = 0.25
    decay_rate: float = 0.1
    clip_norm: float | None = None
    smoothing: Smoothing = "none"
    smoothing_decay: float = 0.999
    smoothing_start_fraction: float = 0.0
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    flip: bool = False
    shift_px: int = 0
    erase: float = 0.0
    channels_last: bool = False
    compile: bool = False
    sync_batch_norm: bool = False

    def __post_init__(self) -> None:
        _check("batch_size", self.batch_size, "at least 1", self.batch_size >= 1)
        _check("batch_size", self.batch_size, "even with mixup or cutmix", not (self.mixes and self.batch_size % 2))
        _check(
            "optimizer", self.optimizer, f"one of {', '.join(list_optimizers())}", self.optimizer in list_optimizers()
        )
        _check("learning_rate", self.learning_rate, "above 0", self.learning_rate > 0)
        _check("weight_decay", self.weight_decay, "at least 0", self.weight_decay >= 0)
        _check("momentum", self.momentum, "in [0, 1)", 0 <= self.momentum < 1)
        _check_word("schedule", self.schedule, Schedule)
        _check("warmup_fraction", self.warmup_fraction, "in [0, 1)", 0 <= self.warmup_fraction < 1)
        _check("final_rate_fraction", self.final_rate_fraction, "in [0, 1]", 0 <= self.final_rate_fraction <= 1)
        _check("decay_every_fraction", self.decay_every_fraction, "in (0, 1]", 0 < self.decay_every_fraction <= 1)
        _check("decay_rate", self.decay_rate, "in (0, 1]", 0 < self.decay_rate <= 1)
        _check("clip_norm", self.clip_norm, "above 0 or null", self.clip_norm is None or self.clip_norm > 0)
        _check_word("smoothing", self.smoothing, Smoothing)
        _check("smoothing_decay", self.smoothing_decay, "in (0, 1)", 0 < self.smoothing_decay < 1)
        start = self.smoothing_start_fraction
        _check("smoothing_start_fraction", start, "in [0, 1)", 0 <= start < 1)
        _check("label_smoothing", self.label_smoothing, "in [0, 1)", 0 <= self.label_smoothing < 1)
        _check("mixup", self.mixup, "at least 0", self.mixup >= 0)
        _check("cutmix", self.cutmix, "at least 0", self.cutmix >= 0)
        _check("shift_px", self.shift_px, "at least 0", self.shift_px >= 0)
        _check("erase", self.erase, "in [0, 1]", 0 <= self.erase <= 1)

    @property
    def mixes(self) -> bool:
        """Whether training images and labels are mixed."""
        return self.mixup > 0 or self.cutmix > 0

    def under(self, task: ProxyTask, devices: int = 1) -> "ClassifierSettings":
        """Return the settings scaled by a proxy task's regularisation, augmentation, image size and batch size.

        With mixup or cutmix, the batch size is a multiple of twice the number of devices, since images are mixed in
        pairs on one device.
        """
        scale = task.image_size if task.image_mode == "resize" else 1.0
        mixup, cutmix = self.mixup * task.augmentation, self.cutmix * task.augmentation
        batch_size = task.batch(self.batch_size, multiple=2 * devices if mixup > 0 or cutmix > 0 else 1)
        return replace(
            self,
            batch_size=batch_size,
            learning_rate=self.learning_rate * batch_size / self.batch_size,
            weight_decay=self.weight_decay * task.regularisation,
            mixup=mixup,
            cutmix=cutmix,
            flip=self.flip and task.augmentation > 0,
            shift_px=round(self.shift_px * task.augmentation * scale),
            erase=min(1.0, self.erase * task.augmentation),
        )

    def check(self, spec: TrialSpec) -> None:
        """Check that the settings are compatible with a trial's precision and devices.

        Raises:
            ConfigError: They are not compatible.
        """
        on_gpu, precision = spec.recipe.device_type == "cuda", spec.recipe.precision
        if precision not in PRECISIONS:
            raise ConfigError(f"training.precision must be one of {', '.join(PRECISIONS)}, got {precision}")
        if precision == "16-mixed" and not on_gpu:
            raise ConfigError("training.precision=16-mixed needs a GPU, got the CPU: choose bf16-mixed or 32-true")
        if precision == "bf16-mixed" and on_gpu and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise ConfigError(
                "training.precision=bf16-mixed needs a GPU of compute capability 8.0 or higher, got an older one: "
                "choose 16-mixed or 32-true"
            )
        if self.batch_size < spec.devices:
            raise ConfigError(
                f"a batch must contain an image for every device, got batch_size {self.batch_size} on {spec.devices} "
                f"devices: increase trainer.batch_size, or decrease training.devices"
            )
        if self.sync_batch_norm and spec.devices > 1 and not on_gpu:
            raise ConfigError("trainer.sync_batch_norm needs GPUs, got CPU cores: set it to false")
        if self.sync_batch_norm and self.batch_size % spec.devices:
            raise ConfigError(
                f"trainer.sync_batch_norm needs a batch_size that is a multiple of the number of devices, got "
                f"{self.batch_size} on {spec.devices} devices: change trainer.batch_size"
            )


def _check(name: str, value: object, needed: str, is_right: bool) -> None:
    if not is_right:
        raise ConfigError(f"trainer.{name} must be {needed}, got {value}")


def _check_word(name: str, value: object, words: Any) -> None:
    _check(name, value, " or ".join(typing.get_args(words)), value in typing.get_args(words))
