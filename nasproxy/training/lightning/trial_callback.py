"""The Lightning callback that runs a training as a trial."""

import math
from collections.abc import Collection
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from nasproxy.errors import ConfigError
from nasproxy.training.hooks import ModelDir, check_loss, report_alive
from nasproxy.training.lightning.check_reporter import CycleReporter, get_monitored_score
from nasproxy.training.lightning.checkpoint import get_checkpoint_path, name_temporary
from nasproxy.training.lightning.stop import check_can_stop, is_stop_requested
from nasproxy.trials.clock import Clock, SavingTimer

STEPS_BETWEEN_AGREEMENTS = 100
"""Steps between decisions on saving in distributed training; a broadcast takes about a millisecond."""


class TrialCallback(pl.Callback):
    """Reports every validation as a check, stops when the controller requests it, and saves checkpoints.

    The last step is always validated. Resume a trial with

        trainer.fit(module, ckpt_path=resume_path(model_dir), weights_only=True)
    """

    def __init__(
        self,
        *,
        model_dir: ModelDir,
        total_steps: int,
        monitor: str = "score",
        checkpoint_every_seconds: float = 30.0,
        check_steps: Collection[int] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Create the callback of one trial.

        Args:
            model_dir: The trial's folder.
            total_steps: Optimizer steps of the whole training, the Trainer's `max_steps`.
            monitor: Name of the logged validation score, higher is better.
            checkpoint_every_seconds: Shortest time between checkpoints at checks, longer if saving is slow; a check
                that stops the training always saves one.
            check_steps: Steps of all checks, if the training can resume from any step because its batches depend on
                the step alone or its data loader is stateful. Checkpoints are then saved between checks too. The
                callback must come last, since others may change the saved state after each batch.
            clock: Source of the time; None for the system clock.

        Raises:
            ConfigError: A number is out of range.
        """
        if total_steps < 1:
            raise ConfigError(
                f"TrialCallback needs total_steps of at least 1, got {total_steps}: give the Trainer's max_steps"
            )
        if not (math.isfinite(checkpoint_every_seconds) and checkpoint_every_seconds >= 0):
            raise ConfigError(
                f"TrialCallback needs checkpoint_every_seconds of at least 0, got {checkpoint_every_seconds}: "
                f"give 0 to save at every check"
            )
        self.model_dir = model_dir
        self.total_steps = total_steps
        self.monitor = monitor
        self._reporter = CycleReporter(model_dir, total_steps, clock)
        self._timer = SavingTimer(checkpoint_every_seconds, clock)
        self._check_steps = None if check_steps is None else frozenset(check_steps)
        self._started_at = self._step = 0
        self._loss_sum: Tensor | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the training time, or stop at once if the controller has requested it already."""
        check_can_stop(trainer)
        self._loss_sum = None
        self._timer.restart()
        self._reporter.start(trainer.global_step)
        self._started_at = self._step = trainer.global_step
        # Requests count checks: a training resumed between two checks has reached the earlier one only.
        self._stop_if_asked(trainer, self._reporter.begin)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Accumulate the loss for the next check, and validate after the last step."""
        if isinstance(outputs, dict) and isinstance(loss := outputs.get("loss"), Tensor):
            self._loss_sum = loss if self._loss_sum is None else self._loss_sum + loss
        if trainer.is_global_zero and report_alive(self.model_dir) and self._loss_sum is not None:
            check_loss(float(self._loss_sum), trainer.global_step)
        if trainer.global_step >= self.total_steps:
            trainer.should_stop = True  # Lightning validates before it stops, at any step
        elif self._is_between_checks(trainer.global_step) and self._is_time_to_save(trainer):
            self._save_between_checks(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the training time after the device has finished its work."""
        if _is_check(trainer):
            _synchronize(trainer.strategy.root_device)
            self._reporter.pause()

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Write a heartbeat during long validations."""
        if trainer.is_global_zero:
            report_alive(self.model_dir)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the check, query for a stop request, and save a checkpoint if stopping or due, in this order."""
        if not _is_check(trainer):
            return
        if self._reporter.is_new(trainer.global_step):
            self._report(trainer)
        self._stop_if_asked(trainer, trainer.global_step)
        # A process killed before the checkpoint repeats the cycle; reporting the same check again has no effect.
        if trainer.should_stop or trainer.strategy.broadcast(self._timer.is_due()):
            self._save(trainer)
        self._reporter.resume()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check that the last step was validated.

        Raises:
            ConfigError: Training ended without a validation after its last step.
        """
        if trainer.global_step > self._started_at and self._reporter.is_new(trainer.global_step):
            raise ConfigError(
                f"a trial's last step must be validated, got no validation after step {trainer.global_step} of "
                f"{self.total_steps}: give the Trainer max_steps={self.total_steps} and validation data"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the current cycle."""
        return self._reporter.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the current cycle."""
        self._reporter.load_state_dict(state_dict)

    def _is_between_checks(self, step: int) -> bool:
        """Return whether the batch finished an optimizer step that is not a check."""
        is_finished, self._step = step > self._step, step
        return is_finished and self._check_steps is not None and step not in self._check_steps

    def _save_between_checks(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero and self._loss_sum is not None:
            check_loss(float(self._loss_sum), trainer.global_step)  # a resumed process starts a new sum
        _synchronize(trainer.strategy.root_device)
        self._reporter.pause()
        self._save(trainer)
        self._reporter.resume()

    def _is_time_to_save(self, trainer: pl.Trainer) -> bool:
        """Return whether the last checkpoint is old enough, the same in all processes of a training."""
        if trainer.world_size == 1:
            return self._timer.is_due()
        if trainer.global_step % STEPS_BETWEEN_AGREEMENTS:
            return False
        return trainer.strategy.broadcast(self._timer.is_due())

    def _report(self, trainer: pl.Trainer) -> None:
        score = get_monitored_score(trainer.callback_metrics, self.monitor, self._loss_sum)
        self._loss_sum = None
        self._reporter.check(trainer.global_step, score, write=trainer.is_global_zero)

    def _stop_if_asked(self, trainer: pl.Trainer, step: int) -> None:
        stop = trainer.is_global_zero and is_stop_requested(self.model_dir, step, self.total_steps)
        if trainer.strategy.broadcast(stop):  # several processes must stop at the same step
            trainer.should_stop = True

    def _save(self, trainer: pl.Trainer) -> None:
        path = get_checkpoint_path(self.model_dir)
        with self._timer.saving():
            trainer.save_checkpoint(name_temporary(path), weights_only=False)
            if trainer.is_global_zero:
                name_temporary(path).replace(path)


def _is_check(trainer: pl.Trainer) -> bool:
    return trainer.state.fn is TrainerFn.FITTING and not trainer.sanity_checking


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
