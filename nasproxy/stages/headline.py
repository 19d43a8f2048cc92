"""The tau that an accepted proxy task is reported with: that of its confirmation runs where there are any."""

from dataclasses import dataclass

from nasproxy.stages.confirmation.state import ConfirmationOutcome, ConfirmationState
from nasproxy.stages.proxy_search.rules import read_criterion_setting
from nasproxy.stages.proxy_search.state import TaskState
from nasproxy.statistics.acceptance import Grade, grade_acceptance
from nasproxy.statistics.rank_correlation import RankCorrelation


@dataclass(frozen=True)
class Headline:
    """What is reported first of an accepted proxy task.

    Attributes:
        correlation: Rank correlation of the confirmation runs, else of the proxy search; None if undefined.
        bound: One-sided 95 % lower confidence bound of its true tau, which holds after selection; None if unknown.
        grade: How far the task can be trusted.
        target: Tau of a good proxy task; None if it is not stored.
        is_confirmed: Whether confirmation runs were judged and do not contradict the verdict.
        is_selected: Whether this tau itself was selected for being high, so that it is optimistic: there are no
            confirmation runs, or none were needed.
        raced: Rank correlation by which the task was selected in the proxy search; None if undefined.
    """

    correlation: RankCorrelation | None
    bound: float | None
    grade: Grade
    target: float | None
    is_confirmed: bool
    is_selected: bool
    raced: RankCorrelation | None


def find_headline(task: TaskState, confirmation: ConfirmationState | None) -> Headline:
    """Find the headline of an accepted proxy task.

    Args:
        task: The proxy task.
        confirmation: The confirmation of its verdict; None without one.
    """
    raced = next((check.correlation for check in task.checks if check.step == task.final_step), None)
    target = read_criterion_setting(task.judged_by, "target")
    result = None if confirmation is None else confirmation.result
    is_confirmed = confirmation is not None and confirmation.outcome is ConfirmationOutcome.STANDS
    if confirmation is None or confirmation.is_trained_already or result is None:
        grade = grade_acceptance(task.bound, target, is_confirmed=is_confirmed)
        return Headline(raced, task.bound, grade, target, is_confirmed, True, raced)
    grade = grade_acceptance(result.bound, target, is_confirmed=is_confirmed)
    return Headline(result.correlation, result.bound, grade, target, is_confirmed, False, raced)
