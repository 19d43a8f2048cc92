"""What becomes of a trial: what is asked of it, how it stands, its checks, and the names of its files."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property


class State(str, enum.Enum):
    """Where a trial stands."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"


class Cause(str, enum.Enum):
    """Why a trial failed; the first two are the model's own fault."""

    OOM = "oom"
    NAN = "nan"
    CRASH = "crash"
    LOST = "lost"

    @property
    def is_models_fault(self) -> bool:
        """Whether another attempt would end the same way."""
        return self in (Cause.OOM, Cause.NAN)


@dataclass(frozen=True)
class Check:
    """One validation of a trial: a point of its learning curve.

    Attributes:
        step: Finished optimizer steps.
        score: Validation metric, higher is better.
        train_seconds: Training time up to here over all attempts, validation excluded.
    """

    step: int
    score: float
    train_seconds: float


@dataclass(frozen=True)
class Request:
    """What the controller asks of a trial; only controllers write it.

    Attributes:
        until_step: Stop at the first check at or after this step; None runs to the end.
        stop: Stop at the next check.
        lease: File whose lease says that the controller lives; without it the trial stops at its next check.
    """

    until_step: int | None = None
    stop: bool = False
    lease: str | None = None


@dataclass(frozen=True)
class Status:
    """What became of a trial; only its worker writes it while one lives.

    Attributes:
        state: Where it stands; failed is final, a failure that will be tried again is pending.
        failures: Attempts in a row that failed without a new check.
        failed_at_step: The last check that was there when it failed last; None before it ever did.
        wall_seconds: Time of all its workers that ended, start-up, validation and lost work included.
        started_at: When the living worker began, in seconds since 1970.
        threads: CPU threads it began with, and keeps: another number of them gives other last bits.
        cause: Why it failed last.
        message: That failure's own words.
    """

    state: State = State.PENDING
    failures: int = 0
    failed_at_step: int | None = None
    wall_seconds: float = 0.0
    started_at: float | None = None
    threads: int | None = None
    cause: Cause | None = None
    message: str | None = None

    def failed(self, cause: Cause, message: str, *, step: int, max_attempts: int) -> "Status":
        """The status after one more failure: pending while another attempt is allowed and could help.

        An attempt that got further than the one before counts as the first again: a trial that is often lost,
        but moves, is never given up.
        """
        has_moved = self.failed_at_step is None or step > self.failed_at_step
        failures = 1 if has_moved else self.failures + 1
        retry = not cause.is_models_fault and failures < max_attempts
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
    """Another trial in place of one that failed.

    Attributes:
        key: The other trial.
        cause: Why the one before it failed.
        change: What the other one does differently, in words.
    """

    key: str
    cause: Cause
    change: str


@dataclass(frozen=True)
class TrialRecord:
    """What is known of a trial: its status, and its checks in order of steps.

    Attributes:
        status: What became of it.
        checks: Its learning curve.
        retries: The trials that stand in for it, each for the one before.
        trainings: What it and each that stands in for it did alone; empty where it was read alone.
    """

    status: Status = field(default_factory=Status)
    checks: tuple[Check, ...] = ()
    retries: tuple[RetryLink, ...] = ()
    trainings: tuple["TrialRecord", ...] = field(default=(), compare=False, repr=False)

    @property
    def step(self) -> int:
        """The last step that was checked; 0 before the first check."""
        return self.checks[-1].step if self.checks else 0

    @property
    def is_failed(self) -> bool:
        """Whether no more checks will come because it failed."""
        return self.status.state is State.FAILED

    def trained_as(self, key: str) -> str:
        """The key of the last that stands in for the trial of this key, or its own."""
        return self.retries[-1].key if self.retries else key

    def reached(self, step: int) -> bool:
        """Whether there is a check at or after `step`."""
        return self.step >= step

    def check_at(self, step: int) -> Check | None:
        """The check after exactly `step` steps."""
        return self._by_step.get(step)

    @cached_property
    def _by_step(self) -> Mapping[int, Check]:
        return {check.step: check for check in self.checks}

    def is_missing_at(self, step: int) -> bool:
        """Whether it failed before this check for a reason that is not the model's: it then says nothing of it."""
        cause = self.status.cause
        return self.is_failed and self.check_at(step) is None and cause is not None and not cause.is_models_fault

    def has_failed_by(self, step: int) -> bool:
        """Whether the model failed, by its own fault, before it could be checked after `step` steps."""
        return self.is_failed and self.check_at(step) is None and not self.is_missing_at(step)

    @property
    def score(self) -> float | None:
        """The last check's score."""
        return self.checks[-1].score if self.checks else None


def merge_records(records: Sequence[TrialRecord]) -> TrialRecord:
    """One record of a trial and of those that stand in for it.

    The check after so many steps is that of the first of them that got so far: had the training been stopped there,
    the others would never have been begun. So a decision that was taken on it would be taken again. Its training time
    is that of all trainings up to it, for each that was replaced was paid too.

    Args:
        records: What each of them did alone, in order; the first knows those that stand in for it.

    Returns:
        How the last one stands, with the checks of all, and the time of all workers.
    """
    checks: list[Check] = []
    step, paid = 0, 0.0
    for record in records:
        new = [check for check in record.checks if check.step > step]
        checks += [replace(check, train_seconds=check.train_seconds + paid) for check in new] if paid else new
        step = max(step, record.step)
        paid += record.checks[-1].train_seconds if record.checks else 0.0
    return TrialRecord(
        status=replace(records[-1].status, wall_seconds=sum(record.status.wall_seconds for record in records)),
        checks=tuple(checks),
        retries=records[0].retries[: len(records) - 1],
        trainings=tuple(records),
    )
