"""State of confirmations, as it is stored."""

import enum
from dataclasses import dataclass
from pathlib import Path

from nasproxy.stages.proxy_search.state import TaskState
from nasproxy.statistics.contradiction import Confirmation
from nasproxy.storage.files import read_record


class ConfirmationOutcome(str, enum.Enum):
    """What a confirmation ended with."""

    STANDS = "stands"
    CONTRADICTED = "contradicted"
    EXCESS_FAILURES = "excess trial failures"


@dataclass(frozen=True)
class FreshModels:
    """Models that no verdict rests on, trained fully and under the confirmed proxy task.

    Attributes:
        wanted: Workable models that were asked for.
        full_keys: Full trainings of the candidates, in the order they are taken in.
        proxy_keys: Their trainings under the proxy task, in the same order.
        is_judged: Whether all that were tried have ended.
        trainable: Models that trained fully.
        failed: Trials that failed by cause, full and proxy trainings together.
        result: What they say; None before, and where too few have scores.
    """

    wanted: int
    full_keys: tuple[str, ...]
    proxy_keys: tuple[str, ...]
    is_judged: bool = False
    trainable: int = 0
    failed: tuple[tuple[str, int], ...] = ()
    result: Confirmation | None = None


@dataclass(frozen=True)
class ConfirmationState:
    """What is known of the retraining of an accepted proxy task on a schedule that ends where it was stopped.

    Attributes:
        task: The proxy task's name.
        final_step: The step it was stopped at.
        judged_by: The rules it was accepted by, and is confirmed by.
        judged_keys: The trials it was accepted on.
        keys: Their retrainings, in the same order.
        is_begun: Whether anything was decided yet.
        outcome: What became of the verdict; None while the models train.
        result: The judgement; None before, and where too many trials failed.
        fresh: What fresh models say, where they were asked for.
    """

    task: str
    final_step: int
    judged_by: str
    judged_keys: tuple[str, ...]
    keys: tuple[str, ...]
    is_begun: bool = False
    outcome: ConfirmationOutcome | None = None
    result: Confirmation | None = None
    fresh: FreshModels | None = None

    @property
    def is_trained_already(self) -> bool:
        """Whether the verdict rests on trainings to their end, so that none had to be trained again."""
        return self.keys == self.judged_keys

    def is_of(self, task: TaskState) -> bool:
        """Whether it is about this verdict, and no other of the same proxy task."""
        mine = (self.task, self.final_step, self.judged_by, self.judged_keys)
        return mine == (task.name, task.final_step, task.judged_by, task.keys)

    def contradicts(self, task: TaskState) -> bool:
        """Whether this verdict cannot stand."""
        return self.outcome is ConfirmationOutcome.CONTRADICTED and self.is_of(task)


def read_confirmations(folder: Path) -> list[ConfirmationState]:
    """Every confirmation of a study, also of verdicts that no longer hold.

    Raises:
        CorruptFileError: One of them cannot be read.
    """
    states = (read_record(path, ConfirmationState) for path in sorted(folder.glob("*.json")))
    return [state for state in states if state is not None]
