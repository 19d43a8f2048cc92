"""Schedules the trials of a stage: submits them to a backend, asks them to stop, and follows their records."""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from nasproxy.errors import CorruptTrialError, NasproxyError
from nasproxy.execution.attempts import settle
from nasproxy.execution.backends.backend import Backend
from nasproxy.execution.work_order import OrderTemplate, WorkOrder
from nasproxy.stages.retries import RetryChain, RetryPolicy, refuse_setup_failure, retry_nothing
from nasproxy.storage.trial_stores import TrialStore
from nasproxy.tracking.events import Noted, describe_start, describe_trial
from nasproxy.tracking.tracker import Tracker
from nasproxy.trials.clock import Clock, SystemClock
from nasproxy.trials.records import Request, State, TrialPurpose, TrialRecord
from nasproxy.trials.spec import TrialSpec

Records = Mapping[str, TrialRecord]

FAILURE_SHARE = 0.01
"""Share of the awaited trials (at least one) that may fail before the stage decides again."""
PROGRESS_SHARE = 0.1
"""Updates of trial records, as a share of all trials, after which progress is reported, because that reads them all."""
CANCEL_SECONDS = 30.0
"""Longest wait for the ends of cancelled trials; the job closes its backend at its end, with what has not ended."""


@dataclass(frozen=True)
class Train:
    """Train trials up to a step each; all other running trials are stopped.

    Attributes:
        until: Step to reach, by trial key, in order of priority.
        awaited: Steps, by trial key, that the next decision needs; None for all of `until`.
        to_end: Whether trials must also end: one that crashes after it reached its step gets its other attempts.
    """

    until: Mapping[str, int]
    awaited: Mapping[str, int] | None = None
    to_end: bool = False


@dataclass(frozen=True)
class Runtime:
    """Resources with which the controller runs a stage's trials.

    Attributes:
        store: Store of the trials.
        backend: Backend that runs them.
        tracker: Tracker that receives progress, decisions and trials.
        orders: Template of the study's work orders.
        retry_policy: Retries for out-of-memory and diverged trials.
        lock: Lock file of this process; trials stop when it is released. None for trials that run on.
        poll_seconds: Seconds between two polls for new checks.
        grace_seconds: Seconds that trials get to reach their next check at the end of a stage, before they are killed.
        stop_at_setup_failure: Whether a trial that failed in a way in which one of any model would fail ends the stage;
            a confirmation judges such trials itself.
        clock: Source of time.
    """

    store: TrialStore
    backend: Backend
    tracker: Tracker
    orders: OrderTemplate
    retry_policy: RetryPolicy = retry_nothing
    lock: Path | None = None
    poll_seconds: float = 0.25
    grace_seconds: float = 10.0
    stop_at_setup_failure: bool = True
    clock: Clock = field(default_factory=SystemClock)


class _PendingSteps:
    """The steps that trials still have to reach before the stage can decide."""

    def __init__(self, action: Train, records: Records) -> None:
        steps = action.until if action.awaited is None else action.awaited
        self._to_end = action.to_end
        self._pending = {k: step for k, step in steps.items() if not _is_settled(records[k], step, self._to_end)}
        # A failure may change the decision, but deciding after each one would read all trials too often.
        self._failures_left = max(1, round(FAILURE_SHARE * len(self._pending)))

    def update(self, key: str, record: TrialRecord) -> None:
        """Update a trial from its record."""
        if key in self._pending and _is_settled(record, self._pending[key], self._to_end):
            del self._pending[key]
            self._failures_left -= record.is_failed

    @property
    def is_over(self) -> bool:
        """Whether the stage should decide now."""
        return not self._pending or self._failures_left <= 0


def _is_settled(record: TrialRecord, step: int, to_end: bool) -> bool:
    return record.has_ended or (record.reached(step) and not to_end)


class TrialScheduler:
    """Schedules a stage's trials and caches their records.

    Stages know a trial by the key of its specification; the backend may train a retry of it under another key.
    """

    def __init__(self, runtime: Runtime, purpose: Callable[[TrialSpec], TrialPurpose]) -> None:
        """Start without trials.

        Args:
            runtime: Store, backend, tracker and timing.
            purpose: Returns what a trial of the stage is created for.
        """
        self._runtime = runtime
        self._purpose = purpose
        self._chains: dict[str, RetryChain] = {}
        self._records: dict[str, TrialRecord] = {}
        # The dictionaries below are keyed by the trial that trains, which may be a retry.
        self._originals: dict[str, set[str]] = {}
        self._specs: dict[str, TrialSpec] = {}
        self._orders: dict[str, WorkOrder] = {}
        self._submitted: dict[str, int] = {}  # generation of the status at the submission
        self._requests: dict[str, Request] = {}
        self._live: set[str] = set()
        self._cancelled: set[str] = set()
        self._damaged: dict[str, CorruptTrialError] = {}  # by the key of the original trial
        runtime.store.news()  # what changed before is read when a stage first asks for a trial

    def records(self, specs: Sequence[TrialSpec]) -> Records:
        """Return records by key; only records that have changed are read again."""
        for spec in specs:
            if spec.key not in self._chains:
                self._chains[spec.key] = RetryChain(spec, self._purpose(spec))
                self._refresh(spec.key)
                for trained in () if spec.key in self._damaged else self._chains[spec.key].specs:
                    record = self._runtime.store.read_alone(trained.key)
                    if record.checks or record.is_failed:
                        # It may have ended while no controller ran; trackers ignore records they have.
                        self._send_trial(trained, record, self._chains[spec.key])
                self._check_setup(spec.key)
        return {spec.key: self._records[spec.key] for spec in specs}

    def running(self) -> set[str]:
        """Return the keys of the trials that train, by their records."""
        return {key for key in self._live if self._is_running(key)}

    def _is_running(self, key: str) -> bool:
        originals = self._originals.get(key, ())
        return any(self._records[original].status.state is State.RUNNING for original in originals)

    def _send_trial(self, spec: TrialSpec, record: TrialRecord, chain: RetryChain) -> None:
        self._runtime.tracker.receive(describe_trial(spec, record, stage=chain.purpose.stage))

    def _check_setup(self, key: str) -> None:
        if self._runtime.stop_at_setup_failure:
            refuse_setup_failure(key, self._records[key])

    def act(self, action: Train) -> Iterator[None]:
        """Train trials until the stage can decide; yields whenever progress should be reported.

        The cost of one poll does not depend on the number of trials in the study.
        """
        for key in self._live - {self._chains[key].current.key for key in action.until}:
            self._stop(key)
        for key in action.until:
            self._submit(key, action)
        awaited = _PendingSteps(action, self._records)
        updates = 0
        while True:
            updated, ended = self._wait(self._runtime.poll_seconds)
            for key in updated:
                self._check_setup(key)
                awaited.update(key, self._records[key])
            if awaited.is_over:
                return
            for key in ended & action.until.keys():
                # It was lost, cancelled, paused by another job of a sweep, or failed and has a retry.
                self._submit(key, action)
            updates += len(updated)
            if updates >= PROGRESS_SHARE * len(self._records):
                updates = 0
                yield

    @contextmanager
    def stop_trials_at_end(self) -> Iterator[None]:
        """Stop or cancel all trials when the block ends, also after an error, which stays the one that is raised."""
        try:
            yield
        except BaseException:
            with suppress(NasproxyError):
                self._stop_all()
            raise
        self._stop_all()

    @property
    def _lock(self) -> str | None:
        return None if self._runtime.lock is None else str(self._runtime.lock)

    def _stop_all(self) -> None:
        try:
            deadline = self._runtime.clock.now() + self._runtime.grace_seconds
            while self._live and self._runtime.clock.now() < deadline:
                for key in self._live:
                    self._stop(key)
                self._wait(self._runtime.poll_seconds)
        finally:
            self._cancel_all()

    def _cancel_all(self) -> None:
        for key in self._live:
            self._cancel(key)
        deadline = self._runtime.clock.now() + CANCEL_SECONDS
        while self._live and self._runtime.clock.now() < deadline:
            self._wait(self._runtime.poll_seconds)

    def _stop(self, key: str) -> None:
        """Stop a trial at its next check, or at once if it does not train yet."""
        if not self._is_running(key):
            self._cancel(key)
            return
        try:
            self._send_request(key, Request(stop=True, lease=self._lock))
        except CorruptTrialError:
            self._cancel(key)  # it cannot be asked; the stage that needs it next sets it aside

    def _cancel(self, key: str) -> None:
        if key not in self._cancelled:
            self._cancelled.add(key)
            self._runtime.backend.cancel(key)

    def _send_request(self, key: str, request: Request) -> None:
        if self._requests.get(key) != request:
            self._runtime.store.request(key, request)
            self._requests[key] = request

    def _submit(self, key: str, action: Train) -> None:
        """Submit a trial, unless it has reached its step or has ended."""
        self._begin_damaged_again(key)
        until = action.until[key]
        if _is_settled(self._records[key], until, action.to_end):
            return
        spec = self._chains[key].current
        if spec.key in self._cancelled:
            return  # it is submitted again when it has ended
        try:
            if spec.key not in self._orders:
                digest = self._runtime.store.create(spec, self._chains[key].purpose)
                self._orders[spec.key] = self._runtime.orders.train(spec, digest)
            self._send_request(spec.key, Request(until_step=until, lease=self._lock))
        except CorruptTrialError as error:
            self._damaged[key] = error
            self._submit(key, action)
            return
        if spec.key not in self._live:
            self._live.add(spec.key)
            self._submitted[spec.key] = self._records[key].status.generation
        self._runtime.backend.submit(self._orders[spec.key])

    def _wait(self, seconds: float) -> tuple[set[str], set[str]]:
        """Wait for the backend and return the stage's trials that changed, and those of them that ended.

        The cost depends on what changed, not on how many trials run.
        """
        ended = self._collect_ended(seconds)
        updated = self._find_originals(ended | (self._runtime.store.news() & self._live))
        ended_originals = self._find_originals(ended)
        for key in updated:
            self._refresh(key)
        for key in ended:
            original = min(self._originals[key])
            if original not in self._damaged:
                self._send_trial(self._specs[key], self._runtime.store.read_alone(key), self._chains[original])
        return updated, ended_originals | (updated & self._damaged.keys())

    def _collect_ended(self, seconds: float) -> set[str]:
        """Wait for the backend, count the attempts that ended, and return the keys of their trials."""
        ends = {end.key: end for end in self._runtime.backend.poll(seconds) if end.key in self._live}
        self._live -= ends.keys()
        self._cancelled -= ends.keys()
        for key, end in ends.items():
            self._requests.pop(key, None)  # another job of a sweep may replace the request
            if not end.is_normal:
                self._orders.pop(key, None)  # what its folder holds is looked at before the next attempt
            max_attempts, submitted = self._runtime.orders.max_attempts, self._submitted[key]
            settle(self._runtime.store, end, max_attempts=max_attempts, submitted=submitted)
        return set(ends)

    def _find_originals(self, trained: Set[str]) -> set[str]:
        """Return the keys of the original trials whose current trainings have these keys."""
        return {key for other in trained for key in self._originals.get(other, ())}

    def _set_aside(self, damage: CorruptTrialError) -> None:
        """Set a damaged trial aside, so that it begins again."""
        if damage.key in self._live:
            self._cancel(damage.key)
        self._orders.pop(damage.key, None)
        self._requests.pop(damage.key, None)
        place = self._runtime.store.set_aside(damage.key)
        if place is not None:
            message = f"trial {damage.key} begins again: {damage.reason}. Its files are in {place}"
            self._runtime.tracker.receive(Noted(message))

    def _refresh(self, key: str) -> None:
        """Read the records of a trial and its retries; a damaged one counts as pending, and begins again if trained."""
        chain = self._chains[key]
        try:
            for message in chain.follow(self._runtime.store, self._runtime.retry_policy):
                self._runtime.tracker.receive(Noted(message))
            before, self._records[key] = self._records.get(key), chain.record
            self._damaged.pop(key, None)
            started = describe_start(before, self._records[key], chain.current, stage=chain.purpose.stage)
            if started is not None:
                self._runtime.tracker.receive(started)
        except CorruptTrialError as error:
            self._records[key] = TrialRecord()
            self._damaged[key] = error
        for spec in chain.specs:
            self._specs[spec.key] = spec
            self._originals.setdefault(spec.key, set()).add(key)

    def _begin_damaged_again(self, key: str) -> None:
        """Set what is damaged of a trial and its retries aside, and follow the trial from its beginning."""
        while (damage := self._damaged.pop(key, None)) is not None:
            self._set_aside(damage)
            self._chains[key] = RetryChain(self._chains[key].specs[0], self._chains[key].purpose)
            self._refresh(key)
