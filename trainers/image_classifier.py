"""Trains an image classifier with Lightning, on images in memory that are batched by index.

A training is one Lightning epoch, and its batch n is step n, so that a checkpoint of any check continues at the
next step. Epochs of the data are the stream's affair.
"""

import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment  # type: ignore[attr-defined]
from torch import Tensor, nn

from nasproxy.callbacks import TrialCallback, resume_path
from nasproxy.errors import ConfigError
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
        ConfigError: An argument is out of range, or does not go with the precision.
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
    if clip_norm is not None and trial.spec.recipe.precision.startswith("16"):
        raise ConfigError(
            f"trainer.clip_norm needs gradients in their own scale, got {trial.spec.recipe.precision}: "
            f"choose bf16-mixed, or leave clip_norm out"
        )
    device = torch.device(trial.device)
    recipe.repeat_exactly(device)
    data = trial.load_data()
    model = trial.build_model(data)
    recipe.scale_dropout(model, trial.proxy_task.regularisation)
    images = recipe.Images(data, settings, seed=trial.seed, device=device)
    module = ImageClassifier(model, settings, trial.total_steps, micro_batch=trial.spec.recipe.micro_batch)
    with _quiet():
        _trainer(trial, device).fit(
            module,
            datamodule=ImageSteps(images, trial.total_steps),
            ckpt_path=resume_path(trial.model_dir),
            weights_only=True,
        )


class ImageClassifier(pl.LightningModule):
    """A model with its optimizer, learning rate and score."""

    def __init__(
        self, model: nn.Module, settings: recipe.Settings, total_steps: int, *, micro_batch: int | None = None
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # one batch is one optimizer step, however many micro-batches it takes
        self.model = model
        self.settings = settings
        self.total_steps = total_steps
        self.micro_batch = micro_batch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer; the learning rate is a function of the step, which needs no scheduler's state."""
        return recipe.make_optimizer(self.model, self.settings)

    def training_step(self, batch: recipe.Batch, batch_idx: int) -> Tensor:
        """Take the optimizer step that follows `batch_idx` finished ones."""
        optimizer: Any = self.optimizers()
        rate = recipe.learning_rate(self.settings, batch_idx, self.total_steps)
        recipe.set_learning_rate(optimizer, rate)
        optimizer.zero_grad()
        loss = recipe.add_gradients(
            self.model, batch, self.settings, micro_batch=self.micro_batch, backward=self.manual_backward
        )
        optimizer.step()
        return loss

    # Lightning reads the signature at every step: one that is there spares making it, 25 us a time.
    training_step.__signature__ = inspect.signature(training_step)  # type: ignore[attr-defined]

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_current_fx_name":  # Lightning sets it 30 times a step, and a module's own way takes 2.5 us
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def on_validation_epoch_start(self) -> None:
        """Begin to count."""
        self._right = torch.zeros((), device=self.device)
        self._seen = 0

    def validation_step(self, batch: recipe.Batch, batch_idx: int) -> None:
        """Count what is classified right."""
        self._right += recipe.hits(self.model, batch)
        self._seen += len(batch[1])

    def on_validation_epoch_end(self) -> None:
        """Log the share of images that were classified right."""
        self.log("score", self._right / self._seen)


class ImageSteps(pl.LightningDataModule):
    """Batches by step, from the step at which the training stands."""

    def __init__(self, images: recipe.Images, total_steps: int) -> None:
        super().__init__()
        self.images = images
        self.total_steps = total_steps

    def train_dataloader(self) -> "_Loader":
        """The batches of all steps to come."""
        assert self.trainer is not None
        first = self.trainer.global_step  # restored by now
        return _Loader(self.total_steps, lambda: map(self.images.batch, range(first, self.total_steps)))

    def val_dataloader(self) -> "_Loader":
        """The validation images."""
        return _Loader(self.images.validation_batches, self.images.validation)

    def transfer_batch_to_device(self, batch: recipe.Batch, device: torch.device, dataloader_idx: int) -> recipe.Batch:
        """Leave the batch where it is: on the device already."""
        return batch


class _Loader:
    """What Lightning needs of a data loader; of a list it would take every item for a loader."""

    def __init__(self, length: int, batches: Callable[[], Iterator[recipe.Batch]]) -> None:
        self._length = length
        self._batches = batches

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[recipe.Batch]:
        return self._batches()

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the position is the training's step. That there is a state tells Lightning that it can resume."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


def _trainer(trial: TrialContext, device: torch.device) -> pl.Trainer:
    return pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=[device.index or 0] if device.type == "cuda" else 1,
        precision=trial.spec.recipe.precision,  # type: ignore[arg-type]  # Lightning checks it
        max_steps=trial.total_steps,
        val_check_interval=trial.check_steps[0],
        check_val_every_n_epoch=None,  # the interval counts steps over the whole training
        callbacks=[TrialCallback(model_dir=trial.model_dir, total_steps=trial.total_steps)],
        plugins=[LightningEnvironment()],  # inside a SLURM job too, a trial is one process
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_autolog_hparams=False,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Lightning says of every Trainer out of every trial's log; its warnings stay."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
