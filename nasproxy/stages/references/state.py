"""State of the selection of reference models, as it is stored."""

from dataclasses import dataclass

from nasproxy.trials.spec import Architecture


@dataclass(frozen=True)
class Iteration:
    """One round: candidates trained to the same step, and what was decided then.

    Attributes:
        candidates: Numbers of the candidates that took part.
        fraction: Share of the training that they were to reach.
        until_step: The check they were compared at.
        kept: Candidates that go on, once decided.
        removed: Candidates dropped for being like another.
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
        number: Its place among the candidates.
        architecture: What it is.
        key: Its trial.
        score: That of its last check.
        train_seconds: Of its training, on all devices together.
    """

    number: int
    architecture: Architecture
    key: str
    score: float
    train_seconds: float


@dataclass(frozen=True)
class SelectionState:
    """Decisions so far.

    Attributes:
        architectures: All candidates; a candidate's number is its place here.
        keys: Their trials' keys.
        iterations: The rounds, the last one perhaps undecided.
        references: The reference models, best first, once trained.
        baseline: The user's own architecture among them, if given.
    """

    architectures: tuple[Architecture, ...]
    keys: tuple[str, ...]
    iterations: tuple[Iteration, ...]
    references: tuple[Reference, ...] | None = None
    baseline: Reference | None = None
