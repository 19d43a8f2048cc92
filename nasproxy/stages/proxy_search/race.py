"""Race of proxy tasks in lockstep of training time: order of the checks, and how far all tasks may train ahead.

Training time is not read from a clock: it is the rated time, steps times the seconds per step measured in the first
checks of each model. A measured speed never changes, so a resumed study makes the same decisions. Times are device
seconds: an hour of training on two devices counts as two hours.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from nasproxy.trials.records import TrialRecord

RATED_CHECKS = 2
"""Checks that a trial's speed is measured from; between the first and the second one, start-up is over."""


@dataclass(frozen=True)
class TaskSpeed:
    """Training speed of a proxy task.

    Attributes:
        check_steps: Steps of its checks.
        seconds_per_step: Seconds per step, median over its models.
        devices: Devices of one training.
    """

    check_steps: tuple[int, ...]
    seconds_per_step: float
    devices: int = 1

    def seconds_at(self, step: int) -> float:
        """Compute the rated training time up to a step, in device seconds."""
        return step * self.seconds_per_step * self.devices

    def last_check_within(self, seconds: float) -> int:
        """Return the step of the last check within a rated time; the first check if none is."""
        within = [step for step in self.check_steps if self.seconds_at(step) <= seconds]
        return within[-1] if within else self.check_steps[0]


def find_rated_step(check_steps: Sequence[int]) -> int:
    """Return the step up to which a trial must train before its speed is measured."""
    return check_steps[min(RATED_CHECKS, len(check_steps)) - 1]


def measure_speed(check_steps: tuple[int, ...], records: Sequence[TrialRecord], devices: int = 1) -> TaskSpeed | None:
    """Measure the speed of a proxy task.

    Args:
        check_steps: Steps of its checks.
        records: Records of its first models.
        devices: Devices of one training.

    Returns:
        The speed; None while a model has neither reached the rated step nor failed, or if all failed too early.
    """
    until = find_rated_step(check_steps)
    if not all(record.is_failed or record.reached(until) for record in records):
        return None
    speeds = [speed for record in records if (speed := _measure_seconds_per_step(record, until)) is not None]
    return TaskSpeed(check_steps, median(speeds), devices) if speeds else None


def _measure_seconds_per_step(record: TrialRecord, until: int) -> float | None:
    # Retries train from scratch, so speed is measured on one training: the first that got far enough.
    rated = max(record.trainings or (record,), key=lambda training: min(training.step, until))
    shown = [check for check in rated.checks if check.step <= until]
    if len(shown) < 2:
        return shown[0].train_seconds / shown[0].step if shown else None
    first, second = shown[-2:]
    return (second.train_seconds - first.train_seconds) / (second.step - first.step)


def find_earliest(next_seconds: Mapping[str, float]) -> str:
    """Return the task whose next check has the shortest rated time; the first in the grid among equals."""
    return min(next_seconds, key=lambda name: next_seconds[name])


def find_horizon(next_seconds: float, start_seconds: float, growth: float) -> float:
    """Return the rated time up to which all tasks may train before the next look: the end of the current rung.

    Rungs end at `start_seconds` times powers of `growth`.

    Args:
        next_seconds: Rated training time of the next check to judge.
        start_seconds: End of the first rung.
        growth: Ratio between the ends of two successive rungs, above 1.
    """
    if next_seconds <= start_seconds:
        return start_seconds
    rung = math.ceil(math.log(next_seconds / start_seconds) / math.log(growth) - 1e-9)
    return start_seconds * growth**rung
