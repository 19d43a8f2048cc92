"""Outcomes of proxy tasks, and the reasons why they were not chosen."""

from collections import Counter
from enum import Enum

from nasproxy.report import wording
from nasproxy.stages.proxy_search.state import StoppingState, TaskCheck, TaskState
from nasproxy.stages.study_results import StudyResults, find_decisive_check
from nasproxy.statistics.acceptance import VerdictKind


class TaskOutcome(str, Enum):
    """Outcome of a proxy task."""

    CHOSEN = "chosen"
    ACCEPTED = "accepted, not chosen"
    DROPPED = "dropped"
    UNDECIDED = "undecided"
    REJECTED = "rejected"
    TIMED_OUT = "out of time"
    FAILED = "failed"
    CONTRADICTED = "contradicted"
    RUNNING = "not yet ended"
    OTHER_RULES = "other rules"

    @property
    def is_accepted(self) -> bool:
        """Whether the proxy task met the acceptance threshold or the target score."""
        return self in (TaskOutcome.CHOSEN, TaskOutcome.ACCEPTED)


ENDED = {
    StoppingState.EXCEEDED_BEST_TIME: TaskOutcome.DROPPED,
    StoppingState.EXCEEDED_TIME_LIMIT: TaskOutcome.TIMED_OUT,
    StoppingState.EXCESS_FAILURES: TaskOutcome.FAILED,
    StoppingState.CONTRADICTED: TaskOutcome.CONTRADICTED,
}


def get_outcome(results: StudyResults, task: TaskState) -> TaskOutcome:
    """Return the outcome of a proxy task."""
    if task is results.best:
        return TaskOutcome.CHOSEN
    if task.judged_by != results.judged_by:
        return TaskOutcome.OTHER_RULES
    if task.stopping_state is None:
        return TaskOutcome.RUNNING
    if task.is_accepted:
        return TaskOutcome.ACCEPTED
    is_open = task.verdict is not None and task.verdict.kind is VerdictKind.UNDECIDED
    return ENDED.get(task.stopping_state, TaskOutcome.UNDECIDED if is_open else TaskOutcome.REJECTED)


def explain_outcome(results: StudyResults, task: TaskState) -> str:
    """Explain why a proxy task was not chosen, in a sentence without its full stop."""
    check, what = find_decisive_check(task), get_outcome(results, task)
    if what is TaskOutcome.OTHER_RULES:
        return "Judged by other rules than the study's last ones: run its grid again to compare it"
    if what is TaskOutcome.FAILED:
        return _failed(results, task)
    if what is TaskOutcome.DROPPED:
        return _dropped(results, check)
    if what is TaskOutcome.CONTRADICTED:
        return _contradicted(results, task)
    if what is TaskOutcome.ACCEPTED:
        return _accepted_too(results, task)
    if what is TaskOutcome.RUNNING and check is None:
        return "No check that all of its models have reached"
    limit = "" if results.time_limit is None else f" of {wording.format_duration(results.time_limit)}"
    ended = {
        TaskOutcome.TIMED_OUT: f"Reached proxy_search.train_seconds_limit{limit}: ",
        TaskOutcome.RUNNING: "So far ",
    }
    return f"{ended.get(what, 'Ran to its end: ')}{explain_shortfall(check)}{_more_models(task, check)}"


def explain_shortfall(check: TaskCheck | None) -> str:
    """Compare the tau of a check with its acceptance threshold."""
    if check is None:
        return "it has no check"
    if check.correlation is None:
        return "tau was undefined there, since scores did not differ"
    shown = (
        f"tau was {wording.format_tau(check.correlation.tau)} on {wording.format_count(check.correlation.n, 'model')}"
    )
    if check.needed is None:
        return f"{shown}, too few for any tau to be enough"
    return f"{shown}, and {wording.format_tau(check.needed)} was needed"


def _more_models(task: TaskState, check: TaskCheck | None) -> str:
    """State how many more reference models might suffice; empty if no number would."""
    more = None if task.verdict is None else task.verdict.models_needed
    if check is None or more is None:
        return ""
    if task.stopping_state is None:
        return f"; {wording.format_count(more, 'more reference model')} might decide it"
    return f"; {wording.format_count(more, 'more reference model')} than references.max allows might decide it"


def _dropped(results: StudyResults, check: TaskCheck | None) -> str:
    best = results.best
    seconds = None if best is None else best.final_rated_seconds
    name = (
        "one accepted before"
        if best is None or seconds is None
        else f"{best.name} ({wording.format_duration(seconds)})"
    )
    when = (
        "before its first check"
        if check is None
        else f"after {wording.format_duration(check.rated_seconds)} of training"
    )
    return f"Dropped {when}: no later check of it could be cheaper than {name}; how well it would rank is not known"


def _accepted_too(results: StudyResults, task: TaskState) -> str:
    best, seconds = results.best, task.final_rated_seconds
    if best is None or best.final_rated_seconds is None or seconds is None:
        return "Accepted too"
    ends = (
        f"{wording.format_duration(seconds)} of training a model against "
        f"{wording.format_duration(best.final_rated_seconds)}"
    )
    if seconds > best.final_rated_seconds:
        return f"Accepted too, but dearer than {best.name}: {ends}"
    return f"Accepted too, but no more than {results.time_tolerance:.0%} cheaper than {best.name}: {ends}"


def _contradicted(results: StudyResults, task: TaskState) -> str:
    state = results.confirmation_of(task)
    found = None if state is None or state.result is None else state.result.correlation
    tau = "" if found is None else f": tau was {wording.format_tau(found.tau)}"
    steps = wording.format_number(task.final_step)
    return f"Accepted after {steps} steps, and contradicted by its models on a schedule of {steps} steps{tau}"


def _failed(results: StudyResults, task: TaskState) -> str:
    records = [results.trials[key].record for key in task.keys if key in results.trials]
    causes = Counter(r.status.cause.value if r.status.cause else "unknown" for r in records if r.is_failed)
    words = ", ".join(f"{number} {cause}" for cause, number in causes.most_common())
    failed = f"{causes.total()} of {len(task.keys)} trainings failed" + (f" ({words})" if words else "")
    return f"Too few models were left to judge it: {failed}"
