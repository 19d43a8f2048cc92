"""The verdict of a study as data: what a page, a terminal and a program show of it."""

import shlex
from dataclasses import dataclass

from nasproxy.report.wording import Remark
from nasproxy.stages.confirmation.state import ConfirmationOutcome
from nasproxy.statistics.acceptance import Grade


@dataclass(frozen=True)
class StudyVerdict:
    """The verdict of a study.

    Attributes:
        is_accepted: Whether a proxy task is accepted.
        headline: The verdict in a few words.
        sentence: Its numbers in one or two sentences.
        facts: The same numbers as (name, value) pairs.
        use: Overrides that select the proxy task for a search; empty if none is accepted.
        remarks: Limits of the verdict, the most important first.
        next_steps: Advice if no proxy task is accepted.
        warning: A remark to show before the numbers.
        confirmation: Outcome of the accepted proxy task's confirmation; None without one, or before its end.
        recommendation: Which strategy to search with, in a sentence; empty before strategies are compared.
        grade: How far the accepted proxy task can be trusted; None if none is accepted.
        tau: Tau of its confirmation runs, else of the proxy search; None if undefined.
        bound: One-sided 95 % lower confidence bound of the true tau, which holds after selection; None if unknown.
        raced_tau: Tau by which it was selected in the proxy search, which is optimistic; None if undefined.
        target: Tau of a good proxy task.
    """

    is_accepted: bool
    headline: str
    sentence: str
    facts: tuple[tuple[str, str], ...] = ()
    use: str = ""
    remarks: tuple[Remark, ...] = ()
    next_steps: tuple[str, ...] = ()
    warning: Remark | None = None
    confirmation: ConfirmationOutcome | None = None
    recommendation: str = ""
    grade: Grade | None = None
    tau: float | None = None
    bound: float | None = None
    raced_tau: float | None = None
    target: float | None = None

    @property
    def is_void(self) -> bool:
        """Whether the confirmation of the accepted proxy task is void, so that it is not confirmed."""
        return self.confirmation is ConfirmationOutcome.VOID

    @property
    def overrides(self) -> list[str]:
        """The same overrides as a list, without the quotes that a shell needs."""
        return shlex.split(self.use)

    @property
    def text(self) -> str:
        """The verdict as plain text."""
        use = f" To search with it: {self.use}." if self.use else ""
        recommended = f" {self.recommendation}" if self.recommendation else ""
        warned = f" {self.warning.title}" if self.warning else ""
        return " ".join([f"{self.headline}.", self.sentence, *self.next_steps]) + use + recommended + warned
