"""Results of confirmation runs: a table, and remarks on the verdict they test."""

from collections.abc import Iterator

from nasproxy.report import wording
from nasproxy.report.tables import Column, Row, Table
from nasproxy.report.wording import Remark
from nasproxy.stages.confirmation.state import ConfirmationOutcome, ConfirmationState, FreshModels
from nasproxy.stages.proxy_search.state import TaskState
from nasproxy.stages.study_results import StudyResults, find_decisive_check
from nasproxy.statistics.contradiction import Confirmation

OUTCOMES = {
    None: "not yet ended",
    ConfirmationOutcome.STANDS: "stands",
    ConfirmationOutcome.CONTRADICTED: "contradicted",
    ConfirmationOutcome.EXCESS_FAILURES: "too many trials lost",
}


def make_confirmations(results: StudyResults) -> Table:
    """Tabulate each proxy task's confirmation runs, and those of fresh models."""
    rows: list[Row] = []
    for task in results.tasks.values():
        state = results.confirmation_of(task)
        if state is None:
            continue
        check = find_decisive_check(task)
        truncated = None if check is None or check.correlation is None else check.correlation.tau
        whole = _row(state, "reference models", state.result, OUTCOMES[state.outcome])
        rows.append({**whole, "tau_truncated": truncated})
        if state.fresh is not None:
            rows.append(_row(state, "fresh models", state.fresh.result, _fresh_outcome(state.fresh)))
    columns = [
        Column("proxy task", lambda row: row["proxy_task"], is_number=False),
        Column("models", lambda row: f"{wording.format_number(row['models'])} {row['kind']}", is_number=False),
        Column("steps in all", lambda row: wording.format_number(row["final_step"])),
        Column("tau, stopped early", lambda row: wording.format_tau(row["tau_truncated"])),
        Column("tau, own schedule", lambda row: wording.format_tau(row["tau"])),
        Column("95 % interval", lambda row: wording.format_interval(row["tau_low"], row["tau_high"])),
        Column("both together", lambda row: wording.format_tau(row["tau_pooled"])),
        Column("p", lambda row: wording.format_p_value(row["p_value"])),
        Column("noticeable tau", lambda row: wording.format_tau(row["noticeable_tau"])),
        Column("verdict", lambda row: row["outcome"], is_number=False),
    ]
    return Table(rows, columns)


def write_confirmation(results: StudyResults, task: TaskState) -> str:
    """Write what a verdict's sentence says of its confirmation; empty if none was needed or possible."""
    state = results.confirmation_of(task)
    if (state is None or state.outcome is None) and not results.is_replayed:
        return " It is not confirmed yet."
    if (
        state is None
        or state.outcome is not ConfirmationOutcome.STANDS
        or state.result is None
        or state.is_trained_already
    ):
        return ""
    return f" Retrained on a schedule of its own it is not contradicted{_correlation(state.result)}."


def warn_of_confirmation(results: StudyResults, task: TaskState) -> Iterator[Remark]:
    """Yield evidence against an accepted proxy task, which is shown before all other remarks."""
    state = results.confirmation_of(task)
    if state is not None and state.fresh is not None and _is_against(state.fresh):
        yield _fresh(state.fresh)
    fallen = list(list_contradictions(results))
    if fallen:
        yield Remark("An earlier winner was contradicted.", " ".join(fallen))


def remark_on_confirmation(results: StudyResults, task: TaskState) -> Iterator[Remark]:
    """Remark on the result of the confirmation runs, or on their absence."""
    state = results.confirmation_of(task)
    if state is None or state.outcome is None:
        yield _not_confirmed(results, task)
        return
    yield _lost(state) if state.result is None else _stands(state, state.result)
    if state.fresh is not None and state.fresh.is_judged and not _is_against(state.fresh):
        yield _fresh(state.fresh)


def list_contradictions(results: StudyResults) -> Iterator[str]:
    """Yield a sentence for each accepted proxy task that its confirmation runs contradicted."""
    for task in results.tasks.values():
        state = results.confirmation_of(task)
        if state is None or state.outcome is not ConfirmationOutcome.CONTRADICTED or state.result is None:
            continue
        p_value = state.result.p_value
        chance = (
            ""
            if p_value is None
            else f", p {wording.format_p_value(p_value)} against a target of {state.result.stated_tau}"
        )
        yield (
            f"{task.name} was accepted after {state.final_step:,} of {task.total_steps:,} steps, and contradicted when "
            f"its models were trained on a schedule of {state.final_step:,} steps{_correlation(state.result)}{chance}."
        )


def _row(state: ConfirmationState, kind: str, result: Confirmation | None, outcome: str) -> Row:
    found = result and result.correlation
    return {
        "proxy_task": state.task,
        "kind": kind,
        "final_step": state.final_step,
        "models": found and found.n,
        "tau_truncated": None,
        "tau": found and found.tau,
        "tau_low": found and found.low,
        "tau_high": found and found.high,
        "tau_pooled": result and result.pooled and result.pooled.tau,
        "p_value": result and result.p_value,
        "noticeable_tau": result and result.noticeable_tau,
        "outcome": outcome,
    }


def _not_confirmed(results: StudyResults, task: TaskState) -> Remark:
    steps = wording.format_number(task.final_step)
    where = (
        f"after {steps} steps inside a training of {task.total_steps:,}"
        if (task.final_step or 0) < task.total_steps
        else "at the end of the whole training"
    )
    how = (
        "A table of learning curves has no such trainings, so only trainings of your own can confirm it."
        if results.is_replayed
        else "The study's command with job=confirm trains the models so, once."
    )
    return Remark(
        "Not confirmed yet.",
        f"Tau was measured {where}. A training of {steps} steps in all runs through its whole learning-rate schedule "
        f"by then and may rank otherwise. {how}",
    )


def _lost(state: ConfirmationState) -> Remark:
    return Remark(
        "It could not be confirmed.",
        f"Its models were trained once more, {state.final_step:,} steps in all, and too many of these trials were lost "
        f"or crashed. Mend the cause listed under Failures, and run the study's command again.",
    )


def _stands(state: ConfirmationState, result: Confirmation) -> Remark:
    if state.is_trained_already:
        return Remark(
            "Nothing had to be confirmed.",
            f"It was accepted at the end of its training of {state.final_step:,} steps, so its tau is that of the "
            f"schedule that a search will have.",
        )
    together = (
        ""
        if result.pooled is None
        else (
            f" Both trainings together give {wording.format_tau(result.pooled.tau)}, which flatters, since the "
            f"first was chosen for its tau."
        )
    )
    return Remark(
        "Confirmed: its own schedule does not contradict it.",
        f"Its models were trained once more, {state.final_step:,} steps in all, as a search would train them"
        f"{_correlation(result)}.{_power(result)}{together} These are the models that the verdict rests on: whether "
        f"they were lucky ones only fresh models can tell (confirm.fresh_models).",
    )


def _fresh(fresh: FreshModels) -> Remark:
    causes = ", ".join(f"{number} by {cause}" for cause, number in fresh.failed)
    failed = f" Failed: {causes}." if causes else ""
    tried = f"{wording.format_count(fresh.trainable, 'new random model')} of {fresh.wanted} asked for trained fully"
    if fresh.result is None:
        return Remark("Fresh models say nothing.", f"{tried}, and too few have both scores.{failed}")
    title = "Fresh models contradict it." if _is_against(fresh) else "Fresh models do not contradict it."
    return Remark(
        title,
        f"{tried} and under it{_correlation(fresh.result)}. No choice rests on them, so nothing flatters this tau."
        f"{_power(fresh.result)}{failed}",
    )


def _fresh_outcome(fresh: FreshModels) -> str:
    if not fresh.is_judged:
        return OUTCOMES[None]
    if fresh.result is None:
        return "too few have scores"
    return "they contradict it" if _is_against(fresh) else "they do not contradict it"


def _is_against(fresh: FreshModels) -> bool:
    return fresh.result is not None and fresh.result.is_contradicted


def _correlation(result: Confirmation) -> str:
    found = result.correlation
    if found is None:
        return ": their scores tell no model from another, so tau is undefined"
    ends = wording.format_interval(found.low, found.high)
    return f": tau-b {wording.format_tau(found.tau)} (95 % interval {ends}) on {wording.format_count(found.n, 'model')}"


def _power(result: Confirmation) -> str:
    """State the result of the test and its power."""
    if result.p_value is None or result.noticeable_tau is None or result.stated_tau is None:
        return " The verdict states no tau, so there is none to hold it to."
    noticeable = wording.format_tau(result.noticeable_tau)
    models = wording.format_count(result.correlation.n if result.correlation else 0, "model")
    return (
        f" Were the true tau {result.stated_tau:g}, one so low or lower would come with p "
        f"{wording.format_p_value(result.p_value)}. A true tau of {noticeable} would have contradicted the "
        f"verdict with a "
        f"probability of 80 %, a higher one more rarely: {models} can show no more."
    )
