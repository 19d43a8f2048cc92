"""Void confirmations: confirmation runs that say nothing about the verdict, and what to do about them. Pure."""

import enum
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nasproxy.stages.definition import RecordedTrainings
from nasproxy.trials.records import Cause, TrialRecord
from nasproxy.trials.spec import TrialSpec

MIN_DISTINCT_SCORES = 5
"""Distinct scores from which on equality is evidence: a coarse or saturated metric repeats itself by chance."""
UNFINISHED = (Cause.CRASH, Cause.LOST, Cause.SETUP)
"""Causes of failure that say nothing about a model."""
LONGEST_ERROR = 200


class VoidReason(str, enum.Enum):
    """Why a confirmation is void."""

    IDENTICAL_SCORES = "identical scores"
    FAILED_TRIALS = "failed trials"
    NOT_IN_TABLE = "trainings that the table lacks"


@dataclass(frozen=True)
class Void:
    """A void confirmation.

    Attributes:
        reason: Why it is void.
        step: Step at which the schedule of the confirmation runs ends.
        models: Number of models of the verdict.
        needed: Minimum number of models whose runs did not fail in such a way.
        failed: Number of runs that failed by no fault of their models, by cause.
        error: Error message of the first of these; None without one.
        absent: Number of runs that the replayed table lacks.
        schedules: Compressed schedules that the table has of the proxy task.
    """

    reason: VoidReason
    step: int
    models: int
    needed: int
    failed: tuple[tuple[str, int], ...] = ()
    error: str | None = None
    absent: int = 0
    schedules: tuple[int, ...] = ()

    @property
    def description(self) -> str:
        """The reason and its numbers, in a sentence without its full stop."""
        if self.reason is VoidReason.IDENTICAL_SCORES:
            ignored = (
                f"the confirmation runs scored exactly as the proxy search after {self.step:,} steps, although their "
                f"schedule ends there, so the trainer does not use its total number of steps"
            )
            return f"{ignored}; {self._write_failures()}" if self.failed else ignored
        if self.reason is VoidReason.NOT_IN_TABLE:
            return (
                f"the table has trainings on a schedule of {self.step:,} steps for {self.models - self.absent} of "
                f"{self.models} models, and {self.needed} are needed; {_write_schedules(self.schedules)}"
            )
        left = self.models - self._count_failed()
        return f"{left} of at least {self.needed} models are left: {self._write_failures()}"

    @property
    def advice(self) -> str:
        """What to do, in sentences."""
        if self.reason is VoidReason.NOT_IN_TABLE:
            return (
                f"To confirm it, add such trainings to the table, with {self.step} in the column schedule, or leave "
                f"out the checks of this proxy task at which no schedule ends; then use another study=NAME."
            )
        if self.reason is VoidReason.FAILED_TRIALS:
            return (
                "Fix the cause and run the command again: failed runs are retried. If the fix changes scores, raise "
                "trainer.version and use another study=NAME."
            )
        use_total = (
            "Pass the total to the trainer ({total_steps} in trainer.command, trial.total_steps in Python), let "
            "training and schedule end there, raise trainer.version, and use another study=NAME."
        )
        if self.models - self._count_failed() < self.needed:
            return use_total
        return (
            f"{use_total} If the schedule does not depend on the total, as with a constant learning rate, run the "
            f"command again with confirm.allow_identical=true: the proxy search has trained as a search will."
        )

    def _count_failed(self) -> int:
        return sum(number for _, number in self.failed)

    def _write_failures(self) -> str:
        causes = ", ".join(f"{number} {cause}" for cause, number in self.failed)
        error = f", the first with {self.error}" if self.error else ""
        return f"{self._count_failed()} of {self.models} confirmation runs failed ({causes}){error}"


def find_absent(runs: Sequence[TrialSpec], table: RecordedTrainings | None, *, step: int, needed: int) -> Void | None:
    """Find out before any run whether the table of a replay has too few of them.

    Args:
        runs: The confirmation runs.
        table: The table; None for trainings of one's own, which can all run.
        step: Step at which the schedule of the confirmation runs ends.
        needed: Minimum number of models with a run.

    Returns:
        The void confirmation; None if there are enough runs.
    """
    absent = 0 if table is None else sum(not table.has_training(spec) for spec in runs)
    if table is None or len(runs) - absent >= needed:
        return None
    schedules = tuple(table.list_schedules(runs[0]))
    return Void(VoidReason.NOT_IN_TABLE, step, len(runs), needed, absent=absent, schedules=schedules)


def find_void(
    runs: Sequence[TrialRecord], raced: Sequence[TrialRecord], *, step: int, needed: int, allow_identical: bool
) -> Void | None:
    """Find out whether ended confirmation runs are void.

    Runs that crashed, were lost or broke the trainer's contract after their last check have failed too: a program that
    ignores its total reports that check, and then trains on until it is stopped.

    Args:
        runs: Records of the confirmation runs.
        raced: Records of the same models in the proxy search, in the same order.
        step: Step at which the schedule of the confirmation runs ends.
        needed: Minimum number of models whose runs did not fail in such a way.
        allow_identical: Whether all scores may be those of the proxy search.

    Returns:
        Why they are void; None if they are not.
    """
    statuses = [run.status for run in runs if run.is_failed and run.status.cause in UNFINISHED]
    causes = Counter(status.cause.value for status in statuses if status.cause is not None)
    is_identical = not allow_identical and _are_identical(runs, raced, step, needed)
    if not is_identical and len(runs) - len(statuses) >= needed:
        return None
    return Void(
        reason=VoidReason.IDENTICAL_SCORES if is_identical else VoidReason.FAILED_TRIALS,
        step=step,
        models=len(runs),
        needed=needed,
        failed=tuple(causes.most_common()),
        error=next((_shorten(status.message) for status in statuses if status.message), None),
    )


def _are_identical(runs: Sequence[TrialRecord], raced: Sequence[TrialRecord], step: int, needed: int) -> bool:
    """Return whether each model with both scores has the same score in both, and enough models have both."""
    checks = [(run.check_at(step), race.check_at(step)) for run, race in zip(runs, raced, strict=True)]
    scores = [(new.score, old.score) for new, old in checks if new is not None and old is not None]
    is_coarse = len({old for _, old in scores}) < MIN_DISTINCT_SCORES
    return len(scores) >= needed and not is_coarse and all(new == old for new, old in scores)


def _write_schedules(schedules: Sequence[int]) -> str:
    if not schedules:
        return "it has no compressed schedules of this proxy task"
    listed = ", ".join(f"{steps:,}" for steps in schedules)
    return f"its compressed schedules of this proxy task end after {listed} steps"


def _shorten(message: str) -> str:
    """Write an error message, which may contain a program's output, as one short line of printable characters."""
    line = " ".join("".join(character if character.isprintable() else " " for character in message).split())
    return line if len(line) <= LONGEST_ERROR else f"{line[:LONGEST_ERROR]}..."
