"""Results of confirmation runs: a table, and remarks on the verdict they test."""

from collections.abc import Iterator

from nasproxy.report import wording
from nasproxy.report.tables import Column, Row, Table
from nasproxy.report.wording import Remark
from nasproxy.stages.confirmation.state import ConfirmationOutcome, ConfirmationState, FreshModels
from nasproxy.stages.confirmation.void import Void, VoidReason
from nasproxy.stages.proxy_search.state import TaskState
from nasproxy.stages.study_results import StudyResults, find_decisive_check
from nasproxy.statistics.contradiction import HIGHEST_TAU, Confirmation

OUTCOMES = {
    None: "not finished",
    ConfirmationOutcome.STANDS: "not contradicted",
    ConfirmationOutcome.CONTRADICTED: "contradicted",
    ConfirmationOutcome.VOID: "void",
}
CONFIRMATIONS = (
    *("proxy_task", "kind", "final_step", "models", "tau_truncated", "tau", "tau_low", "tau_high", "bound"),
    *("tau_pooled", "p_value", "noticeable_tau", "outcome"),
)
"""Values of a row of the table."""


def make_confirmations(results: StudyResults) -> Table:
    """Tabulate each proxy task's confirmation runs, and those of fresh models."""
    rows: list[Row] = []
    for task in results.tasks.values():
        state = results.confirmation_of(task)
        if state is None:
            continue
        check = find_decisive_check(task)
        truncated = None if check is None or check.correlation is None else check.correlation.tau
        whole = _make_row(state, "reference models", state.result, _describe_outcome(state))
        rows.append({**whole, "tau_truncated": truncated})
        if state.fresh is not None:
            rows.append(_make_row(state, "fresh models", state.fresh.result, _describe_fresh_outcome(state.fresh)))
    columns = [
        Column("proxy task", lambda row: row["proxy_task"], is_number=False),
        Column("models", lambda row: f"{wording.format_number(row['models'])} {row['kind']}", is_number=False),
        Column("total steps", lambda row: wording.format_number(row["final_step"])),
        Column("tau, proxy search", lambda row: wording.format_tau(row["tau_truncated"])),
        Column("tau, confirmation runs", lambda row: wording.format_tau(row["tau"])),
        Column("lower bound (95 %)", lambda row: wording.format_tau(row["bound"])),
        Column("pooled tau", lambda row: wording.format_tau(row["tau_pooled"])),
        Column("p (one-sided)", lambda row: wording.format_p_value(row["p_value"])),
        Column("detectable tau", lambda row: wording.format_tau(row["noticeable_tau"])),
        Column("result", lambda row: row["outcome"], is_number=False),
    ]
    return Table(rows, columns, CONFIRMATIONS)


def qualify_acceptance(state: ConfirmationState | None) -> str:
    """Write what follows "Accepted" in a headline if the confirmation is void; else nothing."""
    if state is None or state.void is None:
        return ""
    return ", not confirmed" if state.void.reason is VoidReason.NOT_IN_TABLE else ", confirmation void"


def write_confirmation(results: StudyResults, task: TaskState) -> str:
    """Write what a verdict's sentence says of its confirmation; empty if none was needed or possible."""
    state = results.confirmation_of(task)
    if (state is None or state.outcome is None) and not results.is_replayed:
        return " Not confirmed yet."
    if state is not None and state.void is not None:
        return f" {_name_void(state.void)}: {state.void.reason.value}."
    if (
        state is None
        or state.outcome is not ConfirmationOutcome.STANDS
        or state.result is None
        or state.is_trained_already
    ):
        return ""
    return " Confirmation runs do not contradict it."


def warn_of_confirmation(results: StudyResults, task: TaskState) -> Iterator[Remark]:
    """Yield evidence against an accepted proxy task or its confirmation, which is shown before all other remarks."""
    state = results.confirmation_of(task)
    if state is not None and state.void is not None:
        reason = state.void.description
        yield Remark(f"{_name_void(state.void)}.", f"{reason[:1].upper()}{reason[1:]}. {state.void.advice}")
    if state is not None and state.fresh is not None and _is_contradicted_by(state.fresh):
        yield _remark_on_fresh_models(state.fresh)
    contradicted = list(list_contradictions(results))
    if contradicted:
        yield Remark("A proxy task accepted before was contradicted.", " ".join(contradicted))


def remark_on_confirmation(results: StudyResults, task: TaskState) -> Iterator[Remark]:
    """Remark on the result of the confirmation runs, or on their absence."""
    state = results.confirmation_of(task)
    if state is None or state.outcome is None:
        yield _remark_on_missing_runs(results, task)
        return
    if state.result is not None:
        yield _remark_on_result(state, state.result)
    if state.fresh is not None and state.fresh.is_judged and not _is_contradicted_by(state.fresh):
        yield _remark_on_fresh_models(state.fresh)


def list_contradictions(results: StudyResults) -> Iterator[str]:
    """Yield a sentence for each accepted proxy task that its confirmation runs contradicted."""
    for task in results.tasks.values():
        state = results.confirmation_of(task)
        if state is None or state.outcome is not ConfirmationOutcome.CONTRADICTED or state.result is None:
            continue
        yield (
            f"{task.name} was accepted after {state.final_step:,} of {task.total_steps:,} steps and contradicted by "
            f"confirmation runs of {state.final_step:,} steps: {_write_correlation(state.result)}."
            f"{write_test(state.result)}"
        )


def _make_row(state: ConfirmationState, kind: str, result: Confirmation | None, outcome: str) -> Row:
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
        "bound": result and result.bound,
        "tau_pooled": result and result.pooled and result.pooled.tau,
        "p_value": result and result.p_value,
        "noticeable_tau": result and result.noticeable_tau,
        "outcome": outcome,
    }


def _remark_on_missing_runs(results: StudyResults, task: TaskState) -> Remark:
    steps = wording.format_number(task.final_step)
    where = (
        f"after {steps} steps of a training of {task.total_steps:,}"
        if (task.final_step or 0) < task.total_steps
        else "at the end of the full training"
    )
    how = (
        f"A replay confirms the verdict if the table has trainings with {steps} in its column schedule."
        if results.is_replayed
        else "Run the study's command with job=confirm to train the models once on that schedule."
    )
    return Remark(
        "Not confirmed yet.",
        f"Tau was measured {where}. A training of {steps} steps in total completes its learning-rate schedule by then "
        f"and may rank models differently. {how}",
    )


def _remark_on_result(state: ConfirmationState, result: Confirmation) -> Remark:
    if state.is_trained_already:
        return Remark(
            "No confirmation runs needed.",
            f"The proxy task was accepted at the end of its training of {state.final_step:,} steps, so tau was "
            f"measured on the schedule that a search will use.",
        )
    pooled = (
        ""
        if result.pooled is None
        else (
            f" Pooled over both trainings tau is {wording.format_tau(result.pooled.tau)}, which is biased upwards, "
            f"since the first was selected for its tau."
        )
    )
    return Remark(
        "Confirmation runs do not contradict the verdict.",
        f"The same models were trained once more for {state.final_step:,} steps in total, as in a search: "
        f"{_write_correlation(result)}.{write_test(result)}{_write_power(result)}{pooled} These are the models on "
        f"which the proxy task was selected, so the luck of their draw counts again: the bound allows for it, and "
        f"fresh models measure it (confirm.fresh_models).",
    )


def _remark_on_fresh_models(fresh: FreshModels) -> Remark:
    causes = ", ".join(f"{number} by {cause}" for cause, number in fresh.failed)
    failed = f" Failed: {causes}." if causes else ""
    tried = f"{fresh.trainable:,} of {wording.format_count(fresh.wanted, 'requested new random model')} trained fully"
    if fresh.result is None:
        return Remark("Fresh models are inconclusive.", f"{tried}; too few have both scores.{failed}")
    verb = "contradict" if _is_contradicted_by(fresh) else "do not contradict"
    return Remark(
        f"Fresh models {verb} the verdict.",
        f"{tried} and under the proxy task: {_write_correlation(fresh.result)}. They were not used for any choice, so "
        f"this tau has no selection bias, and its bound needs no correction.{write_test(fresh.result)}"
        f"{_write_power(fresh.result)}{failed}",
    )


def _name_void(void: Void) -> str:
    return "Not confirmed" if void.reason is VoidReason.NOT_IN_TABLE else "The confirmation is void"


def _describe_outcome(state: ConfirmationState) -> str:
    if state.void is not None and state.void.reason is VoidReason.NOT_IN_TABLE:
        return f"not confirmed ({state.void.reason.value})"
    outcome = OUTCOMES[state.outcome]
    return outcome if state.void is None else f"{outcome} ({state.void.reason.value})"


def _describe_fresh_outcome(fresh: FreshModels) -> str:
    if not fresh.is_judged:
        return OUTCOMES[None]
    if fresh.result is None:
        return "too few scores"
    return "contradicted" if _is_contradicted_by(fresh) else "not contradicted"


def _is_contradicted_by(fresh: FreshModels) -> bool:
    return fresh.result is not None and fresh.result.is_contradicted


def _write_correlation(result: Confirmation) -> str:
    found = result.correlation
    if found is None:
        return "tau is undefined, since the scores do not differ"
    bound = "" if result.bound is None else f", lower confidence bound {wording.format_tau(result.bound)}"
    return f"{wording.write_tau(found)}{bound}"


def write_test(result: Confirmation) -> str:
    """State the one-sided test of tau against the verdict's."""
    if result.stated_tau is None:
        return " The criterion states no tau to test against."
    if result.p_value is None:
        return ""
    limit = ", the highest tau that can be tested" if result.stated_tau >= HIGHEST_TAU else ""
    return f" One-sided test against {result.stated_tau:g}{limit}: {wording.write_p_value(result.p_value)}."


def _write_power(result: Confirmation) -> str:
    """State the power of the test."""
    if result.p_value is None or result.noticeable_tau is None:
        return ""
    models = wording.format_count(result.correlation.n if result.correlation else 0, "model")
    return f" With {models} the test detects tau <= {wording.format_tau(result.noticeable_tau)} with 80 % power."
