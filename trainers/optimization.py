"""Building blocks of a training step that the trainers share: optimizer, schedule, gradients, accuracy."""

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
from torch.nn import functional

from nasproxy.errors import ConfigError
from nasproxy.trainers.batch_augmentation import Batch
from nasproxy.trainers.images import Images, open_images
from nasproxy.trainers.settings import ClassifierSettings
from nasproxy.trainers.weight_averaging import WeightAverage
from nasproxy.trials.retry import count_micro_batches

__all__ = ["Batch", "ClassifierSettings", "Images", "WeightAverage", "open_images"]


def prepare_model(
    model: nn.Module, settings: ClassifierSettings, *, regularisation: float, device: torch.device
) -> nn.Module:
    """Move a model to its device and apply dropout scaling, batch-norm synchronization and memory format.

    The names of the parameters do not change.
    """
    scale_dropout(model, regularisation)
    if settings.sync_batch_norm and device.type == "cuda":
        model = timm.layers.convert_sync_batchnorm(model)
    memory_format = torch.channels_last if settings.channels_last else torch.preserve_format
    prepared: nn.Module = model.to(device, memory_format=memory_format)  # type: ignore[call-overload]
    return prepared


def make_optimizer(model: nn.Module, settings: ClassifierSettings) -> torch.optim.Optimizer:
    """Create the optimizer, with weight decay for weights but not for normalization parameters and biases.

    Raises:
        ConfigError: The optimizer does not accept one of `optimizer_options`.
    """
    info = timm.optim.get_optimizer_info(settings.optimizer)
    options: dict[str, Any] = dict(settings.optimizer_options)
    if info.has_betas and info.num_betas == 2:
        options.setdefault("betas", (settings.momentum, 0.999))
    if settings.momentum == 0 and (info.defaults or {}).get("nesterov"):
        options.setdefault("nesterov", False)  # Nesterov requires momentum
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
    """Create the learning-rate schedule; `step_update(n)` sets the rate of the step after `n` finished steps.

    Cosine decay starts at the end of the warm-up; the drops of `step` are placed as fractions of the whole training,
    including the warm-up.
    """
    warmup = round(settings.warmup_fraction * total_steps)
    common: dict[str, Any] = {
        "warmup_t": warmup,
        "warmup_lr_init": settings.learning_rate / (warmup + 1),  # above 0, so that the first step has an effect
        "t_in_epochs": False,
    }
    if settings.schedule == "cosine":
        lowest = settings.final_rate_fraction * settings.learning_rate
        return CosineLRScheduler(optimizer, max(1, total_steps - warmup), lr_min=lowest, warmup_prefix=True, **common)
    rate = settings.decay_rate if settings.schedule == "step" else 1.0
    every = settings.decay_every_fraction * total_steps
    return StepLRScheduler(optimizer, every, decay_rate=rate, warmup_prefix=False, **common)


def scale_dropout(model: nn.Module, strength: float) -> None:
    """Multiply all dropout and stochastic-depth rates of a model by a strength, to at most 0.95.

    timm models store some rates as an attribute `drop_rate` of the model.
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
    """Return the autocast context of a precision."""
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
    no_sync: Callable[[], AbstractContextManager[Any]] = nullcontext,
    scale: Callable[[], float] | None = None,
) -> Tensor:
    """Accumulate the gradients of a batch's mean loss in the model's parameters, then clip them.

    Args:
        model: Model to train.
        batch: This rank's images and labels of one optimizer step.
        settings: Settings of the trainer.
        micro_batch: Images per forward pass; None for all. Micro-batches differ in size by at most 1.
        backward: Function that backpropagates a loss.
        world_size: Number of ranks whose gradients are averaged; each part is weighted by its number of images.
        no_sync: Context that skips gradient averaging, used for all micro-batches but the last.
        scale: Returns the factor by which `backward` scales the gradients; None for 1.

    Returns:
        The mean loss, detached: this rank's share of it, times `world_size`.
    """
    parts = list(
        zip(*(torch.tensor_split(part, count_micro_batches(len(batch[1]), micro_batch)) for part in batch), strict=True)
    )
    total: Tensor | None = None
    for number, (images, labels) in enumerate(parts, start=1):
        with nullcontext() if number == len(parts) else no_sync():
            loss = nn.functional.cross_entropy(model(images), labels, label_smoothing=settings.label_smoothing)
            if (weight := len(labels) * world_size / settings.batch_size) != 1.0:
                loss = loss * weight
            backward(loss)
        total = loss.detach() if total is None else total + loss.detach()
    if settings.clip_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm * (1.0 if scale is None else scale()))
    assert total is not None
    return total


def measure_batch(model: nn.Module, batch: Batch) -> Tensor:
    """Measure a validation batch: correctly classified images, sum of the cross-entropy in nats, images.

    Returns:
        Shape (3,), to be summed over batches and ranks; NaN but for the images if a logit is not finite.
    """
    images, labels = batch
    logits = model(images).float()
    correct = (logits.argmax(1) == labels).sum()
    loss = functional.cross_entropy(logits, labels, reduction="sum")
    measured = torch.stack([correct.float(), loss, torch.full_like(loss, len(labels))])
    nothing = torch.tensor([torch.nan, torch.nan, len(labels)], device=measured.device)
    return torch.where(torch.isfinite(logits).all(), measured, nothing)


def read_totals(totals: Tensor) -> dict[str, float]:
    """Compute the metrics of a validation from the sum of `measure_batch`."""
    # In the precision of the totals, which is also that of metrics logged by Lightning.
    accuracy, loss = (totals[:2] / totals[2]).tolist()
    return {"accuracy": accuracy, "loss": loss}


def repeat_exactly(device: torch.device) -> None:
    """Select deterministic algorithms on the device, in place of the fastest convolutions."""
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a model's weights atomically, for `load_state_dict` of the same architecture."""
    temporary = path.with_name(f".{path.name}.tmp")
    torch.save(model.state_dict(), temporary)
    temporary.replace(path)
