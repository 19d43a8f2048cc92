"""What a training reports to its controller, and what it asks: checks, heartbeats, stop requests.

Steps are counts of finished optimizer steps.
"""

import math
import operator
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nasproxy.errors import ConfigError, NonFiniteScoreError
from nasproxy.storage.folder_leases import hold_generation
from nasproxy.storage.json_records import read_record, write_record
from nasproxy.storage.locks import is_locked
from nasproxy.storage.trial_files import append_check, find_generation, read_reported_checks, write_heartbeat
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.storage.trial_index import add_news
from nasproxy.trials.clock import Clock, SystemClock
from nasproxy.trials.records import Request

HEARTBEAT_SECONDS = 0.5
"""Shortest time between two heartbeats."""
METRIC_VARIABLE = "NASPROXY_METRIC"
"""Environment variable of workers, and of the programs that they start, with the name of the study's metric."""
_heartbeat_times: dict[str, float] = {}
"""Time of this process's last heartbeat, by trial folder."""


@dataclass(frozen=True)
class Latency:
    """Measured latency of a trial's model."""

    latency_ms: float


class CheckReporter:
    """Records the checks of one attempt at a trial, and measures its training time if the trainer does not.

    Args:
        folder: The trial's folder.
        metric: Name of the metric that every check must have.
        total_steps: Steps of the whole training.
        clock: Source of the time; None for the system clock.
    """

    def __init__(self, folder: TrialFolder, *, metric: str, total_steps: int, clock: Clock | None = None) -> None:
        self._folder = folder
        self._metric = metric
        self._total_steps = total_steps
        self._clock = clock or SystemClock()
        self._started = self._clock.now()
        self._train_seconds = 0.0

    def report(self, step: int, metrics: Mapping[str, float], train_seconds: float | None = None) -> None:
        """Report one check; a step that was reported before, by an earlier attempt too, is not recorded again.

        Args:
            step: Finished optimizer steps.
            metrics: Validation metrics by name, as they are; other values than the study's metric may be NaN.
            train_seconds: Seconds of training since this attempt started, validation excluded; None for all the time
                since then, validation included, or since the report of step 0.

        Raises:
            NonFiniteScoreError: The study's metric is NaN or infinite.
            ConfigError: The step, a metric or the time is invalid.
            CorruptFileError: The earlier checks cannot be read; nothing is changed.
            StaleLeaseError: Another worker has taken over the trial; nothing is changed.
        """
        step = check_step(step, self._total_steps)
        values = check_metrics(metrics, self._metric, step)
        if step == 0 and train_seconds is None:
            self._started = self._clock.now()  # nothing was trained before
        seconds = self._clock.now() - self._started if train_seconds is None else train_seconds
        if not (math.isfinite(seconds) and seconds >= self._train_seconds):
            raise ConfigError(
                f"train_seconds must be finite and must not decrease, at least {self._train_seconds:g}, got "
                f"{seconds:g} at step {step}: add up the seconds of training since the start of the trainer"
            )
        cycle_seconds, self._train_seconds = seconds - self._train_seconds, seconds
        record_check(self._folder, step, values, cycle_seconds)


def record_check(folder: TrialFolder, step: int, metrics: Mapping[str, float | None], cycle_seconds: float) -> None:
    """Record a check, unless one of this or a later step is recorded.

    Args:
        folder: The trial's folder.
        step: Finished optimizer steps.
        metrics: Metrics by name; None for one that is not finite.
        cycle_seconds: Training seconds since the check before.

    Raises:
        CorruptFileError: The earlier checks cannot be read; nothing is changed.
        StaleLeaseError: Another worker has taken over the trial; nothing is changed.
    """
    with hold_generation(folder.lock, find_generation()):
        before = read_reported_checks(folder.metrics)
        if before and before[-1].step >= step:
            return
        spent = before[-1].train_seconds if before else 0.0
        append_check(folder, step, metrics, spent + float(cycle_seconds), number=len(before) + 1)
    add_news(folder)


def check_step(step: object, total_steps: int) -> int:
    """Return a count of finished steps within the training as an integer, also one of NumPy or PyTorch.

    Raises:
        ConfigError: It is none.
    """
    try:
        if isinstance(step, bool) or not 0 <= (number := operator.index(step)) <= total_steps:  # type: ignore[arg-type]
            raise TypeError
    except TypeError:
        raise ConfigError(
            f"a check's step must be a whole number from 0 to {total_steps}, the steps of this training, got "
            f"{step!r}: report the number of finished optimizer steps, and train for trial.total_steps"
        ) from None
    return number


def check_metrics(metrics: Mapping[str, float], metric: str, step: int) -> dict[str, float | None]:
    """Check the metrics of a report and return them as numbers; None for one that is not finite.

    Raises:
        ConfigError: The study's metric is missing, or a value is no number.
        NonFiniteScoreError: The study's metric is not finite.
    """
    if not isinstance(metrics, Mapping) or metric not in metrics:
        given = ", ".join(map(str, metrics)) if isinstance(metrics, Mapping) and metrics else repr(metrics)
        raise ConfigError(
            f"a check needs the study's metric {metric!r}, got {given} at step {step}: report it, or choose a metric "
            f"that is reported with metric.name=NAME"
        )
    values = {str(name): _read_number(str(name), value, step) for name, value in metrics.items()}
    if not math.isfinite(values[metric]):
        raise NonFiniteScoreError(
            f"a check needs a finite {metric}, got {values[metric]} after step {step}: lower the learning rate or clip "
            f"gradients"
        )
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _read_number(name: str, value: object, step: int) -> float:
    try:
        return float(value)  # type: ignore[arg-type]  # numbers, arrays and tensors of one value
    except (TypeError, ValueError):
        raise ConfigError(
            f"a check's metrics must be numbers, got {value!r} as {name} at step {step}: report one number"
        ) from None


def is_stop_requested(folder: TrialFolder, step: int, total_steps: int) -> bool:
    """Return whether to stop after `step` finished steps.

    Returns:
        True at the end of training, if the controller requested a stop, or if the controller no longer holds its lock.

    Raises:
        CorruptFileError: The request cannot be read.
    """
    if step >= total_steps:
        return True
    request = read_record(folder.request, Request)
    if request is None:
        return False
    if request.stop or (request.until_step is not None and step >= request.until_step):
        return True
    return request.lease is not None and not is_locked(Path(request.lease))


def report_alive(model_dir: str | os.PathLike[str]) -> bool:
    """Write a heartbeat if the last one is old enough; cheap enough to call after every batch.

    A trial without a check or heartbeat for `backend.hang_seconds` is considered hung.

    Returns:
        Whether a heartbeat was written: an occasion for work that is too expensive for every batch.
    """
    name, now = os.fspath(model_dir), time.monotonic()
    is_due = now - _heartbeat_times.get(name, -math.inf) >= HEARTBEAT_SECONDS
    if is_due:
        _heartbeat_times[name] = now
        write_heartbeat(TrialFolder(Path(name)))
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


def write_latency(folder: TrialFolder, latency_ms: float) -> None:
    """Record the model's latency in milliseconds, replacing an earlier value.

    Raises:
        ConfigError: The latency is not a finite number of milliseconds above 0.
    """
    if not (math.isfinite(latency_ms) and latency_ms > 0):
        raise ConfigError(f"a latency must be above 0 ms, got {latency_ms}: report it only if it was measured")
    write_record(folder.latency, Latency(float(latency_ms)), durable=False)


def make_checkpoint_dir(folder: TrialFolder) -> Path:
    """Return the folder for the trial's checkpoints, creating it if needed; it is empty for a new trial."""
    folder.checkpoints.mkdir(parents=True, exist_ok=True)
    return folder.checkpoints
