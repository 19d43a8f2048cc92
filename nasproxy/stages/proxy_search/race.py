"""Race of proxy tasks in lockstep of training time: order of the looks, and how far all tasks may train ahead.

Training time is not read from a clock: it is the rated time, steps times the seconds per step measured between the
first checks that all models have in common. A measured speed never changes, so a resumed study makes the same
decisions. Times are device seconds: an hour of training on two devices counts as two hours.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median

from nasproxy.stages.common_steps import find_settled_step, list_common_steps
from nasproxy.trials.check_steps import expect_next_step, find_requested_step
from nasproxy.trials.records import Check, TrialRecord

RATED_CHECKS = 2
"""Common checks that a trial's speed is measured from; between the first and the second one, start-up is over."""


@dataclass(frozen=True)
class TaskSpeed:
    """Training speed of a proxy task.

    Attributes:
        check_steps: Requested steps of its checks.
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
        """Return the last requested step within a rated time; the first one if none is."""
        within = [step for step in self.check_steps if self.seconds_at(step) <= seconds]
        return within[-1] if within else self.check_steps[0]


@dataclass(frozen=True)
class NextLook:
    """The next look at a proxy task.

    Attributes:
        step: Its step; the earliest one expected if it is not reported yet.
        is_reported: Whether all models have reported this step, or failed before.
    """

    step: int
    is_reported: bool


def find_next_look(
    looks: Sequence[int], check_steps: Sequence[int], records: Sequence[TrialRecord], *, again: bool = False
) -> NextLook:
    """Find the next look at a proxy task: its first common step after the last look.

    A step that is not reported yet is expected at the next requested step that the models have not reached, or
    earlier where the looks so far show that they report at other steps.

    Args:
        looks: Steps of the looks so far.
        check_steps: Requested steps of its checks.
        records: Records of its models.
        again: Whether the last look is taken again, because models were added; at the next common step if the added
            models do not report there.
    """
    after = (looks[-1] - 1 if again else looks[-1]) if looks else 0
    reported = next(list_common_steps(records, after), None)
    if reported is not None:
        return NextLook(reported, is_reported=True)
    settled = max(find_settled_step(records), after)
    if again and settled < looks[-1]:
        return NextLook(looks[-1], is_reported=False)
    expected = (find_requested_step(check_steps, settled), expect_next_step(looks, check_steps))
    return NextLook(min((step for step in expected if step > settled), default=check_steps[-1]), is_reported=False)


def find_rated_step(check_steps: Sequence[int]) -> int:
    """Return the requested step up to which a trial trains before its speed is measured."""
    return check_steps[min(RATED_CHECKS, len(check_steps)) - 1]


def measure_speed(check_steps: tuple[int, ...], records: Sequence[TrialRecord], devices: int = 1) -> TaskSpeed | None:
    """Measure the speed of a proxy task between its first two common steps, or up to the only one.

    Args:
        check_steps: Requested steps of its checks.
        records: Records of its first models.
        devices: Devices of one training.

    Returns:
        The speed; None while a further common step can come, or if all models failed too early.
    """
    rated = tuple(islice(list_common_steps(records), RATED_CHECKS))
    if len(rated) < RATED_CHECKS and not have_ended(records, check_steps[-1]):
        return None
    speeds = [speed for record in records if (speed := _measure_seconds_per_step(record, rated)) is not None]
    return TaskSpeed(check_steps, median(speeds), devices) if speeds else None


def have_ended(records: Sequence[TrialRecord], total_steps: int) -> bool:
    """Return whether each model has trained to the end or failed."""
    return all(record.is_failed or record.reached(total_steps) for record in records)


def _measure_seconds_per_step(record: TrialRecord, rated: Sequence[int]) -> float | None:
    # Retries train from scratch, so speed is measured on one training: the first that got far enough.
    trainings = record.trainings or (record,)
    shown: list[Check] = max(
        ([check for step in rated if (check := training.check_at(step)) is not None] for training in trainings), key=len
    )
    if len(shown) < 2:
        return shown[0].train_seconds / shown[0].step if shown else None
    first, second = shown
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
