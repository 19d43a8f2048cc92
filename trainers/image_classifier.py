"""Trains an image classifier with Lightning, on images that are batched by index, in memory or in files.

A training is one Lightning epoch, and its batch n is step n, so that a checkpoint of any check continues at the
next step. Epochs of the data are the stream's affair.
"""

import inspect
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment  # type: ignore[attr-defined]
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn

from nasproxy.execution.worker.context import TrialContext
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.trainers import collectives, optimization
from nasproxy.trainers.arguments import with_settings
from nasproxy.training.lightning import TrialCallback, resume_path


@with_settings
def train(trial: TrialContext, settings: optimization.ClassifierSettings) -> None:
    """Train one trial until its controller says stop; arguments as in "
    "`nasproxy.trainers.optimization.ClassifierSettings`.

    Raises:
        ConfigError: An argument is out of range, or does not go with the device.
        NonFiniteScoreError: Training has diverged.
        CorruptFileError: The checkpoint cannot be read.
    """
    device = torch.device(trial.device)
    optimization.repeat_exactly(device)
    data = trial.load_data()
    model = optimization.prepare_model(
        trial.build_model(data), settings, regularisation=trial.proxy_task.regularisation, device=device
    )
    images = optimization.open_images(trial, data, settings, device)
    with _quiet():
        _trainer(trial, device).fit(
            ImageClassifier(model, settings, trial),
            datamodule=ImageSteps(images, trial.total_steps),
            ckpt_path=resume_path(trial.model_dir),
            weights_only=True,
        )


class ImageClassifier(pl.LightningModule):
    """A model with its optimizer, learning rate, averaged weights and score."""

    def __init__(self, model: nn.Module, settings: optimization.ClassifierSettings, trial: TrialContext) -> None:
        super().__init__()
        self.automatic_optimization = False  # one batch is one optimizer step, however many micro-batches it takes
        self.model = model
        self.settings = settings
        self.trial = trial
        self.average = optimization.WeightAverage(model, settings, trial.total_steps)
        if settings.compile:
            model.compile()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer; the learning rate is a function of the step, which needs no scheduler's state."""
        optimizer = optimization.make_optimizer(self.model, self.settings)
        self._schedule = optimization.make_schedule(optimizer, self.settings, self.trial.total_steps)
        return optimizer

    def on_train_start(self) -> None:
        """Find what a step needs."""
        self._optimizer: Any = self.optimizers()
        self._hold_back = getattr(self.trainer.strategy.model, "no_sync", nullcontext)
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        self._scale = None if scaler is None else scaler.get_scale
        self._aim_at_next_check()

    def training_step(self, batch: optimization.Batch, batch_idx: int) -> Tensor:
        """Take the optimizer step that follows `batch_idx` finished ones."""
        optimizer = self._optimizer
        self._schedule.step_update(batch_idx)
        optimizer.zero_grad()
        loss = optimization.add_gradients(
            self.model,
            batch,
            self.settings,
            micro_batch=self.trial.spec.recipe.micro_batch,
            backward=self.manual_backward,
            world_size=self.trial.world_size,
            hold_back=self._hold_back,
            scale=self._scale,
        )
        optimizer.step()
        self.average.update(batch_idx + 1)
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
        collectives.share_statistics(self.model, self.average.model)
        self._right = torch.zeros((), device=self.device)
        self._seen = torch.zeros((), device=self.device)

    def validation_step(self, batch: optimization.Batch, batch_idx: int) -> None:
        """Count what is classified right."""
        self._right += optimization.count_hits(self.average.model, batch)
        self._seen += len(batch[1])

    def on_validation_epoch_end(self) -> None:
        """Log the share of images that were classified right; keep the weights that the last score is of."""
        score = collectives.sum_over_ranks(self._right) / collectives.sum_over_ranks(self._seen)
        # Equal on all ranks already; the maximum of equals is what they are.
        self.log("score", score, sync_dist=self.trial.world_size > 1, reduce_fx="max")
        is_last = self.trainer.global_step == self.trial.total_steps
        if is_last and self.trial.rank == 0 and math.isfinite(score):
            optimization.save_weights(self.average.model, TrialFolder(self.trial.model_dir).weights)

    def on_validation_end(self) -> None:
        """Set the next check."""
        self._aim_at_next_check()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the averaged weights."""
        checkpoint["average"] = self.average.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the averaged weights."""
        self.average.load_state_dict(checkpoint["average"])

    def _aim_at_next_check(self) -> None:
        """Have Lightning validate next at the trial's next check: it does at multiples of what it is told."""
        done = self.trainer.global_step
        self.trainer.val_check_batch = next((step for step in self.trial.check_steps if step > done), None) or done


class ImageSteps(pl.LightningDataModule):
    """Batches by step, from the step at which the training stands."""

    def __init__(self, images: optimization.Images, total_steps: int) -> None:
        super().__init__()
        self.images = images
        self.total_steps = total_steps

    def train_dataloader(self) -> "_Loader":
        """The batches of all steps to come."""
        assert self.trainer is not None
        first = self.trainer.global_step  # restored by now
        return _Loader(self.total_steps, lambda: self.images.batches(first, self.total_steps))

    def val_dataloader(self) -> "_Loader":
        """The validation images."""
        return _Loader(self.images.validation_batches, self.images.validation)

    def transfer_batch_to_device(
        self, batch: optimization.Batch, device: torch.device, dataloader_idx: int
    ) -> optimization.Batch:
        """Leave the batch where it is: on the device already."""
        return batch


class _Loader:
    """What Lightning needs of a data loader; of a list it would take every item for a loader."""

    def __init__(self, length: int, batches: Callable[[], Iterator[optimization.Batch]]) -> None:
        self._length = length
        self._batches = batches

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[optimization.Batch]:
        return self._batches()

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the position is the training's step. That there is a state tells Lightning that it can resume."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


def _trainer(trial: TrialContext, device: torch.device) -> pl.Trainer:
    return pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=list(range(trial.world_size)) if device.type == "cuda" else trial.world_size,
        strategy=_strategy(trial, device),
        precision=trial.spec.recipe.precision,  # type: ignore[arg-type]  # Lightning checks it
        max_steps=trial.total_steps,
        val_check_interval=trial.check_steps[0],  # the first; the module sets each after it
        check_val_every_n_epoch=None,  # the interval counts steps over the whole training
        callbacks=[
            TrialCallback(model_dir=trial.model_dir, total_steps=trial.total_steps, check_steps=trial.check_steps)
        ],
        plugins=[LightningEnvironment()],  # inside a SLURM job too, a trial's processes are its worker's affair
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_autolog_hparams=False,
    )


def _strategy(trial: TrialContext, device: torch.device) -> DDPStrategy | str:
    if trial.world_size == 1:
        return "auto"
    collectives.stay_on_this_machine()
    return DDPStrategy(
        process_group_backend="nccl" if device.type == "cuda" else "gloo", **collectives.get_ddp_options()
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
