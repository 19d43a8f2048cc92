"""The mathematics of a training step, shared by the trainers: each function is of its arguments alone."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import timm.layers
import timm.optim
import torch
from timm.scheduler import CosineLRScheduler, StepLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import Tensor, nn

from nasproxy.errors import ConfigError
from nasproxy.trainers.batch_augmentation import Batch
from nasproxy.trainers.images import Images, open_images
from nasproxy.trainers.settings import ClassifierSettings
from nasproxy.trainers.weight_averaging import WeightAverage

__all__ = ["Batch", "ClassifierSettings", "Images", "WeightAverage", "open_images"]


def prepare_model(
    model: nn.Module, settings: ClassifierSettings, *, regularisation: float, device: torch.device
) -> nn.Module:
    """Bring a model to its device, in the form that the settings want; its weights keep their names."""
    scale_dropout(model, regularisation)
    if settings.sync_batch_norm and device.type == "cuda":
        model = timm.layers.convert_sync_batchnorm(model)
    memory_format = torch.channels_last if settings.channels_last else torch.preserve_format
    prepared: nn.Module = model.to(device, memory_format=memory_format)  # type: ignore[call-overload]
    return prepared


def make_optimizer(model: nn.Module, settings: ClassifierSettings) -> torch.optim.Optimizer:
    """An optimizer that decays weights, and leaves norms and biases alone.

    Raises:
        ConfigError: It does not take one of its options.
    """
    info = timm.optim.get_optimizer_info(settings.optimizer)
    options: dict[str, Any] = dict(settings.optimizer_options)
    if info.has_betas and info.num_betas == 2:
        options.setdefault("betas", (settings.momentum, 0.999))
    if settings.momentum == 0 and (info.defaults or {}).get("nesterov"):
        options.setdefault("nesterov", False)  # there is nothing to look ahead with
    try:
        optimizer: torch.optim.Optimizer = timm.optim.create_optimizer_v2(
            model,
            settings.optimizer,
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            momentum=settings.momentum,
            **options,
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"trainer.optimizer_options must be arguments of timm's {settings.optimizer}, got "
            f"{dict(settings.optimizer_options)}: {error}"
        ) from error
    return optimizer


def make_schedule(optimizer: torch.optim.Optimizer, settings: ClassifierSettings, total_steps: int) -> Scheduler:
    """The learning rate as a function of the step: `step_update(n)` sets that of the step after `n` finished ones.

    Cosine falls from the end of the warm-up to the last step; steps fall by the whole training's clock, of which the
    warm-up hides the first part.
    """
    warmup = round(settings.warmup_fraction * total_steps)
    common: dict[str, Any] = {
        "warmup_t": warmup,
        "warmup_lr_init": settings.learning_rate / (warmup + 1),  # the first step trains too
        "t_in_epochs": False,
    }
    if settings.schedule == "cosine":
        lowest = settings.final_rate_fraction * settings.learning_rate
        return CosineLRScheduler(optimizer, max(1, total_steps - warmup), lr_min=lowest, warmup_prefix=True, **common)
    rate = settings.decay_rate if settings.schedule == "step" else 1.0
    every = settings.decay_every_fraction * total_steps
    return StepLRScheduler(optimizer, every, decay_rate=rate, warmup_prefix=False, **common)


def scale_dropout(model: nn.Module, strength: float) -> None:
    """Multiply every dropout of a model, by weight or by path, by the proxy task's regularisation.

    timm's models hold the rate of some dropouts as a number of their own, `drop_rate`.
    """
    if strength == 1.0:
        return
    for module in model.modules():
        names = ["drop_rate", *(("p", "drop_prob") if "Drop" in type(module).__name__ else ())]
        for name in names:
            rate = getattr(module, name, None)
            if isinstance(rate, float):
                setattr(module, name, min(rate * strength, 0.95))


def make_autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """The numbers of the forward pass."""
    kinds = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    return torch.autocast(device.type, dtype=kinds[precision]) if precision in kinds else nullcontext()


def add_gradients(
    model: nn.Module,
    batch: Batch,
    settings: ClassifierSettings,
    *,
    micro_batch: int | None,
    backward: Callable[[Tensor], object],
    world_size: int = 1,
    hold_back: Callable[[], AbstractContextManager[Any]] = nullcontext,
    scale: Callable[[], float] | None = None,
) -> Tensor:
    """Add the gradients of a batch's mean loss to the model's parameters, then clip them.

    Args:
        model: What is trained.
        batch: Images and labels of one optimizer step; this rank's part of them.
        settings: How.
        micro_batch: Images that pass through the model at once; None for all. Parts are as equal as can be.
        backward: Propagates a loss back.
        world_size: Ranks whose gradients are averaged; a part weighs as many images as it has.
        hold_back: Keeps gradients from being averaged, for all micro-batches but the last.
        scale: What `backward` has scaled the gradients by; None for nothing.

    Returns:
        The mean loss, detached; this rank's share of it, times `world_size`.
    """
    parts = list(zip(*(torch.tensor_split(part, _parts(len(batch[1]), micro_batch)) for part in batch), strict=True))
    total: Tensor | None = None
    for number, (images, labels) in enumerate(parts, start=1):
        with nullcontext() if number == len(parts) else hold_back():
            loss = nn.functional.cross_entropy(model(images), labels, label_smoothing=settings.label_smoothing)
            if (weight := len(labels) * world_size / settings.batch_size) != 1.0:
                loss = loss * weight
            backward(loss)
        total = loss.detach() if total is None else total + loss.detach()
    if settings.clip_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm * (1.0 if scale is None else scale()))
    assert total is not None
    return total


def _parts(count: int, micro_batch: int | None) -> int:
    """Into how many micro-batches so many images are split; none of them is left alone, without batch statistics.

    >>> _parts(36, 7), _parts(36, None), _parts(5, 2), _parts(5, 1)
    (6, 1, 2, 5)
    """
    parts = 1 if micro_batch is None else math.ceil(count / micro_batch)
    return parts if micro_batch == 1 else min(parts, max(1, count // 2))


def count_hits(model: nn.Module, batch: Batch) -> Tensor:
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


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a model's weights, for `load_state_dict` of the same architecture; replaced as one act."""
    temporary = path.with_name(f".{path.name}.tmp")
    torch.save(model.state_dict(), temporary)
    temporary.replace(path)
