"""Steps of checks: those that the controller requests, and those that a training's reports lead to expect."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise


def find_requested_step(check_steps: Sequence[int], after: int) -> int:
    """Return the first requested step after a step; the last one if there is none.

    Args:
        check_steps: Requested steps, increasing; the last is the end of training.
        after: A step.

    >>> find_requested_step((10, 20, 25), 10), find_requested_step((10, 20, 25), 25)
    (20, 25)
    """
    return check_steps[min(bisect_right(check_steps, after), len(check_steps) - 1)]


def expect_next_step(reported: Sequence[int], check_steps: Sequence[int]) -> int:
    """Return the step at which a training is expected to report next, at most the end of training.

    A training that has reported all requested steps so far is expected to continue so; another one to report again
    after the smallest distance between its reports.

    Args:
        reported: Steps reported so far, above 0, increasing.
        check_steps: Requested steps, increasing; the last is the end of training.

    >>> expect_next_step((10, 20), (10, 20, 25)), expect_next_step((16, 32), (10, 20, 30, 40, 50, 60))
    (25, 48)
    """
    if tuple(reported) == tuple(check_steps[: len(reported)]):
        return check_steps[min(len(reported), len(check_steps) - 1)]
    distance = min(after - before for before, after in pairwise((0, *reported)))
    return min(reported[-1] + distance, check_steps[-1])
