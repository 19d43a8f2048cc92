"""The protocol of all who watch a study; they are told, and never asked."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nasproxy.trials.records import TrialRecord
from nasproxy.trials.spec import TrialSpec


@dataclass(frozen=True)
class Progress:
    """How far a stage is.

    Attributes:
        stage: Its name.
        detail: What it is busy with, such as a proxy task's name.
        trials_done: Trials of the stage that have come as far as they must.
        trials_total: Trials of the stage.
        steps_done: Training steps done.
        steps_total: Training steps at most.
        tau: Rank correlation at the last check that all models reached.
    """

    stage: str
    detail: str = ""
    trials_done: int = 0
    trials_total: int = 0
    steps_done: int = 0
    steps_total: int = 0
    tau: float | None = None


class Tracker(Protocol):
    """Watches a study."""

    def progress(self, progress: Progress, running: Set[str]) -> None:
        """How far the present stage is, and which trials run; called often."""
        ...

    def trial(self, spec: TrialSpec, record: TrialRecord) -> None:
        """A trial ended or paused; its record holds all its checks so far, also those told before."""
        ...

    def say(self, message: str) -> None:
        """Something was decided, in words."""
        ...

    def decided(self, state: object) -> None:
        """A stage has stored its state, after a decision or at its end."""
        ...

    def result(self, tables: Mapping[str, Sequence[Mapping[str, Any]]], pictures: Sequence[Path]) -> None:
        """The study's tables, each a list of rows, and its pictures."""
        ...

    def close(self) -> None:
        """The controller ends."""
        ...


class Trackers:
    """Several trackers as one, told in order."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = tuple(trackers)

    def progress(self, progress: Progress, running: Set[str]) -> None:
        """Tell all."""
        for tracker in self._trackers:
            tracker.progress(progress, running)

    def trial(self, spec: TrialSpec, record: TrialRecord) -> None:
        """Tell all."""
        for tracker in self._trackers:
            tracker.trial(spec, record)

    def say(self, message: str) -> None:
        """Tell all."""
        for tracker in self._trackers:
            tracker.say(message)

    def decided(self, state: object) -> None:
        """Tell all."""
        for tracker in self._trackers:
            tracker.decided(state)

    def result(self, tables: Mapping[str, Sequence[Mapping[str, Any]]], pictures: Sequence[Path]) -> None:
        """Tell all."""
        for tracker in self._trackers:
            tracker.result(tables, pictures)

    def close(self) -> None:
        """Tell all."""
        for tracker in self._trackers:
            tracker.close()


class Silent(Trackers):
    """Nobody watches."""

    def __init__(self, *, study: Path) -> None:
        """Take the study's folder, as every configured tracker does, and leave it alone."""
        super().__init__(())
