"""Hooks for training loops, with the names and arguments of Vertex AI NAS.

In this module only, steps are 0-based and inclusive, as in Vertex AI NAS: a cycle of the first 100 steps begins at 0
and ends at 99. The reported score is the study's metric, whatever its name. A training loop is

    while not get_stop_training(model_dir, last_step, total_steps):
        ... train one cycle and measure its seconds; validate ...
        update_trial_training_accuracy_metric(model_dir, accuracy, first_step, last_step, seconds, total_steps)
        ... save a checkpoint into get_checkpoint_dir(model_dir) ...

Save the checkpoint last: a process that is killed before it repeats the cycle, and reporting a check again has no
effect. New trainers report with `trial.report` instead.
"""

import math
import os
from pathlib import Path

from nasproxy.errors import ConfigError
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.training.reporting import (
    METRIC_VARIABLE,
    check_metrics,
    is_stop_requested,
    make_checkpoint_dir,
    record_check,
    report_alive,
    write_latency,
)
from nasproxy.trials.objective import Objective

__all__ = [
    "get_checkpoint_dir",
    "get_stop_training",
    "report_alive",
    "update_trial_training_accuracy_metric",
    "update_trial_training_latency_metric",
]

ModelDir = str | os.PathLike[str]


def get_stop_training(model_dir: ModelDir, end_training_cycle_step: int, total_training_steps: int) -> bool:
    """Return whether to stop before the next training cycle.

    Args:
        model_dir: The trial's folder.
        end_training_cycle_step: Last finished step, 0-based; -1 before the first.
        total_training_steps: Total steps of the training.

    Returns:
        True at the end of training, if the controller requested a stop, or if the controller no longer holds its lock.

    Raises:
        CorruptFileError: The request cannot be read.
    """
    return is_stop_requested(TrialFolder(Path(model_dir)), end_training_cycle_step + 1, total_training_steps)


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
        accuracy: Validation score: the value of the study's metric.
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
    metric = os.environ.get(METRIC_VARIABLE, Objective.name)
    metrics = check_metrics({metric: accuracy}, metric, end_training_cycle_step + 1)
    is_before_training = end_training_cycle_step == -1 and begin_training_cycle_step in (-1, 0)
    if not (is_before_training or 0 <= begin_training_cycle_step <= end_training_cycle_step < total_training_steps):
        raise ConfigError(
            f"a training cycle needs 0 <= begin <= end < total steps, got begin {begin_training_cycle_step}, end "
            f"{end_training_cycle_step}, total {total_training_steps}: steps are 0-based and the end is inclusive"
        )
    if not (math.isfinite(training_cycle_time_in_secs) and training_cycle_time_in_secs >= 0):
        raise ConfigError(
            f"a training cycle needs finite seconds of at least 0, got {training_cycle_time_in_secs}: measure them"
        )
    record_check(TrialFolder(Path(model_dir)), end_training_cycle_step + 1, metrics, training_cycle_time_in_secs)


def update_trial_training_latency_metric(model_dir: ModelDir, latency: float) -> None:
    """Report the model's latency in milliseconds, replacing an earlier value.

    Raises:
        ConfigError: The latency is not a finite number of milliseconds above 0.
    """
    write_latency(TrialFolder(Path(model_dir)), latency)


def get_checkpoint_dir(model_dir: ModelDir) -> Path:
    """Return the folder for the trial's checkpoints, creating it if needed; it is empty for a new trial."""
    return make_checkpoint_dir(TrialFolder(Path(model_dir)))
