"""Steps at which the models of a task can be compared, because all of them have reported there. Pure functions."""

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence

from nasproxy.errors import StageStoppedError
from nasproxy.trials.records import TrialRecord

PROBED_SHARE = 0.25
"""Share of training by which the first two models must have reported at a common step."""
LEAST_COMMON_SHARE = 0.2
"""Share of the steps of the model with fewer reports that the other one must have, too; fewer coincide by chance."""
SHOWN_STEPS = 5
"""Number of reported steps of a model that an error shows."""


def list_common_steps(records: Sequence[TrialRecord], after: int = 0) -> Iterator[int]:
    """Yield the steps above 0 at which each model has a check, or had failed before, in increasing order.

    Later checks add no common step below the settled step (`find_settled_step`) and remove none.

    Args:
        records: Records of the models.
        after: Yield only steps above this one.
    """
    alive = next((record for record in records if not record.is_failed), None)
    if alive is not None:
        first = bisect_right(alive.checks, max(after, 0), key=lambda check: check.step)
        steps = [check.step for check in alive.checks[first:]]
    else:
        steps = sorted({check.step for record in records for check in record.checks if check.step > max(after, 0)})
    for step in steps:
        if all(record.check_at(step) is not None or record.has_ended_before(step) for record in records):
            yield step


def find_settled_step(records: Sequence[TrialRecord]) -> int:
    """Return the step that all models which train have reached; the last reported one if all have failed."""
    alive = [record.step for record in records if not record.is_failed]
    return min(alive) if alive else max((record.step for record in records), default=0)


def probe_common_steps(records: Mapping[str, TrialRecord], total_steps: int) -> dict[str, int]:
    """Return how far the first two models must train to show that they report at common steps.

    Models can only be compared at steps that all of them report. A trainer that validates at other steps in each
    training, such as every minute, is found by two models and a quarter of their training.

    Args:
        records: Records of models under the same setting, by key, in the order in which they train.
        total_steps: Steps of the whole training.

    Returns:
        Steps to reach, by key; empty if enough of their steps are common, or if there are no two models.

    Raises:
        StageStoppedError: The two have trained so far, and at most a fifth of their steps are common.
    """
    quarter = math.ceil(PROBED_SHARE * total_steps)
    pair = [key for key, record in records.items() if not record.is_failed or record.reached(quarter)][:2]
    reported = [[check.step for check in records[key].trained_checks] for key in pair]
    if len(pair) < 2 or _share_common(*reported) > LEAST_COMMON_SHARE:
        return {}
    waiting = {key: quarter for key in pair if not records[key].reached(quarter)}
    if not waiting:
        shown = " and ".join(f"{_show_steps(steps)} of trial {key}" for key, steps in zip(pair, reported, strict=True))
        raise StageStoppedError(
            f"models are compared at steps that all of them report, and the first two share too few: steps "
            f"{shown}. Validate at fixed steps, such as trial.check_steps or the ends of whole epochs, and start "
            f"another study with study=NAME"
        )
    return waiting


def _share_common(first: Sequence[int], second: Sequence[int]) -> float:
    """Return the share of common steps among those up to the end of the shorter record, of the one with fewer."""
    end = min(first[-1], second[-1]) if first and second else 0
    steps = [{step for step in each if step <= end} for each in (first, second)]
    fewer = min(map(len, steps))
    return len(steps[0] & steps[1]) / fewer if fewer else 0.0


def _show_steps(steps: Sequence[int]) -> str:
    return ", ".join(map(str, steps[:SHOWN_STEPS])) + (", ..." if len(steps) > SHOWN_STEPS else "")
