"""A trainer for image classifiers with a plain PyTorch loop, as an example for trainers of your own.

A training loop becomes a trainer by calling its trial: report checks, query for stop requests, and save checkpoints to
resume from.
"""

import math
import pickle
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nasproxy.errors import CorruptFileError
from nasproxy.execution.worker.context import TrialContext
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.trainers import collectives, optimization
from nasproxy.trainers.arguments import with_settings
from nasproxy.training.reporting import check_loss
from nasproxy.trials.clock import SavingTimer, Stopwatch

CHECKPOINT_EVERY_SECONDS = 30.0
"""Seconds between checkpoints between two checks; a check always saves one."""


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
    collectives.join_group(trial)
    data = trial.load_data()
    model = optimization.prepare_model(
        trial.build_model(data), settings, regularisation=trial.proxy_task.regularisation, device=device
    )
    _Training(trial, settings, model, optimization.open_images(trial, data, settings, device)).run()
    collectives.leave_group()


class _Training:
    """A model with the state of its training."""

    def __init__(
        self,
        trial: TrialContext,
        settings: optimization.ClassifierSettings,
        model: nn.Module,
        images: optimization.Images,
    ) -> None:
        self.trial = trial
        self.settings = settings
        self.device = torch.device(trial.device)
        self.model = model
        self.images = images
        self.optimizer = optimization.make_optimizer(model, settings)
        self.schedule = optimization.make_schedule(self.optimizer, settings, trial.total_steps)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=trial.spec.recipe.precision == "16-mixed")
        self.average = optimization.WeightAverage(model, settings, trial.total_steps)
        self.path = trial.checkpoint_dir / "last.pt"
        self.watch = Stopwatch()
        self.reported_seconds = 0.0
        self.timer = SavingTimer(CHECKPOINT_EVERY_SECONDS)
        self.step = self.begin = 0  # finished steps, and the step of the last check
        self._load()
        if settings.compile:
            model.compile()
        self.parallel = _wrap_in_ddp(trial, model)

    def run(self) -> None:
        """Train from check to check."""
        trial = self.trial
        while not self._is_stop_requested():
            self.watch.start()
            loss = self._train_until(next(check for check in trial.check_steps if check > self.step))
            self.watch.pause()
            metrics = self._validate() if math.isfinite(loss) else {"accuracy": math.nan, "loss": math.nan}
            self.reported_seconds += self.watch.lap()
            self.begin = self.step
            if trial.rank == 0:
                self._report(metrics)

    def _is_stop_requested(self) -> bool:
        trial = self.trial
        # Requests count checks: a training resumed between two checks has reached the earlier one only.
        stop = trial.rank == 0 and trial.should_stop(self.begin)
        return collectives.broadcast_decision(stop, self.device)

    def _train_until(self, end: int) -> float:
        """Train until step `end` and return the sum of the losses, which waits for the device."""
        self.model.train()
        losses = torch.zeros((), device=self.device)
        for batch in self.images.batches(self.step, end):
            losses += self._train_step(batch)
            if self.trial.report_alive():
                check_loss(float(losses), self.step)
            if self.trial.rank == 0 and self.step < end and self.timer.is_due():
                check_loss(float(losses), self.step)  # also waits for the device
                self.watch.pause()
                self._save()
                self.watch.start()
        return float(collectives.sum_over_ranks(losses))

    def _train_step(self, batch: optimization.Batch) -> torch.Tensor:
        trial, scaler = self.trial, self.scaler
        self.schedule.step_update(self.step)
        self.optimizer.zero_grad()
        with optimization.make_autocast(trial.spec.recipe.precision, self.device):
            loss = optimization.add_gradients(
                self.parallel,
                batch,
                self.settings,
                micro_batch=trial.spec.recipe.micro_batch,
                backward=lambda loss: scaler.scale(loss).backward(),  # type: ignore[no-untyped-call]
                world_size=trial.world_size,
                no_sync=getattr(self.parallel, "no_sync", nullcontext),
                scale=scaler.get_scale if scaler.is_enabled() else None,
            )
        scaler.step(self.optimizer)
        scaler.update()
        self.step += 1
        self.average.update(self.step)
        return loss

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        model = self.average.model.eval()
        collectives.share_statistics(self.model, self.average.model)
        totals = torch.zeros(3, device=self.device)
        with optimization.make_autocast(self.trial.spec.recipe.precision, self.device):
            for batch in self.images.validation():
                totals += optimization.measure_batch(model, batch)
                self.trial.report_alive()
        return optimization.read_totals(collectives.sum_over_ranks(totals))

    def _report(self, metrics: dict[str, float]) -> None:
        trial = self.trial
        if self.step == trial.total_steps and math.isfinite(metrics["accuracy"]):
            optimization.save_weights(self.average.model, TrialFolder(trial.model_dir).weights)
        rate = {"learning_rate": self.optimizer.param_groups[0]["lr"]}  # of the last step
        trial.report(self.step, {**metrics, **rate}, self.reported_seconds)
        self._save()

    def _save(self) -> None:
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        state = {name: part.state_dict() for name, part in self._parts.items()}
        cycle = {"begin": self.begin, "seconds": self.watch.seconds}
        with self.timer.saving():
            torch.save({**state, **cycle, "step": self.step}, temporary)
            temporary.replace(self.path)  # atomic: a kill leaves the old checkpoint or the new one

    @property
    def _parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "average": self.average, "scaler": self.scaler}

    def _load(self) -> None:
        """Restore the checkpoint, if there is one."""
        if not self.path.exists():
            return
        try:
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
            for name, part in self._parts.items():
                part.load_state_dict(saved[name])
            self.step, self.begin = int(saved["step"]), int(saved["begin"])
            self.watch.add(float(saved["seconds"]))
        except (pickle.UnpicklingError, RuntimeError, ValueError, OSError, EOFError, KeyError) as error:
            reason = str(error).strip().split("\n", 1)[0]
            raise CorruptFileError(
                f"{self.path} must be a checkpoint of this trainer, got: {reason}. Nothing was changed; remove the "
                f"file to train the trial from the start; recorded checks are kept"
            ) from error


def _wrap_in_ddp(trial: TrialContext, model: nn.Module) -> nn.Module:
    """Wrap the model in DDP if the trial has several devices."""
    if trial.world_size == 1:
        return model
    index = torch.device(trial.device).index
    return DistributedDataParallel(
        model, device_ids=None if index is None else [index], **collectives.get_ddp_options()
    )
