"""A trainer for image classifiers with Lightning, on images in memory or in files.

A training is a single Lightning epoch whose batch n belongs to step n, so that a checkpoint of any step resumes at the
next one. `BatchStream` handles the epochs of the data.
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
    """Train one trial until its controller requests a stop.

    The arguments are the fields of `nasproxy.trainers.settings.ClassifierSettings`.

    Raises:
        ConfigError: An argument is out of range, or not supported on the device.
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
    with _quiet_lightning():
        _make_trainer(trial, device).fit(
            ImageClassifier(model, settings, trial),
            datamodule=ImageSteps(images, trial.total_steps),
            ckpt_path=resume_path(trial),
            weights_only=True,
        )


class ImageClassifier(pl.LightningModule):
    """A model with its optimizer, learning-rate schedule, weight average and validation metrics."""

    def __init__(self, model: nn.Module, settings: optimization.ClassifierSettings, trial: TrialContext) -> None:
        super().__init__()
        self.automatic_optimization = False  # one batch is one optimizer step, of one or more micro-batches
        self.model = model
        self.settings = settings
        self.trial = trial
        self.average = optimization.WeightAverage(model, settings, trial.total_steps)
        if settings.compile:
            model.compile()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Create the optimizer; the learning rate depends on the step alone, so no scheduler state is saved."""
        optimizer = optimization.make_optimizer(self.model, self.settings)
        self._schedule = optimization.make_schedule(optimizer, self.settings, self.trial.total_steps)
        return optimizer

    def on_train_start(self) -> None:
        """Look up what each step uses, once."""
        self._optimizer: Any = self.optimizers()
        self._no_sync = getattr(self.trainer.strategy.model, "no_sync", nullcontext)
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        self._scale = None if scaler is None else scaler.get_scale
        self._schedule_next_check()

    def training_step(self, batch: optimization.Batch, batch_idx: int) -> Tensor:
        """Take the optimizer step after `batch_idx` finished steps."""
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
            no_sync=self._no_sync,
            scale=self._scale,
        )
        optimizer.step()
        self.average.update(batch_idx + 1)
        return loss

    # Lightning inspects the signature at every step: a stored one saves 25 us.
    training_step.__signature__ = inspect.signature(training_step)  # type: ignore[attr-defined]

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_current_fx_name":  # Lightning sets it 30 times per step; nn.Module.__setattr__ takes 2.5 us
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def on_validation_epoch_start(self) -> None:
        """Reset the totals of the validation."""
        collectives.share_statistics(self.model, self.average.model)
        self._totals = torch.zeros(3, device=self.device)

    def validation_step(self, batch: optimization.Batch, batch_idx: int) -> None:
        """Add a batch to the totals."""
        self._totals += optimization.measure_batch(self.average.model, batch)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics, and save the weights of the final score."""
        metrics = optimization.read_totals(collectives.sum_over_ranks(self._totals))
        rate = {"learning_rate": self._optimizer.param_groups[0]["lr"]}  # of the last step
        # Already equal on all ranks, so the maximum does not change them.
        self.log_dict({**metrics, **rate}, sync_dist=self.trial.world_size > 1, reduce_fx="max")
        is_last = self.trainer.global_step == self.trial.total_steps
        if is_last and self.trial.rank == 0 and math.isfinite(metrics["accuracy"]):
            optimization.save_weights(self.average.model, TrialFolder(self.trial.model_dir).weights)

    def on_validation_end(self) -> None:
        """Schedule the next check."""
        self._schedule_next_check()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the weight average to the checkpoint."""
        checkpoint["average"] = self.average.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the weight average."""
        self.average.load_state_dict(checkpoint["average"])

    def _schedule_next_check(self) -> None:
        """Schedule validation at the trial's next check: Lightning validates at multiples of `val_check_batch`."""
        done = self.trainer.global_step
        self.trainer.val_check_batch = next((step for step in self.trial.check_steps if step > done), None) or done


class ImageSteps(pl.LightningDataModule):
    """Batches of all remaining steps, and the validation batches."""

    def __init__(self, images: optimization.Images, total_steps: int) -> None:
        super().__init__()
        self.images = images
        self.total_steps = total_steps

    def train_dataloader(self) -> "_Loader":
        """Return the batches of all remaining steps."""
        assert self.trainer is not None
        first = self.trainer.global_step  # already restored from the checkpoint
        return _Loader(self.total_steps, lambda: self.images.batches(first, self.total_steps))

    def val_dataloader(self) -> "_Loader":
        """Return the validation batches."""
        return _Loader(self.images.validation_batches, self.images.validation)

    def transfer_batch_to_device(
        self, batch: optimization.Batch, device: torch.device, dataloader_idx: int
    ) -> optimization.Batch:
        """Return the batch unchanged, since it is on the device already."""
        return batch


class _Loader:
    """Minimal data loader for Lightning, which would treat the items of a list as separate loaders."""

    def __init__(self, length: int, batches: Callable[[], Iterator[optimization.Batch]]) -> None:
        self._length = length
        self._batches = batches

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[optimization.Batch]:
        return self._batches()

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state: having one tells Lightning that the loader can resume; the step is the position."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Accept the empty state."""


def _make_trainer(trial: TrialContext, device: torch.device) -> pl.Trainer:
    return pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=list(range(trial.world_size)) if device.type == "cuda" else trial.world_size,
        strategy=_make_strategy(trial, device),
        precision=trial.spec.recipe.precision,  # type: ignore[arg-type]  # Lightning checks it
        max_steps=trial.total_steps,
        val_check_interval=trial.check_steps[0],  # the first check; the module schedules the others
        check_val_every_n_epoch=None,  # the interval counts steps over the whole training
        callbacks=[TrialCallback(trial, check_steps=trial.check_steps)],
        plugins=[LightningEnvironment()],  # also in a SLURM job, where the worker manages a trial's processes
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_autolog_hparams=False,
    )


def _make_strategy(trial: TrialContext, device: torch.device) -> DDPStrategy | str:
    if trial.world_size == 1:
        return "auto"
    collectives.stay_on_this_machine()
    return DDPStrategy(
        process_group_backend="nccl" if device.type == "cuda" else "gloo", **collectives.get_ddp_options()
    )


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Suppress Lightning's messages below warnings, which would repeat in every trial's log."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
