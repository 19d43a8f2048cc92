"""The loop that runs a stage: decide, act, record. A fresh start and a resume take the same path."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from nasproxy.stages.scheduler import Records, Runtime, Train, TrialScheduler
from nasproxy.tracking.events import DecisionTaken, Look, LookTaken, Progress, StageEnded, StageProgressed, StageStarted
from nasproxy.trials.records import TrialPurpose
from nasproxy.trials.spec import TrialSpec

__all__ = ["Decide", "Records", "Runtime", "Stage", "Train", "run_stage"]

S = TypeVar("S")


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

    def purpose(self, spec: TrialSpec) -> TrialPurpose:
        """Return what a trial of the stage is created for; the first purpose of a trial is stored with it."""
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
    scheduler, send = TrialScheduler(runtime, stage.purpose), runtime.tracker.receive
    send(StageStarted(stage.name))
    with scheduler.stop_trials_at_end():
        state = _decide_to_end(stage, runtime, scheduler)
    send(StageEnded(stage.name))
    return state


def _decide_to_end(stage: Stage[S], runtime: Runtime, scheduler: TrialScheduler) -> S:
    """Decide, act and record until there is nothing left to do; return the final state."""
    send = runtime.tracker.receive
    state = stage.load()
    while True:
        specs = stage.specs(state)
        records = scheduler.records(specs)
        send(StageProgressed(stage.progress(state, records), len(scheduler.running())))
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
            send(StageProgressed(progress, len(scheduler.running())))
