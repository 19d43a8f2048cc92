"""Stored results: the ladder, and the comparison of strategies."""

from dataclasses import dataclass

from nasproxy.statistics.worth import Prospect
from nasproxy.storage.study_stores import StudyStore

STATE = "worth/state"
"""Name of the comparison in a study."""
LADDER = "ladder"
"""Name of the ladder in a study."""


@dataclass(frozen=True)
class StoredRung:
    """A rung of the ladder.

    Attributes:
        proxy_task: Name of the proxy task; None for full training.
        step: Finished optimizer steps at which candidates are compared.
        threshold: Score of the study's metric that a candidate must reach: at least, or at most for a loss.
        share: Expected share of all candidates that are kept up to here.
        cost: Cost of one candidate from the start of this training to the rung, in full trainings.
    """

    proxy_task: str | None
    step: int
    threshold: float
    share: float
    cost: float


@dataclass(frozen=True)
class LadderState:
    """The certified ladder, or why there is none.

    Attributes:
        metric: Name of the metric that thresholds are scores of.
        mode: `max` or `min`: which scores are better.
        max_risk: Accepted risk.
        models: Number of reference models that it is designed on.
        reason: Why there is no ladder; empty if there is one.
        rungs: Its rungs, in order.
        risk: Largest probability that a random candidate that is better than `good_score` after full training is
            eliminated at any rung; None without a ladder.
        best: Number of best reference models whose scores the risk rests on; None without a ladder.
        good_score: Full-training score of the next one; None without a ladder.
        top_share: Share of all models that are better than that, on average over studies; None without a ladder.
        cost: Expected cost of one candidate, in full trainings; None without a ladder.
        least: Number of best candidates that are always kept.
    """

    metric: str
    mode: str
    max_risk: float
    models: int
    reason: str = ""
    rungs: tuple[StoredRung, ...] = ()
    risk: float | None = None
    best: int | None = None
    good_score: float | None = None
    top_share: float | None = None
    cost: float | None = None
    least: int = 0


@dataclass(frozen=True)
class Outlook:
    """What a strategy is expected to find, with scores of the study's metric.

    Attributes:
        prospect: Its candidates, cost and rank.
        score: Expected score of the best model found; None if it is better than the best reference model.
        score_low: Score at the worse end of the interval of the rank; None if better than the best reference model.
        score_high: Score at its better end.
    """

    prospect: Prospect
    score: float | None
    score_low: float | None
    score_high: float | None


@dataclass(frozen=True)
class WorthState:
    """Comparison of strategies for the search, or why there is none.

    Attributes:
        trials: Models of the search.
        models: Number of reference models that it is based on.
        reason: Why there is no comparison; empty if there is one.
        study_cost: Cost of the study so far, in full trainings; None without a comparison.
        full_seconds: Mean time of a full training in seconds, of all its devices; None without a comparison.
        proxy_task: Accepted proxy task that is among the strategies; None if there is none.
        proxy_reason: Why an accepted proxy task is not among the strategies; empty if it is, and without one.
        left_out: Number of reference models that are left out, since they have no score under the accepted task.
        zero_cost: Zero-cost score that is among the strategies; None if there is none.
        optimism: Optimism of the accepted task's tau by cross-fitting; None without an accepted task.
        planned: Each strategy with the planned number of candidates.
        at_proxy_cost: The best setting of each within the total cost of the proxy task.
        at_recommended_cost: The same within the total cost of the recommended one.
        curves: Each strategy within several total costs, for the picture.
        recommended: The recommended strategy; None without a comparison.
        from_here: The strategy that is cheapest now that the study is paid; None without a comparison.
    """

    trials: int
    models: int
    reason: str = ""
    study_cost: float | None = None
    full_seconds: float | None = None
    proxy_task: str | None = None
    proxy_reason: str = ""
    left_out: int = 0
    zero_cost: str | None = None
    optimism: float | None = None
    planned: tuple[Outlook, ...] = ()
    at_proxy_cost: tuple[Outlook, ...] = ()
    at_recommended_cost: tuple[Outlook, ...] = ()
    curves: tuple[Prospect, ...] = ()
    recommended: Outlook | None = None
    from_here: Outlook | None = None


def read_ladder(study: StudyStore) -> LadderState | None:
    """Read the ladder of a study; None before it is designed.

    Raises:
        CorruptFileError: The record cannot be read.
    """
    return study.read(LADDER, LadderState)


def read_worth(study: StudyStore) -> WorthState | None:
    """Read the comparison of a study; None before it is made.

    Raises:
        CorruptFileError: The record cannot be read.
    """
    return study.read(STATE, WorthState)
