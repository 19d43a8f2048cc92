"""The calls that any trainer makes, with the names and arguments that users of the cloud tool know.

In this module, and nowhere else, a step is what it is there: 0-based and inclusive, so that a cycle of the first
100 steps begins at 0 and ends at 99. A trainer's loop is

    while not get_stop_training(model_dir, last_step, total_steps):
        ... train one cycle, taking its time; validate ...
        update_trial_training_accuracy_metric(model_dir, accuracy, first_step, last_step, seconds, total_steps)
        ... save a checkpoint into get_checkpoint_dir(model_dir) ...

The checkpoint comes last: whatever is killed between is trained again to the same check, which then changes nothing.
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

ALIVE_SECONDS = 0.5
"""Between two signs of life, at least."""
_alive_at: dict[str, float] = {}
"""When this process has last given one, by the trial's folder."""


@dataclass(frozen=True)
class Latency:
    """Measured latency of one trial's model."""

    latency_ms: float


def get_stop_training(model_dir: ModelDir, end_training_cycle_step: int, total_training_steps: int) -> bool:
    """Whether to stop before the next training cycle.

    Args:
        model_dir: The trial's folder.
        end_training_cycle_step: Last finished step, 0-based; -1 before the first.
        total_training_steps: Steps of a whole training.

    Returns:
        True at the end of training, where the controller asked to stop, or when the controller is gone.

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
    """Report one check: the score after a training cycle. A check that is known already changes nothing.

    Args:
        model_dir: The trial's folder.
        accuracy: Validation score, higher is better.
        begin_training_cycle_step: First step of the cycle, 0-based.
        end_training_cycle_step: Last step of the cycle, 0-based, inclusive.
        training_cycle_time_in_secs: Seconds the cycle trained, validation excluded.
        total_training_steps: Steps of a whole training.

    Raises:
        NonFiniteScoreError: The score is NaN or infinite.
        ConfigError: The steps or the time make no cycle.
        CorruptFileError: The earlier checks cannot be read; nothing is changed.
    """
    if not math.isfinite(accuracy):
        raise NonFiniteScoreError(
            f"a check needs a finite score, got {accuracy} after step {end_training_cycle_step}: "
            f"lower the learning rate or clip gradients"
        )
    if not 0 <= begin_training_cycle_step <= end_training_cycle_step < total_training_steps:
        raise ConfigError(
            f"a training cycle needs 0 <= begin <= end < total steps, got begin {begin_training_cycle_step}, end "
            f"{end_training_cycle_step}, total {total_training_steps}: steps are 0-based and the end is inclusive"
        )
    if not training_cycle_time_in_secs >= 0:
        raise ConfigError(f"a training cycle needs its seconds, at least 0, got {training_cycle_time_in_secs}")
    metrics = TrialFolder(Path(model_dir)).metrics
    checks = read_checks(metrics)
    step = end_training_cycle_step + 1
    before = checks[-1] if checks else Check(step=0, score=0.0, train_seconds=0.0)
    if before.step >= step:
        return
    append_check(metrics, Check(step, float(accuracy), before.train_seconds + float(training_cycle_time_in_secs)))


def report_alive(model_dir: ModelDir) -> bool:
    """Say that the trial trains or validates, as it does between checks; cheap enough for every batch.

    A trial that neither reports a check nor says so for longer than `backend.hang_seconds` is taken for hung.

    Returns:
        Whether the last time was long enough ago to say it again: a moment to look at what is too dear for every batch.
    """
    name, now = os.fspath(model_dir), time.monotonic()
    is_due = now - _alive_at.get(name, -math.inf) >= ALIVE_SECONDS
    if is_due:
        _alive_at[name] = now
        TrialFolder(Path(name)).heartbeat.touch()
    return is_due


def check_loss(loss: float, step: int) -> None:
    """Stop a training that has diverged, long before its next check may be due.

    Args:
        loss: A training loss, or a sum of them.
        step: Finished steps.

    Raises:
        NonFiniteScoreError: It is NaN or infinite.
    """
    if not math.isfinite(loss):
        raise NonFiniteScoreError(
            f"a training loss must be finite, got {loss} by step {step}: lower the learning rate or clip gradients"
        )


def update_trial_training_latency_metric(model_dir: ModelDir, latency: float) -> None:
    """Report the model's latency in milliseconds, in place of an earlier value.

    Raises:
        ConfigError: The latency is not a finite number of milliseconds above 0.
    """
    if not (math.isfinite(latency) and latency > 0):
        raise ConfigError(f"a latency needs milliseconds above 0, got {latency}: report none where there is none")
    write_record(TrialFolder(Path(model_dir)).latency, Latency(float(latency)))


def get_checkpoint_dir(model_dir: ModelDir) -> Path:
    """The folder to save checkpoints into and to continue from; it exists, and is empty for a fresh trial."""
    folder = TrialFolder(Path(model_dir)).checkpoints
    folder.mkdir(parents=True, exist_ok=True)
    return folder
