"""Stored state of confirmations."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nasproxy.stages.confirmation.void import Void
from nasproxy.stages.proxy_search.state import TaskState
from nasproxy.statistics.contradiction import Confirmation
from nasproxy.statistics.fisher import fisher_z
from nasproxy.storage.study_stores import StudyStore

STATES = "confirmation"
"""Prefix of the names of the states in a study."""


class ConfirmationOutcome(str, enum.Enum):
    """Outcome of a confirmation."""

    STANDS = "stands"
    CONTRADICTED = "contradicted"
    VOID = "void"
    """The runs say nothing about the verdict: it is neither confirmed nor contradicted."""


@dataclass(frozen=True)
class FreshModels:
    """New models that the verdict does not depend on, trained fully and under the confirmed proxy task.

    Attributes:
        wanted: Required number of models that train fully.
        full_keys: Keys of the candidates' full trainings, in the order in which they are trained.
        proxy_keys: Keys of their trainings under the proxy task, in the same order.
        is_judged: Whether their trainings have ended and were judged.
        trainable: Number of models that trained fully.
        failed: Number of failed trials by cause, full and proxy trainings together.
        result: Result of the comparison; None before it, and if too few models have scores.
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
    """Decisions of the confirmation of one accepted proxy task.

    Attributes:
        task: Name of the proxy task.
        final_step: Step at which it was accepted, and at which the schedule of the confirmation runs ends.
        judged_by: Rules by which it was accepted.
        judged_keys: Keys of the trials on which it was accepted.
        keys: Keys of the confirmation runs, in the same order.
        is_begun: Whether the confirmation has started.
        outcome: Outcome; None while the models train.
        result: Result of the comparison; None before it, and if the confirmation is void.
        void: Why the confirmation is void; None if it is not.
        fresh: Fresh models; None if none are required or they have not started.
    """

    task: str
    final_step: int
    judged_by: str
    judged_keys: tuple[str, ...]
    keys: tuple[str, ...]
    is_begun: bool = False
    outcome: ConfirmationOutcome | None = None
    result: Confirmation | None = None
    void: Void | None = None
    fresh: FreshModels | None = None

    @property
    def is_trained_already(self) -> bool:
        """Whether the task was accepted at its last step, so that its trials are the confirmation runs."""
        return self.keys == self.judged_keys

    def is_of(self, task: TaskState) -> bool:
        """Return whether this is the confirmation of exactly this verdict of the proxy task."""
        verdict = (self.task, self.final_step, self.judged_by, self.judged_keys)
        return verdict == (task.name, task.final_step, task.judged_by, task.keys)

    def contradicts(self, task: TaskState) -> bool:
        """Return whether this confirmation contradicts the task's verdict."""
        return self.outcome is ConfirmationOutcome.CONTRADICTED and self.is_of(task)


def find_confirmation(states: Sequence[ConfirmationState], task: TaskState) -> ConfirmationState | None:
    """Find the confirmation of a proxy task's current verdict, with the lower confidence bound of its tau.

    The confirmation runs are one more training of the models on which the task was selected. Their luck is that of the
    selected look, so the same margin holds; their own noise had no part in the selection.
    """
    state = next((state for state in states if state.is_of(task)), None)
    if state is None or state.result is None:
        return state
    return replace(state, result=replace(state.result, bound=_bound_tau(state, task)))


def _bound_tau(state: ConfirmationState, task: TaskState) -> float | None:
    found = None if state.result is None else state.result.correlation
    if state.is_trained_already or found is None or task.margin is None:
        return task.bound
    bound = task.margin.bound_tau(float(fisher_z(found.tau, found.n)), found.n)
    return None if bound is None else min(bound, found.tau)


def read_confirmations(study: StudyStore) -> list[ConfirmationState]:
    """Read all confirmations of a study, including those of verdicts that have changed since.

    Raises:
        CorruptFileError: A file cannot be read.
    """
    states = (study.read(name, ConfirmationState) for name in study.list_names(STATES))
    return [state for state in states if state is not None]
