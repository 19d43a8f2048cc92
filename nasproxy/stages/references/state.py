"""Stored state of the selection of reference models."""

from dataclasses import dataclass

from nasproxy.storage.study_stores import StudyStore
from nasproxy.trials.spec import Architecture

STATE = "references/state"
"""Name of the state in a study."""


@dataclass(frozen=True)
class Iteration:
    """One round of the selection: candidates trained up to the same step, and the decision there.

    Attributes:
        candidates: Numbers of the candidates in this round.
        fraction: Fraction of the training up to which they are trained.
        until_step: Step up to which they are trained; once decided, the step at which they were compared.
        kept: Candidates kept for the next round; None before the decision.
        removed: Candidates removed because their scores are close to another's.
        failed: Candidates that failed.
    """

    candidates: tuple[int, ...]
    fraction: float
    until_step: int
    kept: tuple[int, ...] | None = None
    removed: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()


@dataclass(frozen=True)
class Reference:
    """A candidate with a full-training score.

    Attributes:
        number: Index among the candidates, or `BASELINE`.
        architecture: The architecture.
        key: Key of its trial.
        score: Score of its last check.
        train_seconds: Time of its training in seconds, of all its devices together.
    """

    number: int
    architecture: Architecture
    key: str
    score: float
    train_seconds: float


@dataclass(frozen=True)
class SelectionState:
    """Decisions of the selection so far.

    Attributes:
        architectures: All candidates; a candidate's number is its index here.
        keys: Keys of their trials, in the same order.
        iterations: The rounds; the last one may be undecided.
        references: The reference models, best first; None before they are trained.
        baseline: The user's own architecture after full training; None if not given, not trained or failed.
    """

    architectures: tuple[Architecture, ...]
    keys: tuple[str, ...]
    iterations: tuple[Iteration, ...]
    references: tuple[Reference, ...] | None = None
    baseline: Reference | None = None


def read_selection(study: StudyStore) -> SelectionState | None:
    """Read the state of a study's selection of reference models; None before it."""
    return study.read(STATE, SelectionState)


def read_references(study: StudyStore) -> tuple[Reference, ...]:
    """Read the reference models of a study, best first; empty before all of them are trained."""
    state = read_selection(study)
    return () if state is None else state.references or ()
