"""Records of a trial: the controller's request, the status, the checks, and the links to its retries."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

CRASHES_BY_CHECKPOINT = 2
"""Consecutive crashes without a new check after which a trial's checkpoint is no longer loaded."""


class State(str, enum.Enum):
    """State of a trial."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"


class Cause(str, enum.Enum):
    """Why a trial failed: out of memory, a non-finite loss (both deterministic), a crash, a lost worker, or the setup.

    The setup is what all models share: configuration, data, and the trainer's contract. Its failure stops the study.
    """

    OOM = "oom"
    NAN = "nan"
    CRASH = "crash"
    LOST = "lost"
    SETUP = "setup"

    @property
    def is_models_fault(self) -> bool:
        """Whether the failure is a result of the model, which another attempt would repeat."""
        return self in (Cause.OOM, Cause.NAN)

    @property
    def may_pass(self) -> bool:
        """Whether another attempt at the same trial may succeed."""
        return self in (Cause.CRASH, Cause.LOST)


@dataclass(frozen=True)
class Check:
    """One validation of a trial: a point of its learning curve.

    Attributes:
        step: Finished optimizer steps; a check at step 0, before training, is recorded and never judged.
        score: Value of the study's metric, as reported: `Objective` knows which direction is better.
        train_seconds: Cumulative training time over all attempts up to this check, in seconds, validation excluded.
        metrics: All reported metrics by name; None for one that was not finite.
        reported_at: When it was recorded, in seconds since 1970; None if unknown.
    """

    step: int
    score: float
    train_seconds: float
    metrics: Mapping[str, float | None] = field(default_factory=dict, compare=False)
    reported_at: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class TrialPurpose:
    """What a trial was first created for.

    Attributes:
        stage: Name of the stage.
        task: Name of the proxy task; None without one.
    """

    stage: str
    task: str | None = None


@dataclass(frozen=True)
class Request:
    """The controller's request to a trial's worker; only controllers write it.

    Attributes:
        until_step: Stop at the first check at or after this step; None runs to the end.
        stop: Stop at the next check.
        lease: Lock file of the controller; the trial stops at its next check once nobody holds it.
    """

    until_step: int | None = None
    stop: bool = False
    lease: str | None = None


@dataclass(frozen=True)
class Status:
    """Status of a trial; while a worker is alive, only this worker writes it.

    Attributes:
        state: State of the trial: `FAILED` is final; a failed attempt that will be repeated leaves it `PENDING`.
        failures: Consecutive attempts that failed without a new check.
        failed_at_step: Step of the last check before the last failure; None if no attempt has failed.
        wall_seconds: Wall time of all ended workers, in seconds; includes start-up, validation and lost work.
        started_at: When the current worker started, in seconds since 1970; None without one.
        threads: CPU threads of the first attempt; later attempts use as many, because the thread count changes
            floating-point results.
        cause: Cause of the last failure.
        message: Error message of the last failure.
        generation: Generation of the lease of the process that wrote it.
    """

    state: State = State.PENDING
    failures: int = 0
    failed_at_step: int | None = None
    wall_seconds: float = 0.0
    started_at: float | None = None
    threads: int | None = None
    cause: Cause | None = None
    message: str | None = None
    generation: int = field(default=0, compare=False)

    @property
    def is_settled(self) -> bool:
        """Whether the trial has ended or paused, so that no more checks follow unless another attempt begins."""
        return self.state in (State.DONE, State.FAILED, State.PAUSED)

    @property
    def suspects_checkpoint(self) -> bool:
        """Whether the next attempt should not load the checkpoint: the last two crashed with it, without a new check.

        A lost worker says nothing about the checkpoint, because it may have been killed by anything.
        """
        return self.cause is Cause.CRASH and self.failures >= CRASHES_BY_CHECKPOINT

    def failed(self, cause: Cause, message: str, *, step: int, max_attempts: int) -> "Status":
        """Return the status after one more failed attempt.

        The count restarts at 1 if the attempt made a new check, so that a trial that is often lost, but makes
        progress, is never abandoned.

        Args:
            cause: Why the attempt failed.
            message: Its error message.
            step: Step of the trial's last check; 0 if it has none.
            max_attempts: Consecutive failures without a new check after which the trial fails.

        Returns:
            A pending status if another attempt is allowed and can succeed, else a failed one.
        """
        has_moved = self.failed_at_step is None or step > self.failed_at_step
        failures = 1 if has_moved else self.failures + 1
        retry = cause.may_pass and failures < max_attempts
        return replace(
            self,
            state=State.PENDING if retry else State.FAILED,
            failures=failures,
            failed_at_step=step,
            started_at=None,
            cause=cause,
            message=message,
        )


@dataclass(frozen=True)
class RetryLink:
    """Link from a failed trial to its retry.

    Attributes:
        key: Key of the retry.
        cause: Why the trial before it failed.
        change: What the retry does differently, as text.
    """

    key: str
    cause: Cause
    change: str


@dataclass(frozen=True)
class TrialRecord:
    """Status and checks of a trial, merged with those of its retries.

    Attributes:
        status: Status of the trial, or of its last retry.
        checks: Learning curve, in order of steps.
        retries: Its retries, each for the trial before.
        trainings: Unmerged records of the trial and of each retry; empty for a record that was not merged.
    """

    status: Status = field(default_factory=Status)
    checks: tuple[Check, ...] = ()
    retries: tuple[RetryLink, ...] = ()
    trainings: tuple["TrialRecord", ...] = field(default=(), compare=False, repr=False)

    @property
    def step(self) -> int:
        """Step of the last check; 0 before the first one."""
        return self.checks[-1].step if self.checks else 0

    @property
    def trained_checks(self) -> tuple[Check, ...]:
        """Checks after at least one training step; decisions use these only."""
        return tuple(check for check in self.checks if check.step > 0)

    @property
    def is_failed(self) -> bool:
        """Whether the trial failed for good, so that no more checks follow."""
        return self.status.state is State.FAILED

    @property
    def has_ended(self) -> bool:
        """Whether the trial is done or failed for good: no worker runs it any more."""
        return self.status.state in (State.DONE, State.FAILED)

    def trained_as(self, key: str) -> str:
        """Return the key of the last retry, or `key`, the trial's own, if it has none."""
        return self.retries[-1].key if self.retries else key

    def reached(self, step: int) -> bool:
        """Return whether there is a check at or after `step`."""
        return self.step >= step

    def check_at(self, step: int) -> Check | None:
        """Return the check after exactly `step` steps; None if there is none."""
        return self._by_step.get(step)

    @cached_property
    def _by_step(self) -> Mapping[int, Check]:
        return {check.step: check for check in self.checks}

    def has_ended_before(self, step: int) -> bool:
        """Return whether the trial failed for good before this step."""
        return self.is_failed and not self.reached(step)

    def is_missing_at(self, step: int) -> bool:
        """Return whether the trial failed before this step, not by the model's fault: its score is unknown."""
        cause = self.status.cause
        return self.has_ended_before(step) and cause is not None and not cause.is_models_fault

    def has_failed_by(self, step: int) -> bool:
        """Return whether the trial ran out of memory or diverged before this step."""
        return self.has_ended_before(step) and not self.is_missing_at(step)

    @property
    def score(self) -> float | None:
        """Score of the last check; None before the first one."""
        return self.checks[-1].score if self.checks else None


def merge_records(records: Sequence[TrialRecord]) -> TrialRecord:
    """Merge the records of a trial and its retries.

    The check at each step comes from the first training that reached it: if training had been stopped there, no retry
    would have been started, so decisions made on this check stay the same. Its training time includes the failed
    trainings before, because they were paid for too.

    Args:
        records: Unmerged records of the trial and each retry, in order; the first one holds the links to the retries.

    Returns:
        A record with the status of the last training, the checks of all, and the wall time of all workers.
    """
    checks: list[Check] = []
    paid = 0.0
    for record in records:
        step = checks[-1].step if checks else -1
        new = [check for check in record.checks if check.step > step]
        checks += [replace(check, train_seconds=check.train_seconds + paid) for check in new] if paid else new
        paid += record.checks[-1].train_seconds if record.checks else 0.0
    return TrialRecord(
        status=replace(records[-1].status, wall_seconds=sum(record.status.wall_seconds for record in records)),
        checks=tuple(checks),
        retries=records[0].retries[: len(records) - 1],
        trainings=tuple(records),
    )
