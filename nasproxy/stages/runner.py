"""The one loop of all controllers: decide, act, record. A fresh start and a resume are the same path."""

from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from nasproxy.execution.backends.backend import Backend
from nasproxy.stages.retries import RetryChain, RetryPolicy, retry_nothing
from nasproxy.storage.trial_stores import TrialStore
from nasproxy.tracking.tracker import Progress, Tracker
from nasproxy.trials.clock import Clock, SystemClock
from nasproxy.trials.records import Request, State, TrialRecord
from nasproxy.trials.spec import TrialSpec

S = TypeVar("S")
Records = Mapping[str, TrialRecord]

FAILURE_SHARE = 0.01
"""Share of the awaited trials that may fail before the controller is asked again; one in a small study."""
PROGRESS_SHARE = 0.1
"""Share of the trials of which something new is known when progress is told again: it counts all of them."""


@dataclass(frozen=True)
class Train:
    """Have trials trained until a step each; whatever else runs is asked to stop.

    Attributes:
        until: Step to reach by trial key, in order of urgency.
        awaited: The steps, by trial key, without which there is nothing to decide; None for all of `until`.
    """

    until: Mapping[str, int]
    awaited: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Decide(Generic[S]):
    """Take a decision: the state with it, and what it is in words (None for one not worth a line)."""

    state: S
    message: str | None = None


class Stage(Protocol[S]):
    """A resumable decision loop over trials."""

    name: str

    def load(self) -> S:
        """The state as stored, or a fresh one."""
        ...

    def save(self, state: S) -> S:
        """Store the state, atomically; returns it with what others have decided meanwhile."""
        ...

    def specs(self, state: S) -> Sequence[TrialSpec]:
        """The trials whose records the next decision needs."""
        ...

    def next_action(self, state: S, records: Records) -> Train | Decide[S] | None:
        """What to do next, or None when all is decided. Pure: no file, no clock.

        Args:
            state: Decisions so far.
            records: What is known of the trials of `specs(state)`, by key.

        Raises:
            StageStoppedError: The stage cannot give its result.
        """
        ...

    def progress(self, state: S, records: Records) -> Progress:
        """How far the stage is, for the eye."""
        ...


@dataclass(frozen=True)
class Runtime:
    """What controllers work with.

    Attributes:
        store: Where trials live.
        backend: What runs them.
        tracker: Who watches.
        retry_policy: What stands in for a trial that failed by its own fault.
        lease: File whose lease says that this process lives; trials stop when it is gone.
        poll_seconds: How often to look for new checks.
        grace_seconds: How long trials may take to finish their cycle when the study is interrupted.
    """

    store: TrialStore
    backend: Backend
    tracker: Tracker
    retry_policy: RetryPolicy = retry_nothing
    lease: Path | None = None
    poll_seconds: float = 0.25
    grace_seconds: float = 10.0
    clock: Clock = field(default_factory=SystemClock)


def run_stage(stage: Stage[S], runtime: Runtime) -> S:
    """Run a controller to its end, from wherever its stored state stands.

    Returns:
        The final state.

    Raises:
        StageStoppedError: The stage cannot give its result.
    """
    scheduler = _TrialScheduler(runtime)
    with scheduler.stop_trials_at_end():
        state = stage.load()
        while True:
            specs = stage.specs(state)
            records = scheduler.records(specs)
            runtime.tracker.progress(stage.progress(state, records), runtime.backend.running())
            action = stage.next_action(state, records)
            if action is None or isinstance(action, Decide):
                # At the end too: what trackers derive from the state may have been lost with an earlier process.
                state = stage.save(state if action is None else action.state)
                runtime.tracker.decided(state)
                if action is None:
                    return state
                if action.message:
                    runtime.tracker.say(action.message)
                continue
            for _ in scheduler.act(action):
                progress = stage.progress(state, scheduler.records(specs))
                runtime.tracker.progress(progress, runtime.backend.running())


class _Awaited:
    """What has still to happen before there is something to decide."""

    def __init__(self, steps: Mapping[str, int], records: Records) -> None:
        self._left = {key: step for key, step in steps.items() if not _is_settled(records[key], step)}
        # Each failure may call for another decision, but not for one that looks at all trials each time.
        self._failures_left = max(1, round(FAILURE_SHARE * len(self._left)))

    def note(self, key: str, record: TrialRecord) -> None:
        """Take note of what became of a trial."""
        if key in self._left and _is_settled(record, self._left[key]):
            del self._left[key]
            self._failures_left -= record.is_failed

    @property
    def is_over(self) -> bool:
        """Whether to decide now."""
        return not self._left or self._failures_left <= 0


def _is_settled(record: TrialRecord, step: int) -> bool:
    return record.reached(step) or record.status.state in (State.DONE, State.FAILED)


class _TrialScheduler:
    """Knows the trials of one run: asks of them what was decided, and keeps their records fresh.

    Controllers ask for trials by the keys that these were given; the backend may train another in place of each.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._chains: dict[str, RetryChain] = {}
        self._records: dict[str, TrialRecord] = {}
        # All below goes by the keys that train.
        self._trained_for: dict[str, set[str]] = {}
        self._specs: dict[str, TrialSpec] = {}
        self._digests: dict[str, str] = {}
        self._asked: dict[str, Request] = {}

    def records(self, specs: Sequence[TrialSpec]) -> Records:
        """Records by key; only trials that live are read again."""
        for spec in specs:
            if spec.key not in self._chains:
                self._chains[spec.key] = RetryChain(spec)
                self._refresh(spec.key)
                for trained in self._chains[spec.key].specs:
                    record = self._runtime.store.read_alone(trained.key)
                    if record.checks or record.is_failed:
                        # It may have ended while no controller lived to tell of it; trackers ignore what they know.
                        self._runtime.tracker.trial(trained, record)
        return {spec.key: self._records[spec.key] for spec in specs}

    def act(self, action: Train) -> Iterator[None]:
        """Ask for what was decided, and wait until there is something to decide; yields when progress is worth telling.

        Nothing in here looks at all trials of the study at each turn: a study of many would spend its time on that.
        """
        for key in self._runtime.backend.live() - {self._chains[key].current.key for key in action.until}:
            self._stop(key)
        for key, until in action.until.items():
            self._start(key, until)
        awaited = _Awaited(action.until if action.awaited is None else action.awaited, self._records)
        news = 0
        while True:
            seen, ended = self._wait(self._runtime.poll_seconds)
            for key in seen:
                awaited.note(key, self._records[key])
            if awaited.is_over:
                return
            for key in ended & set(action.until):
                # It was lost, or paused by another job of a sweep, or failed and has another stand in for it.
                self._start(key, action.until[key])
            news += len(seen)
            if news >= PROGRESS_SHARE * len(self._records):
                news = 0
                yield

    @contextmanager
    def stop_trials_at_end(self) -> Iterator[None]:
        """Leave no trial running behind a stage, however the stage ends."""
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
            self._ask(key, Request(stop=True, lease=self._lease))
        else:
            self._runtime.backend.cancel(key)

    def _ask(self, key: str, request: Request) -> None:
        if self._asked.get(key) != request:
            self._runtime.store.request(key, request)
            self._asked[key] = request

    def _start(self, key: str, until: int) -> None:
        """Have a trial run, unless it has come so far or will come no further."""
        if _is_settled(self._records[key], until):
            return
        spec = self._chains[key].current
        if spec.key not in self._digests:
            self._digests[spec.key] = self._runtime.store.create(spec)
        self._ask(spec.key, Request(until_step=until, lease=self._lease))
        self._runtime.backend.submit(spec.key, self._digests[spec.key])

    def _wait(self, seconds: float) -> tuple[set[str], set[str]]:
        """Wait for something to happen; returns the known trials that ran meanwhile, and those of them that ended."""
        running = self._runtime.backend.running()
        ended = self._runtime.backend.wait(seconds)
        for key in ended:
            self._asked.pop(key, None)  # another job of a sweep may ask something of it before we do again
        seen = self._asked_for(running | ended | self._runtime.backend.running())
        over = self._asked_for(ended)
        for key in seen:
            self._refresh(key)
        for key in ended & self._specs.keys():
            self._runtime.tracker.trial(self._specs[key], self._runtime.store.read_alone(key))
        return seen, over

    def _asked_for(self, trained: Set[str]) -> set[str]:
        """The keys under which trials were asked for that train under these."""
        return {key for other in trained for key in self._trained_for.get(other, ())}

    def _refresh(self, key: str) -> None:
        line = self._chains[key]
        for news in line.follow(self._runtime.store, self._runtime.retry_policy):
            self._runtime.tracker.say(news)
        self._records[key] = line.record
        for spec in line.specs:
            self._specs[spec.key] = spec
            self._trained_for.setdefault(spec.key, set()).add(key)
