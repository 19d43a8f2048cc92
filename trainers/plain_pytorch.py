"""Trains an image classifier in a plain loop: the example for whoever brings a trainer of their own.

What makes it a trial's trainer is its calls of `nasproxy.hooks`: report a check, ask whether to stop, and keep a
checkpoint to continue from. All else is the user's.
"""

import math
import pickle
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nasproxy.clock import Stopwatch
from nasproxy.errors import ConfigError, CorruptFileError
from nasproxy.hooks import get_checkpoint_dir, get_stop_training, update_trial_training_accuracy_metric
from nasproxy.worker import TrialContext
from trainers import recipe


def train(
    trial: TrialContext,
    *,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    momentum: float,
    optimizer: recipe.Optimizer,
    schedule: recipe.Schedule,
    warmup_steps: int = 0,
    label_smoothing: float = 0.0,
    shift_px: int = 0,
    clip_norm: float | None = None,
) -> None:
    """Train one trial until its controller says stop; arguments as in `trainers.recipe.Settings`.

    Raises:
        ConfigError: An argument is out of range, or the precision is none of this loop's.
        NonFiniteScoreError: Training has diverged.
        CorruptFileError: The checkpoint cannot be read.
    """
    settings = recipe.Settings(
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        momentum=momentum,
        optimizer=optimizer,
        schedule=schedule,
        warmup_steps=warmup_steps,
        label_smoothing=label_smoothing,
        shift_px=shift_px,
        clip_norm=clip_norm,
    ).under(trial.proxy_task)
    device = torch.device(trial.device)
    recipe.repeat_exactly(device)
    data = trial.load_data()
    model = trial.build_model(data).to(device)
    recipe.scale_dropout(model, trial.proxy_task.regularisation)
    images = recipe.Images(data, settings, seed=trial.seed, device=device)
    _fit(trial, model, images, settings)


def _fit(trial: TrialContext, model: nn.Module, images: recipe.Images, settings: recipe.Settings) -> None:
    optimizer = recipe.make_optimizer(model, settings)
    path = get_checkpoint_dir(trial.model_dir) / "last.pt"
    step = _load(path, model, optimizer)
    while not get_stop_training(trial.model_dir, step - 1, trial.total_steps):
        begin, end = step, next(check for check in trial.check_steps if check > step)
        watch = Stopwatch()
        watch.start()
        loss = _train_cycle(trial, model, optimizer, images, settings, range(begin, end))
        watch.pause()
        score = _score(trial, model, images) if math.isfinite(loss) else math.nan
        update_trial_training_accuracy_metric(trial.model_dir, score, begin, end - 1, watch.lap(), trial.total_steps)
        step = end
        _save(path, model, optimizer, step)


def _train_cycle(
    trial: TrialContext,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: recipe.Images,
    settings: recipe.Settings,
    steps: range,
) -> float:
    """Train some steps; returns the sum of their losses, once the device has done its work."""
    model.train()
    losses = torch.zeros((), device=trial.device)
    for step in steps:
        batch = images.batch(step)
        recipe.set_learning_rate(optimizer, recipe.learning_rate(settings, step, trial.total_steps))
        optimizer.zero_grad()
        with _precision(trial):
            losses += recipe.add_gradients(
                model,
                batch,
                settings,
                micro_batch=trial.spec.recipe.micro_batch,
                backward=torch.autograd.backward,
            )
        optimizer.step()
    return float(losses)


@torch.no_grad()
def _score(trial: TrialContext, model: nn.Module, images: recipe.Images) -> float:
    model.eval()
    right, seen = torch.zeros((), device=trial.device), 0
    with _precision(trial):
        for batch in images.validation():
            right += recipe.hits(model, batch)
            seen += len(batch[1])
    return float(right / seen)


def _precision(trial: TrialContext) -> AbstractContextManager[Any]:
    precision = trial.spec.recipe.precision
    if precision == "32-true":
        return nullcontext()
    if precision == "bf16-mixed":
        return torch.autocast(torch.device(trial.device).type, dtype=torch.bfloat16)
    raise ConfigError(
        f"trainers.plain_pytorch trains in 32-true or bf16-mixed, got {precision}: "
        f"choose one, or trainer=image_classifier"
    )


def _save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, temporary)
    temporary.replace(path)  # a kill leaves the old checkpoint or the new one, whole


def _load(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restore the checkpoint, if there is one; returns its finished steps."""
    if not path.exists():
        return 0
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        return int(saved["step"])
    except (pickle.UnpicklingError, RuntimeError, ValueError, OSError, EOFError, KeyError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise CorruptFileError(
            f"{path} must be this trainer's checkpoint, got: {reason}. Nothing was changed; remove it to train "
            f"the trial again from its start, its known checks stay"
        ) from error
