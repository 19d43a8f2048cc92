"""The protocol of trackers: they receive a study's events and are never queried."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nasproxy.trials.records import TrialRecord
from nasproxy.trials.spec import TrialSpec


@dataclass(frozen=True)
class Progress:
    """Progress of a stage.

    Attributes:
        stage: Name of the stage.
        detail: Its current activity, such as the name of a proxy task.
        trials_done: Trials that have reached the step requested so far.
        trials_total: Trials of the stage.
        steps_done: Training steps done.
        steps_total: Maximum number of training steps.
        tau: Rank correlation at the last check that all models have reached.
    """

    stage: str
    detail: str = ""
    trials_done: int = 0
    trials_total: int = 0
    steps_done: int = 0
    steps_total: int = 0
    tau: float | None = None


class Tracker(Protocol):
    """Receives a study's events.

    The constructor of a configured tracker takes keyword arguments: the options of the configuration group `tracking`,
    and `study` (`Path`), the study's folder, which `nasproxy.jobs.job.Job` passes beside them.
    """

    def progress(self, progress: Progress, running: Set[str]) -> None:
        """Receive the progress of the current stage and the keys of running trials; called often."""
        ...

    def trial(self, spec: TrialSpec, record: TrialRecord) -> None:
        """Receive a trial that ended or paused; its record holds all checks so far, including those sent before."""
        ...

    def say(self, message: str) -> None:
        """Receive a message about a decision."""
        ...

    def decided(self, state: object) -> None:
        """Receive a stage's state after it was stored, after a decision or at the end of the stage."""
        ...

    def result(self, tables: Mapping[str, Sequence[Mapping[str, Any]]], pictures: Sequence[Path]) -> None:
        """Receive the study's tables, each a list of rows, and its figures."""
        ...

    def close(self) -> None:
        """Release resources; called when the controller ends."""
        ...


class Trackers:
    """Forwards every event to several trackers in order."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = tuple(trackers)

    def progress(self, progress: Progress, running: Set[str]) -> None:
        """Forward the event."""
        for tracker in self._trackers:
            tracker.progress(progress, running)

    def trial(self, spec: TrialSpec, record: TrialRecord) -> None:
        """Forward the event."""
        for tracker in self._trackers:
            tracker.trial(spec, record)

    def say(self, message: str) -> None:
        """Forward the event."""
        for tracker in self._trackers:
            tracker.say(message)

    def decided(self, state: object) -> None:
        """Forward the event."""
        for tracker in self._trackers:
            tracker.decided(state)

    def result(self, tables: Mapping[str, Sequence[Mapping[str, Any]]], pictures: Sequence[Path]) -> None:
        """Forward the event."""
        for tracker in self._trackers:
            tracker.result(tables, pictures)

    def close(self) -> None:
        """Forward the event."""
        for tracker in self._trackers:
            tracker.close()


class NullTracker(Trackers):
    """Discards all events."""

    def __init__(self, *, study: Path) -> None:
        """Accept the study's folder, as every configured tracker does; nothing is written to it."""
        super().__init__(())
