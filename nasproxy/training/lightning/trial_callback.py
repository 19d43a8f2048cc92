"""The Lightning callback that runs a training as a trial."""

import math
from collections.abc import Collection
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from nasproxy.errors import ConfigError
from nasproxy.training.lightning.check_reporter import CycleReporter, read_metrics
from nasproxy.training.lightning.checkpoint import get_checkpoint_path, name_temporary
from nasproxy.training.lightning.stop import check_can_stop
from nasproxy.training.lightning.trial import Trial
from nasproxy.training.reporting import check_loss
from nasproxy.trials.clock import Clock, SavingTimer
from nasproxy.trials.objective import Mode

STEPS_BETWEEN_AGREEMENTS = 100
"""Steps between decisions on saving in distributed training; a broadcast takes about a millisecond."""


class TrialCallback(pl.Callback):
    """Reports every validation as a check, stops when the controller requests it, and saves checkpoints.

    Works with the packages `pytorch_lightning` and `lightning`. All logged metrics that are single numbers are
    reported. The last step is always validated. Resume a trial with

        trainer.fit(module, ckpt_path=resume_path(trial), weights_only=True)
    """

    def __init__(
        self,
        trial: Trial,
        *,
        monitor: str | None = None,
        mode: Mode | None = None,
        checkpoint_every_seconds: float = 30.0,
        check_steps: Collection[int] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Create the callback of one trial.

        Args:
            trial: The trainer's trial; the Trainer's `max_steps` is `trial.total_steps`.
            monitor: Name of the logged metric that the study decides on; None for the study's `metric.name`.
            mode: Whether higher (`max`) or lower (`min`) values of it are better; refused if the study's `metric.mode`
                is another one. None does not check this.
            checkpoint_every_seconds: Shortest time between checkpoints at checks, longer if saving is slow; a check
                that stops the training always saves one.
            check_steps: Steps of all checks, if the training can resume from any step because its batches depend on
                the step alone or its data loader is stateful. Checkpoints are then saved between checks too. The
                callback must come last, since others may change the saved state after each batch.
            clock: Source of the time; None for the system clock.

        Raises:
            ConfigError: A number is out of range, or the modes differ.
        """
        if not (math.isfinite(checkpoint_every_seconds) and checkpoint_every_seconds >= 0):
            raise ConfigError(
                f"TrialCallback needs checkpoint_every_seconds of at least 0, got {checkpoint_every_seconds}: "
                f"give 0 to save at every check"
            )
        if mode is not None and mode != trial.objective.mode:
            raise ConfigError(
                f"TrialCallback needs the mode of the study's metric, {trial.objective.mode!r}, got {mode!r}: correct "
                f"the callback's mode, or metric.mode and the study's name"
            )
        self.trial = trial
        self.total_steps = trial.total_steps
        self.monitor = trial.objective.name if monitor is None else monitor
        self._reporter = CycleReporter(trial, clock)
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
        if trainer.is_global_zero and self.trial.report_alive() and self._loss_sum is not None:
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
            self.trial.report_alive()

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
        metrics = read_metrics(trainer.callback_metrics, self.monitor, self.trial.objective.name, self._loss_sum)
        self._loss_sum = None
        self._reporter.check(trainer.global_step, metrics, write=trainer.is_global_zero)

    def _stop_if_asked(self, trainer: pl.Trainer, step: int) -> None:
        stop = trainer.is_global_zero and self.trial.should_stop(step)
        if trainer.strategy.broadcast(stop):  # several processes must stop at the same step
            trainer.should_stop = True

    def _save(self, trainer: pl.Trainer) -> None:
        path = get_checkpoint_path(self.trial)
        with self._timer.saving():
            trainer.save_checkpoint(name_temporary(path), weights_only=False)
            if trainer.is_global_zero:
                name_temporary(path).replace(path)


def _is_check(trainer: pl.Trainer) -> bool:
    # By value: `lightning` has its own enumeration.
    return trainer.state.fn == "fit" and not trainer.sanity_checking


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
