"""The mathematics of a training step, shared by the trainers: each function is of its arguments alone."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from nasproxy.data.dataset import ImageSplit
from nasproxy.data.stream import BatchStream, step_seed
from nasproxy.errors import ConfigError
from nasproxy.proxy import ProxyTask

Optimizer = Literal["sgd", "adamw"]
Schedule = Literal["cosine", "constant"]
Batch = tuple[Tensor, Tensor]

VALIDATION_BATCH = 256
DEVICE_SHARE = 0.25
"""Share of a GPU's free memory that images may take; other trials may train beside this one."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to train an image classifier.

    Attributes:
        batch_size: Images of one optimizer step.
        learning_rate: At its highest.
        weight_decay: Of weights; norms and biases are left alone.
        momentum: Of SGD, with Nesterov's look ahead; AdamW takes it for its first beta.
        optimizer: `sgd` or `adamw`.
        schedule: `cosine` down to 0 at the end, or `constant`.
        warmup_steps: Steps over which the learning rate rises from near 0.
        label_smoothing: Share of the target that is spread over all classes, in [0, 1).
        shift_px: Largest random shift of a training image at its full size, in pixels.
        clip_norm: Largest norm of the gradient; None leaves it as it is.

    Raises:
        ConfigError: A value is out of range.
    """

    batch_size: int
    learning_rate: float
    weight_decay: float
    momentum: float
    optimizer: Optimizer
    schedule: Schedule
    warmup_steps: int = 0
    label_smoothing: float = 0.0
    shift_px: int = 0
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        _check("batch_size", self.batch_size, "at least 1", self.batch_size >= 1)
        _check("learning_rate", self.learning_rate, "above 0", self.learning_rate > 0)
        _check("weight_decay", self.weight_decay, "at least 0", self.weight_decay >= 0)
        _check("momentum", self.momentum, "in [0, 1)", 0 <= self.momentum < 1)
        _check("optimizer", self.optimizer, "sgd or adamw", self.optimizer in ("sgd", "adamw"))
        _check("schedule", self.schedule, "cosine or constant", self.schedule in ("cosine", "constant"))
        _check("warmup_steps", self.warmup_steps, "at least 0", self.warmup_steps >= 0)
        _check("label_smoothing", self.label_smoothing, "in [0, 1)", 0 <= self.label_smoothing < 1)
        _check("shift_px", self.shift_px, "at least 0", self.shift_px >= 0)
        _check("clip_norm", self.clip_norm, "above 0 or null", self.clip_norm is None or self.clip_norm > 0)

    def under(self, task: ProxyTask) -> "Settings":
        """The settings at a proxy task's strengths of regularisation and augmentation, image size and batch."""
        scale = task.image_size if task.image_mode == "resize" else 1.0
        return replace(
            self,
            batch_size=max(1, round(self.batch_size * task.batch_size)),
            learning_rate=self.learning_rate * task.batch_size,
            weight_decay=self.weight_decay * task.regularisation,
            shift_px=round(self.shift_px * task.augmentation * scale),
        )


class Images:
    """A trial's images on its device, and its batches by step."""

    def __init__(self, split: ImageSplit, settings: Settings, *, seed: int, device: torch.device) -> None:
        self._device = device
        self._seed = seed
        self._shift_px = settings.shift_px
        self._stream = BatchStream(len(split.train_labels), settings.batch_size, seed)
        home = device if _fits(split, device) else torch.device("cpu")
        self._train = tuple(torch.from_numpy(part).to(home) for part in (split.train_images, split.train_labels))
        self._valid = tuple(torch.from_numpy(part).to(home) for part in (split.valid_images, split.valid_labels))

    def batch(self, step: int) -> Batch:
        """Images and labels of the step that follows `step` finished ones, augmented.

        The device's random numbers begin anew from (seed, step), so that dropout too depends on nothing else.
        """
        seed_generator(step_seed(self._seed, step), self._device)
        images, labels = _select(self._train, torch.from_numpy(self._stream.indices(step)), self._device)
        return (shifted(images, self._shift_px) if self._shift_px else images), labels

    def validation(self) -> Iterator[Batch]:
        """All validation images and labels, in batches of one order."""
        for images, labels in zip(*(torch.split(part, VALIDATION_BATCH) for part in self._valid), strict=True):
            yield images.to(self._device), labels.to(self._device)

    @property
    def validation_batches(self) -> int:
        """How many batches `validation` gives."""
        return math.ceil(len(self._valid[1]) / VALIDATION_BATCH)


def seed_generator(seed: int, device: torch.device) -> None:
    """Begin the device's random numbers anew; `torch.manual_seed` does it for all devices in 0.12 ms a call."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def shifted(images: Tensor, shift_px: int) -> Tensor:
    """Shift each image by up to `shift_px` pixels along both axes, at random, edges filled with 0.

    Args:
        images: Shape (n, channels, height, width).
        shift_px: Largest shift.

    Returns:
        Same shape.
    """
    count, _, height, width = images.shape
    padded = nn.functional.pad(images, (shift_px,) * 4)
    corner = torch.randint(0, 2 * shift_px + 1, (2, count, 1), device=images.device)
    rows = corner[0] + torch.arange(height, device=images.device)
    columns = corner[1] + torch.arange(width, device=images.device)
    image = torch.arange(count, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def make_optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """An optimizer that decays weights, and leaves norms and biases alone."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(settings.momentum, 0.999))
    nesterov = settings.momentum > 0
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum, nesterov=nesterov)


def learning_rate(settings: Settings, step: int, total_steps: int) -> float:
    """The learning rate of the step that follows `step` finished ones."""
    warmup = min(1.0, (step + 1) / (settings.warmup_steps + 1))
    if settings.schedule == "constant":
        return settings.learning_rate * warmup
    progress = max(0, step - settings.warmup_steps) / max(1, total_steps - settings.warmup_steps)
    return settings.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set all of an optimizer's learning rates."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def scale_dropout(model: nn.Module, strength: float) -> None:
    """Multiply every dropout of a model, by weight or by path, by the proxy task's regularisation."""
    if strength == 1.0:
        return
    for module in model.modules():
        for name in ("p", "drop_prob"):
            rate = getattr(module, name, None)
            if "Drop" in type(module).__name__ and isinstance(rate, float):
                setattr(module, name, min(rate * strength, 0.95))


def add_gradients(
    model: nn.Module,
    batch: Batch,
    settings: Settings,
    *,
    micro_batch: int | None,
    backward: Callable[[Tensor], object],
) -> Tensor:
    """Add the gradients of a batch's mean loss to the model's parameters, then clip them.

    Args:
        model: What is trained.
        batch: Images and labels of one optimizer step.
        settings: How.
        micro_batch: Images that pass through the model at once; None for all.
        backward: Propagates a loss back.

    Returns:
        The mean loss, detached.
    """
    size = len(batch[1])
    total: Tensor | None = None
    for images, labels in zip(*(torch.split(part, micro_batch or size) for part in batch), strict=True):
        loss = nn.functional.cross_entropy(model(images), labels, label_smoothing=settings.label_smoothing)
        if len(labels) < size:
            loss = loss * (len(labels) / size)
        backward(loss)
        total = loss.detach() if total is None else total + loss.detach()
    if settings.clip_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
    assert total is not None
    return total


def hits(model: nn.Module, batch: Batch) -> Tensor:
    """How many images of a batch the model puts into their class; NaN where it gives what is not finite."""
    images, labels = batch
    scores = model(images)
    correct = (scores.argmax(1) == labels).sum().float()
    return torch.where(torch.isfinite(scores).all(), correct, torch.nan)


def repeat_exactly(device: torch.device) -> None:
    """Have the device give equal results for equal work, which its fastest convolutions do not."""
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False


def _select(parts: tuple[Tensor, ...], indices: Tensor, device: torch.device) -> Batch:
    home = parts[0].device
    indices = indices.to(home, non_blocking=True)
    images, labels = (part.index_select(0, indices).to(device, non_blocking=True) for part in parts)
    return images, labels


def _fits(split: ImageSplit, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return bool(split.train_images.nbytes + split.valid_images.nbytes <= DEVICE_SHARE * free)


def _check(name: str, value: object, needed: str, is_right: bool) -> None:
    if not is_right:
        raise ConfigError(f"trainer.{name} must be {needed}, got {value}")
