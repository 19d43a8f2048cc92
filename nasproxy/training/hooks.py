"""Hooks for training loops, with the names and arguments of Vertex AI NAS.

In this module only, steps are 0-based and inclusive, as in Vertex AI NAS: a cycle of the first 100 steps begins at 0
and ends at 99. A training loop is

    while not get_stop_training(model_dir, last_step, total_steps):
        ... train one cycle and measure its seconds; validate ...
        update_trial_training_accuracy_metric(model_dir, accuracy, first_step, last_step, seconds, total_steps)
        ... save a checkpoint into get_checkpoint_dir(model_dir) ...

Save the checkpoint last: a process that is killed before it repeats the cycle, and reporting a check again has no
effect.
"""

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

from nasproxy.errors import ConfigError, NonFiniteScoreError
from nasproxy.storage.files import read_record, write_record
from nasproxy.storage.leases import is_held
from nasproxy.storage.trial_files import append_check, read_checks
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.trials.records import Check, Request

ModelDir = str | os.PathLike[str]

HEARTBEAT_SECONDS = 0.5
"""Shortest time between two heartbeats."""
_heartbeat_times: dict[str, float] = {}
"""Time of this process's last heartbeat, by trial folder."""


@dataclass(frozen=True)
class Latency:
    """Measured latency of a trial's model."""

    latency_ms: float


def get_stop_training(model_dir: ModelDir, end_training_cycle_step: int, total_training_steps: int) -> bool:
    """Return whether to stop before the next training cycle.

    Args:
        model_dir: The trial's folder.
        end_training_cycle_step: Last finished step, 0-based; -1 before the first.
        total_training_steps: Total steps of the training.

    Returns:
        True at the end of training, if the controller requested a stop, or if the controller no longer holds its lease.

    Raises:
        CorruptFileError: The request cannot be read.
    """
    folder = TrialFolder(Path(model_dir))
    steps = end_training_cycle_step + 1
    if steps >= total_training_steps:
        return True
    request = read_record(folder.request, Request)
    if request is None:
        return False
    if request.stop or (request.until_step is not None and steps >= request.until_step):
        return True
    return request.lease is not None and not is_held(Path(request.lease))


def update_trial_training_accuracy_metric(
    model_dir: ModelDir,
    accuracy: float,
    begin_training_cycle_step: int,
    end_training_cycle_step: int,
    training_cycle_time_in_secs: float,
    total_training_steps: int,
) -> None:
    """Report one check, the score after a training cycle; reporting a known check again has no effect.

    Args:
        model_dir: The trial's folder.
        accuracy: Validation score, higher is better.
        begin_training_cycle_step: First step of the cycle, 0-based.
        end_training_cycle_step: Last step of the cycle, 0-based, inclusive; -1 for a validation before training, which
            is recorded as a check of step 0 and never judged.
        training_cycle_time_in_secs: Training seconds of the cycle, validation excluded.
        total_training_steps: Total steps of the training.

    Raises:
        NonFiniteScoreError: The score is NaN or infinite.
        ConfigError: The steps or seconds are invalid.
        CorruptFileError: The earlier checks cannot be read; nothing is changed.
    """
    if not math.isfinite(accuracy):
        raise NonFiniteScoreError(
            f"a check needs a finite score, got {accuracy} after step {end_training_cycle_step}: "
            f"lower the learning rate or clip gradients"
        )
    is_before_training = end_training_cycle_step == -1 and begin_training_cycle_step in (-1, 0)
    if not (is_before_training or 0 <= begin_training_cycle_step <= end_training_cycle_step < total_training_steps):
        raise ConfigError(
            f"a training cycle needs 0 <= begin <= end < total steps, got begin {begin_training_cycle_step}, end "
            f"{end_training_cycle_step}, total {total_training_steps}: steps are 0-based and the end is inclusive"
        )
    if not training_cycle_time_in_secs >= 0:
        raise ConfigError(
            f"a training cycle needs seconds of at least 0, got {training_cycle_time_in_secs}: measure them"
        )
    metrics = TrialFolder(Path(model_dir)).metrics
    checks = read_checks(metrics)
    step = end_training_cycle_step + 1
    if checks and checks[-1].step >= step:
        return
    paid = checks[-1].train_seconds if checks else 0.0
    append_check(metrics, Check(step, float(accuracy), paid + float(training_cycle_time_in_secs)))


def report_alive(model_dir: ModelDir) -> bool:
    """Write a heartbeat if the last one is old enough; cheap enough to call after every batch.

    A trial without a check or heartbeat for `backend.hang_seconds` is considered hung.

    Returns:
        Whether a heartbeat was written: an occasion for work that is too expensive for every batch.
    """
    name, now = os.fspath(model_dir), time.monotonic()
    is_due = now - _heartbeat_times.get(name, -math.inf) >= HEARTBEAT_SECONDS
    if is_due:
        _heartbeat_times[name] = now
        TrialFolder(Path(name)).heartbeat.touch()
    return is_due


def check_loss(loss: float, step: int) -> None:
    """Check that the training loss is finite, to stop a diverged training before its next check.

    Args:
        loss: A training loss, or a sum of training losses.
        step: Finished steps.

    Raises:
        NonFiniteScoreError: The loss is NaN or infinite.
    """
    if not math.isfinite(loss):
        raise NonFiniteScoreError(
            f"a training loss must be finite, got {loss} by step {step}: lower the learning rate or clip gradients"
        )


def update_trial_training_latency_metric(model_dir: ModelDir, latency: float) -> None:
    """Report the model's latency in milliseconds, replacing an earlier value.

    Raises:
        ConfigError: The latency is not a finite number of milliseconds above 0.
    """
    if not (math.isfinite(latency) and latency > 0):
        raise ConfigError(f"a latency must be above 0 ms, got {latency}: report it only if it was measured")
    write_record(TrialFolder(Path(model_dir)).latency, Latency(float(latency)))


def get_checkpoint_dir(model_dir: ModelDir) -> Path:
    """Return the folder for the trial's checkpoints, creating it if needed; it is empty for a new trial."""
    folder = TrialFolder(Path(model_dir)).checkpoints
    folder.mkdir(parents=True, exist_ok=True)
    return folder
