"""How an image classifier is trained: the settings that the trainers share, and what they are under a proxy task."""

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
    """Names of timm's optimizers that a trial can take.

    Left out are those that other packages bring, and those that need second derivatives.
    """
    infos = {name: timm.optim.get_optimizer_info(name) for name in timm.optim.list_optimizers()}
    return tuple(name for name, info in infos.items() if not (isinstance(info.opt_class, str) or info.second_order))


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings:
    """How to train an image classifier. Fractions are of the whole training, so a shorter one is the same in small.

    Attributes:
        batch_size: Images of one optimizer step, on all devices together.
        optimizer: Name of an optimizer of timm: `sgd` (with Nesterov's look ahead), `adamw`, `rmsproptf`, `lamb`, ...
        learning_rate: At its highest.
        weight_decay: Of weights; norms, biases and what the model names in `no_weight_decay` are left alone.
        momentum: Of the gradient; the first beta where the optimizer has two.
        optimizer_options: Further arguments of the optimizer, by name.
        schedule: `cosine` down at the end, `step` down every so often, or `constant`.
        warmup_fraction: Over which the learning rate rises from near 0, in [0, 1).
        final_rate_fraction: Share of the learning rate that cosine ends at, in [0, 1].
        decay_every_fraction: Between two drops of `step`, in (0, 1].
        decay_rate: What a drop of `step` multiplies the learning rate by, in (0, 1].
        clip_norm: Largest norm of the gradient; None leaves it as it is.
        smoothing: Which weights are scored and kept: `none`, the last ones; `ema`, their moving average; `swa`, the
            mean of all since the start.
        smoothing_decay: Of `ema`, at its highest: it rises to this from 0.2, for the first weights are no good.
        smoothing_start_fraction: Of training, after which averaging starts, in [0, 1).
        label_smoothing: Share of the target that is spread over all classes, in [0, 1).
        mixup: Alpha of mixup, at least 0; 0 for none.
        cutmix: Alpha of cutmix, at least 0; 0 for none. With mixup, each takes half of the batches.
        flip: Whether to mirror each training image with probability 1/2.
        shift_px: Largest random shift of a training image at its full size, in pixels.
        erase: Probability that a random part of a training image is set to 0, in [0, 1].
        channels_last: Whether the model holds the channels of a pixel together, which GPUs are faster with.
        compile: Whether to compile the model first.
        sync_batch_norm: Whether batch norm takes its statistics over all devices of a trial; GPUs only.

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
        """Whether training images are mixed, and their labels with them."""
        return self.mixup > 0 or self.cutmix > 0

    def under(self, task: ProxyTask, devices: int = 1) -> "ClassifierSettings":
        """The settings at a proxy task's strengths of regularisation and augmentation, image size and batch.

        Images are mixed in pairs, which must not be parted by the devices.
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
        """Make sure that they go with a trial's precision and devices.

        Raises:
            ConfigError: They do not.
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
                f"a batch must give every device an image, got batch_size {self.batch_size} on {spec.devices} devices: "
                f"raise trainer.batch_size, or lower training.devices"
            )
        if self.sync_batch_norm and spec.devices > 1 and not on_gpu:
            raise ConfigError("trainer.sync_batch_norm needs GPUs, got CPU cores: set it to false")
        if self.sync_batch_norm and self.batch_size % spec.devices:
            raise ConfigError(
                f"trainer.sync_batch_norm needs equal parts of a batch on all devices, got batch_size "
                f"{self.batch_size} on {spec.devices}: give a multiple"
            )


def _check(name: str, value: object, needed: str, is_right: bool) -> None:
    if not is_right:
        raise ConfigError(f"trainer.{name} must be {needed}, got {value}")


def _check_word(name: str, value: object, words: Any) -> None:
    _check(name, value, " or ".join(typing.get_args(words)), value in typing.get_args(words))
