"""A race of proxy tasks in lockstep of training time: whose next check comes first, and how far all may run ahead.

Time is not read from a clock but rated: steps times the seconds per step that each model's trial showed first. These
never change once they are on record, so a study that is resumed races as it did before. It is time of devices: a
training on two of them for an hour takes two.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from nasproxy.trials.records import TrialRecord

RATED_CHECKS = 2
"""Checks from which a trial's speed is taken: between the first and the second it is warm."""


@dataclass(frozen=True)
class TaskSpeed:
    """How fast a proxy task's models train.

    Attributes:
        check_steps: The steps of its checks.
        seconds_per_step: Median over its models.
        devices: That one training is spread over.
    """

    check_steps: tuple[int, ...]
    seconds_per_step: float
    devices: int = 1

    def seconds_at(self, step: int) -> float:
        """Rated training time up to a step, of all devices together."""
        return step * self.seconds_per_step * self.devices

    def last_check_within(self, seconds: float) -> int:
        """The last check up to which training takes no longer; the first check where none is so early."""
        within = [step for step in self.check_steps if self.seconds_at(step) <= seconds]
        return within[-1] if within else self.check_steps[0]


def find_rated_step(check_steps: Sequence[int]) -> int:
    """The step up to which a trial must be trained for its speed to be known."""
    return check_steps[min(RATED_CHECKS, len(check_steps)) - 1]


def measure_speed(check_steps: tuple[int, ...], records: Sequence[TrialRecord], devices: int = 1) -> TaskSpeed | None:
    """The pace of a proxy task, from trials of its first models on so many devices each.

    Returns:
        The pace, or None while a model that has not failed has still to show its speed, or where none ever did.
    """
    until = find_rated_step(check_steps)
    if not all(record.is_failed or record.reached(until) for record in records):
        return None
    speeds = [speed for record in records if (speed := _seconds_per_step(record, until)) is not None]
    return TaskSpeed(check_steps, median(speeds), devices) if speeds else None


def _seconds_per_step(record: TrialRecord, until: int) -> float | None:
    # A training that stands in for another begins anew: speed is that of one alone, the first to come so far.
    alone = max(record.trainings or (record,), key=lambda training: min(training.step, until))
    shown = [check for check in alone.checks if check.step <= until]
    if len(shown) < 2:
        return shown[0].train_seconds / shown[0].step if shown else None
    first, second = shown[-2:]
    return (second.train_seconds - first.train_seconds) / (second.step - first.step)


def find_earliest(next_seconds: Mapping[str, float]) -> str:
    """The task whose next check comes first; of those at the same time the first of the grid."""
    return min(next_seconds, key=lambda name: next_seconds[name])


def find_horizon(next_seconds: float, start_seconds: float, growth: float) -> float:
    """The end of the rung that a moment lies in: how far all tasks may train before the next judgement.

    Args:
        next_seconds: Rated training time of the check that is to be judged next.
        start_seconds: Where the first rung ends.
        growth: How many times longer each rung ends than the one before, above 1.
    """
    if next_seconds <= start_seconds:
        return start_seconds
    rung = math.ceil(math.log(next_seconds / start_seconds) / math.log(growth) - 1e-9)
    return start_seconds * growth**rung
