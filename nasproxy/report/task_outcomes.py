"""Outcomes of proxy tasks, and the reasons why they were not chosen."""

from collections import Counter
from enum import Enum
from statistics import median

from nasproxy.report import wording
from nasproxy.stages.proxy_search.state import StoppingState, TaskCheck, TaskState
from nasproxy.stages.study_results import StudyResults, find_decisive_check
from nasproxy.statistics.acceptance import VerdictKind


class TaskOutcome(str, Enum):
    """Outcome of a proxy task."""

    CHOSEN = "chosen"
    ACCEPTED = "accepted, not chosen"
    DROPPED = "dropped"
    INCONCLUSIVE = "inconclusive"
    REJECTED = "rejected"
    TIMED_OUT = "time limit reached"
    FAILED = "failed"
    CONTRADICTED = "contradicted"
    USELESS = "no cheaper than full training"
    RUNNING = "not finished"
    OTHER_SETTINGS = "other settings"

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
        return TaskOutcome.OTHER_SETTINGS
    if task.stopping_state is None:
        return TaskOutcome.RUNNING
    if task.is_accepted:
        return TaskOutcome.ACCEPTED
    if task.saves_nothing or (task.stopping_state is StoppingState.EXCEEDED_BEST_TIME and task.beaten_by is None):
        return TaskOutcome.USELESS
    is_inconclusive = task.verdict is not None and task.verdict.kind is VerdictKind.INCONCLUSIVE
    return ENDED.get(task.stopping_state, TaskOutcome.INCONCLUSIVE if is_inconclusive else TaskOutcome.REJECTED)


def get_models_needed(task: TaskState) -> int | None:
    """Return how many more reference models might suffice for acceptance; None if no number would."""
    return None if task.verdict is None else task.verdict.models_needed


def explain_outcome(results: StudyResults, task: TaskState) -> str:
    """Explain why a proxy task was not chosen, in a sentence without its full stop."""
    check, outcome = find_decisive_check(task), get_outcome(results, task)
    if outcome is TaskOutcome.OTHER_SETTINGS:
        return "Judged with other settings than the study's last ones; run its grid again to compare it"
    if outcome is TaskOutcome.FAILED:
        return _explain_failed(results, task)
    if outcome is TaskOutcome.USELESS:
        return _explain_useless(results, task, check)
    if outcome is TaskOutcome.DROPPED:
        return _explain_dropped(results, check)
    if outcome is TaskOutcome.CONTRADICTED:
        return _explain_contradicted(results, task)
    if outcome is TaskOutcome.ACCEPTED:
        return _explain_accepted(results, task)
    if outcome is TaskOutcome.RUNNING and check is None:
        return "No look yet"
    limit = "" if results.time_limit is None else f" of {wording.format_duration(results.time_limit)}"
    ended = {
        TaskOutcome.TIMED_OUT: f"Reached proxy_search.train_seconds_limit{limit}",
        TaskOutcome.RUNNING: "So far",
    }
    return f"{ended.get(outcome, 'Trained to the end')}: {explain_shortfall(check)}{_note_models_needed(task, check)}"


def explain_shortfall(check: TaskCheck | None) -> str:
    """Compare the tau of a check with its acceptance threshold."""
    if check is None:
        return "no check"
    if check.correlation is None:
        return "tau is undefined, since the scores do not differ"
    tau = f"tau {wording.format_tau(check.correlation.tau)} on {wording.format_count(check.correlation.n, 'model')}"
    if check.needed is None:
        return f"{tau}, too few for acceptance at any tau"
    return f"{tau}, acceptance threshold {wording.format_tau(check.needed)}"


def _note_models_needed(task: TaskState, check: TaskCheck | None) -> str:
    """State how many more reference models might suffice, or that none would; empty if neither is known."""
    more = get_models_needed(task)
    if check is None or check.correlation is None:
        return ""
    if more is None:
        is_rejected = task.verdict is not None and task.verdict.kind is VerdictKind.REJECTED
        return "; more reference models with this tau would not suffice" if is_rejected else ""
    beyond = "" if task.stopping_state is None else ", which exceeds references.max"
    return f"; {wording.format_count(more, 'more reference model')} might suffice{beyond}"


def _explain_dropped(results: StudyResults, check: TaskCheck | None) -> str:
    best = results.best
    seconds = None if best is None else best.final_rated_seconds
    name = (
        "a task accepted before"
        if best is None or seconds is None
        else f"{best.name} ({wording.format_duration(seconds)})"
    )
    when = (
        "before its first look"
        if check is None
        else f"after {wording.format_duration(check.rated_seconds)} of training"
    )
    return f"Dropped {when}: no later check could be cheaper than {name}; tau after more training is unknown"


def _explain_useless(results: StudyResults, task: TaskState, check: TaskCheck | None) -> str:
    full = median(reference.train_seconds for reference in results.references) if results.references else None
    than = f"full training ({wording.format_duration(full)} per model)"
    if not task.saves_nothing:
        return f"Of no use: training on would make it more expensive than {than}; so far: {explain_shortfall(check)}"
    seconds = None if check is None else check.rated_seconds
    return f"Of no use: it met the criterion after {wording.format_duration(seconds)}, no cheaper than {than}"


def _explain_accepted(results: StudyResults, task: TaskState) -> str:
    best, seconds = results.best, task.final_rated_seconds
    if best is None or best.final_rated_seconds is None or seconds is None:
        return "Accepted"
    times = (
        f"{wording.format_duration(seconds)} of training per model, against "
        f"{wording.format_duration(best.final_rated_seconds)}"
    )
    if seconds > best.final_rated_seconds:
        return f"Accepted, but more expensive than {best.name}: {times}"
    return f"Accepted, but at most {100 * results.time_tolerance:.0f} % cheaper than {best.name}: {times}"


def _explain_contradicted(results: StudyResults, task: TaskState) -> str:
    state = results.confirmation_of(task)
    found = None if state is None or state.result is None else state.result.correlation
    tau = "" if found is None else f": tau {wording.format_tau(found.tau)}"
    steps = wording.format_number(task.final_step)
    return f"Accepted after {steps} steps, contradicted by confirmation runs of {steps} steps{tau}"


def _explain_failed(results: StudyResults, task: TaskState) -> str:
    records = [results.trials[key].record for key in task.keys if key in results.trials]
    causes = Counter(r.status.cause.value if r.status.cause else "unknown" for r in records if r.is_failed)
    words = ", ".join(f"{number} {cause}" for cause, number in causes.most_common())
    failed = f"{causes.total()} of {len(task.keys)} trainings failed" + (f" ({words})" if words else "")
    return f"Too few models left: {failed}"
