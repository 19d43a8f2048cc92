"""The loop that runs a stage: decide, act, record. A fresh start and a resume take the same path."""

from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from nasproxy.execution.backends.backend import Backend
from nasproxy.stages.retries import RetryChain, RetryPolicy, refuse_setup_failure, retry_nothing
from nasproxy.storage.trial_stores import TrialStore
from nasproxy.tracking.events import (
    DecisionTaken,
    Look,
    LookTaken,
    Noted,
    Progress,
    StageEnded,
    StageProgressed,
    StageStarted,
    describe_trial,
)
from nasproxy.tracking.tracker import Tracker
from nasproxy.trials.clock import Clock, SystemClock
from nasproxy.trials.records import Request, TrialRecord
from nasproxy.trials.spec import TrialSpec

S = TypeVar("S")
Records = Mapping[str, TrialRecord]

FAILURE_SHARE = 0.01
"""Share of the awaited trials (at least one) that may fail before the stage decides again."""
PROGRESS_SHARE = 0.1
"""Updates of trial records, as a share of all trials, after which progress is reported, because that reads them all."""


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
class Decide(Generic[S]):
    """Record a decision.

    Attributes:
        state: The state after the decision.
        message: Description for the log; None to log nothing.
        look: The look that it is based on, if any.
    """

    state: S
    message: str | None = None
    look: Look | None = None


class Stage(Protocol[S]):
    """A resumable decision loop over trials, run by `run_stage`."""

    name: str

    def load(self) -> S:
        """Read the stored state, or make a fresh one."""
        ...

    def save(self, state: S) -> S:
        """Store the state atomically and return it, merged with decisions of other controllers."""
        ...

    def specs(self, state: S) -> Sequence[TrialSpec]:
        """List the trials whose records the next decision needs."""
        ...

    def next_action(self, state: S, records: Records) -> Train | Decide[S] | None:
        """Return the next action, or None if the stage has ended. Pure: reads no file and no clock.

        Args:
            state: Decisions so far.
            records: Records of the trials in `specs(state)`, by key.

        Raises:
            StageStoppedError: The stage cannot reach a result.
        """
        ...

    def progress(self, state: S, records: Records) -> Progress:
        """Summarise the stage's progress for display."""
        ...


@dataclass(frozen=True)
class Runtime:
    """Resources with which the controller runs a stage.

    Attributes:
        store: Store of the trials.
        backend: Backend that runs them.
        tracker: Tracker that receives the events of the stage.
        retry_policy: Retries for out-of-memory and diverged trials.
        lease: Lease file of this process; trials stop when it is released. None for trials that run on.
        poll_seconds: Seconds between two polls for new checks.
        grace_seconds: Seconds that trials get to reach their next check at the end of a stage, before they are killed.
        stop_at_setup_failure: Whether a trial that failed in a way in which one of any model would fail ends the stage;
            a confirmation judges such trials itself.
        clock: Source of time.
    """

    store: TrialStore
    backend: Backend
    tracker: Tracker
    retry_policy: RetryPolicy = retry_nothing
    lease: Path | None = None
    poll_seconds: float = 0.25
    grace_seconds: float = 10.0
    stop_at_setup_failure: bool = True
    clock: Clock = field(default_factory=SystemClock)


def run_stage(stage: Stage[S], runtime: Runtime) -> S:
    """Run a stage to its end, starting from its stored state.

    Args:
        stage: The stage.
        runtime: Store, backend, tracker and timing.

    Returns:
        The final state.

    Raises:
        StageStoppedError: The stage cannot reach a result.
        SetupFailedError: A trial failed in a way in which a trial of any model would fail.
    """
    scheduler, send = _TrialScheduler(runtime, stage.name), runtime.tracker.receive
    send(StageStarted(stage.name))
    with scheduler.stop_trials_at_end():
        state = _decide_to_end(stage, runtime, scheduler)
    send(StageEnded(stage.name))
    return state


def _decide_to_end(stage: Stage[S], runtime: Runtime, scheduler: "_TrialScheduler") -> S:
    """Decide, act and record until there is nothing left to do; return the final state."""
    send = runtime.tracker.receive
    state = stage.load()
    while True:
        specs = stage.specs(state)
        records = scheduler.records(specs)
        send(StageProgressed(stage.progress(state, records), len(runtime.backend.running())))
        action = stage.next_action(state, records)
        if action is None:
            return stage.save(state)
        if isinstance(action, Decide):
            state = stage.save(action.state)
            if action.look is not None:
                send(LookTaken(stage.name, action.look))
            send(DecisionTaken(stage.name, action.message))
            continue
        for _ in scheduler.act(action):
            progress = stage.progress(state, scheduler.records(specs))
            send(StageProgressed(progress, len(runtime.backend.running())))


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


class _TrialScheduler:
    """Schedules a stage's trials and caches their records.

    Stages know a trial by the key of its specification; the backend may train a retry of it under another key.
    """

    def __init__(self, runtime: Runtime, stage: str) -> None:
        self._runtime = runtime
        self._stage = stage
        self._chains: dict[str, RetryChain] = {}
        self._records: dict[str, TrialRecord] = {}
        # The dictionaries below are keyed by the trial that trains, which may be a retry.
        self._originals: dict[str, set[str]] = {}
        self._specs: dict[str, TrialSpec] = {}
        self._digests: dict[str, str] = {}
        self._requests: dict[str, Request] = {}

    def records(self, specs: Sequence[TrialSpec]) -> Records:
        """Return records by key; only records of running trials are read again."""
        for spec in specs:
            if spec.key not in self._chains:
                self._chains[spec.key] = RetryChain(spec)
                self._refresh(spec.key)
                for trained in self._chains[spec.key].specs:
                    record = self._runtime.store.read_alone(trained.key)
                    if record.checks or record.is_failed:
                        # It may have ended while no controller ran; trackers ignore records they have.
                        self._send_trial(trained, record)
                self._check_setup(spec.key)
        return {spec.key: self._records[spec.key] for spec in specs}

    def _send_trial(self, spec: TrialSpec, record: TrialRecord) -> None:
        self._runtime.tracker.receive(describe_trial(spec, record, stage=self._stage))

    def _check_setup(self, key: str) -> None:
        if self._runtime.stop_at_setup_failure:
            refuse_setup_failure(key, self._records[key])

    def act(self, action: Train) -> Iterator[None]:
        """Train trials until the stage can decide; yields whenever progress should be reported.

        The cost of one poll does not depend on the number of trials in the study.
        """
        for key in self._runtime.backend.live() - {self._chains[key].current.key for key in action.until}:
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
            for key in ended & set(action.until):
                # It was lost, paused by another job of a sweep, or failed and has a retry.
                self._submit(key, action)
            updates += len(updated)
            if updates >= PROGRESS_SHARE * len(self._records):
                updates = 0
                yield

    @contextmanager
    def stop_trials_at_end(self) -> Iterator[None]:
        """Stop or cancel all trials when the block ends, also after an error."""
        try:
            yield
        finally:
            backend = self._runtime.backend
            deadline = self._runtime.clock.now() + self._runtime.grace_seconds
            while backend.live() and self._runtime.clock.now() < deadline:
                for key in backend.live():
                    self._stop(key)
                self._wait(self._runtime.poll_seconds)
            for key in backend.live():
                backend.cancel(key)

    @property
    def _lease(self) -> str | None:
        return None if self._runtime.lease is None else str(self._runtime.lease)

    def _stop(self, key: str) -> None:
        if key in self._runtime.backend.running():
            self._send_request(key, Request(stop=True, lease=self._lease))
        else:
            self._runtime.backend.cancel(key)

    def _send_request(self, key: str, request: Request) -> None:
        if self._requests.get(key) != request:
            self._runtime.store.request(key, request)
            self._requests[key] = request

    def _submit(self, key: str, action: Train) -> None:
        """Submit a trial, unless it has reached its step or has ended."""
        until = action.until[key]
        if _is_settled(self._records[key], until, action.to_end):
            return
        spec = self._chains[key].current
        if spec.key not in self._digests:
            self._digests[spec.key] = self._runtime.store.create(spec)
        self._send_request(spec.key, Request(until_step=until, lease=self._lease))
        self._runtime.backend.submit(spec.key, self._digests[spec.key])

    def _wait(self, seconds: float) -> tuple[set[str], set[str]]:
        """Wait for the backend and return the stage's trials that ran, and those of them that ended."""
        running = self._runtime.backend.running()
        ended = self._runtime.backend.wait(seconds)
        for key in ended:
            self._requests.pop(key, None)  # another job of a sweep may replace the request
        updated = self._find_originals(running | ended | self._runtime.backend.running())
        ended_originals = self._find_originals(ended)
        for key in updated:
            self._refresh(key)
        for key in ended & self._specs.keys():
            self._send_trial(self._specs[key], self._runtime.store.read_alone(key))
        return updated, ended_originals

    def _find_originals(self, trained: Set[str]) -> set[str]:
        """Return the keys of the original trials whose current trainings have these keys."""
        return {key for other in trained for key in self._originals.get(other, ())}

    def _refresh(self, key: str) -> None:
        chain = self._chains[key]
        for message in chain.follow(self._runtime.store, self._runtime.retry_policy):
            self._runtime.tracker.receive(Noted(message))
        self._records[key] = chain.record
        for spec in chain.specs:
            self._specs[spec.key] = spec
            self._originals.setdefault(spec.key, set()).add(key)
