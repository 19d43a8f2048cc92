"""Frames of a study, with fixed column types: the rows of the report's tables, and rows that no table shows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from nasproxy.report import confirmation_section, strategies, tables
from nasproxy.report.tables import Row
from nasproxy.stages.proxy_search.state import StoppingState, TaskCheck, TaskState
from nasproxy.stages.registry import list_stages
from nasproxy.stages.study_results import Purpose, StudyResults
from nasproxy.statistics.acceptance import VerdictKind
from nasproxy.trials.proxy_task import DIMENSIONS

if TYPE_CHECKING:
    from pandas import DataFrame

NUMBER, COUNT, FLAG, TEXT, ANY = "float64", "Int64", "boolean", "string", "object"
"""Types of columns; each can represent a missing value."""

TRIALS = {
    "key": TEXT,
    "stage": TEXT,
    "proxy_task": TEXT,
    "architecture": ANY,
    "split": TEXT,
    "seed": COUNT,
    "micro_batch": COUNT,
    "state": TEXT,
    "step": COUNT,
    "total_steps": COUNT,
    "score": NUMBER,
    "train_seconds": NUMBER,
    "wall_seconds": NUMBER,
    "cause": TEXT,
    "message": TEXT,
    "replaced_by": TEXT,
    "change": TEXT,
}
CHECKS = {"key": TEXT, "step": COUNT, "score": NUMBER, "train_seconds": NUMBER}
PROXY_TASKS = {
    "proxy_task": TEXT,
    **dict.fromkeys(DIMENSIONS, NUMBER),
    "image_mode": TEXT,
    "devices": COUNT,
    "overrides": ANY,
    "is_chosen": FLAG,
    "is_accepted": FLAG,
    "outcome": TEXT,
    "stopping_state": TEXT,
    "final_step": COUNT,
    "step": COUNT,
    "total_steps": COUNT,
    "tau": NUMBER,
    "tau_low": NUMBER,
    "tau_high": NUMBER,
    "p_value": NUMBER,
    "models": COUNT,
    "needed": NUMBER,
    "spearman": NUMBER,
    "weighted_tau": NUMBER,
    "tau_better_half": NUMBER,
    "top_regret": NUMBER,
    "median_score": NUMBER,
    "train_seconds": NUMBER,
    "wall_seconds": NUMBER,
    "train_ratio": NUMBER,
    "wall_ratio": NUMBER,
    "tau_confirmed": NUMBER,
    "bound": NUMBER,
    "grade": TEXT,
}
STRATEGIES = {
    "compared_at": TEXT,
    "strategy": TEXT,
    "candidates": COUNT,
    "trained_fully": COUNT,
    "cost": NUMBER,
    "cost_from_here": NUMBER,
    "better": NUMBER,
    "better_low": NUMBER,
    "better_high": NUMBER,
    "missed": NUMBER,
    "score": NUMBER,
    "score_low": NUMBER,
    "score_high": NUMBER,
    "is_recommended": FLAG,
}
DECISIONS = {
    "stage": TEXT,
    "proxy_task": TEXT,
    "step": COUNT,
    "models": COUNT,
    "tau": NUMBER,
    "tau_low": NUMBER,
    "tau_high": NUMBER,
    "needed": NUMBER,
    "lower_limit": NUMBER,
    "bound": NUMBER,
    "median_score": NUMBER,
    "train_seconds": NUMBER,
    "decision": TEXT,
}

BETWEEN_LOOKS = (StoppingState.EXCEEDED_BEST_TIME, StoppingState.EXCESS_FAILURES)
"""Stopping states decided between looks: the next look would have come too late, or had too few models."""


def make_trials(results: StudyResults) -> "DataFrame":
    """Return a frame with a row for each trial and a column for each choice of its architecture."""
    import pandas as pd

    rows = tables.make_trials(results).rows
    specs = [results.trials[row["trial"]].spec for row in rows]
    frame = _make_frame(
        [
            {**row, "key": row["trial"], "architecture": dict(spec.architecture), "split": spec.split.value}
            for row, spec in zip(rows, specs, strict=True)
        ],
        TRIALS,
    )
    choices = pd.DataFrame([dict(spec.architecture) for spec in specs], index=frame.index).convert_dtypes()
    place = frame.columns.get_loc("architecture") + 1
    return pd.concat([frame.iloc[:, :place], choices.add_prefix("architecture."), frame.iloc[:, place:]], axis=1)


def make_checks(results: StudyResults) -> "DataFrame":
    """Return a frame with a row for each check, sorted by trial and step."""
    rows: list[Row] = []
    for key in (row["trial"] for row in tables.make_trials(results).rows):
        trial = results.trials[key]
        for check in trial.alone.checks:
            measured = {f"metric.{name}": value for name, value in check.metrics.items()}
            seconds = trial.spec.devices * check.train_seconds
            rows.append({"key": key, "step": check.step, "score": check.score, "train_seconds": seconds, **measured})
    names = dict.fromkeys(name for row in rows for name in row if name not in CHECKS)
    return _make_frame(rows, {**CHECKS, **dict.fromkeys(names, NUMBER)})


def make_proxy_tasks(results: StudyResults) -> "DataFrame":
    """Return a frame with a row for each proxy task: its setting and its state."""
    rows = []
    for row in tables.make_proxy_tasks(results).rows:
        task = results.tasks[row["proxy_task"]]
        setting = {**vars(task.proxy_task), "overrides": dict(task.proxy_task.overrides)}
        stopped = {"stopping_state": row["state"], "final_step": task.final_step}
        rows.append({**setting, **row, **stopped, "is_chosen": row["is_best"]})
    return _make_frame(rows, PROXY_TASKS)


def make_decisions(results: StudyResults) -> "DataFrame":
    """Return a frame with a row for each decision, in order."""
    return _make_frame(
        [
            *_variance(results),
            *_selection(results),
            *_looks(results),
            *_confirmations(results),
            *_list_stage_decisions(results),
        ],
        DECISIONS,
    )


def make_strategies(results: StudyResults) -> "DataFrame":
    """Return a frame with a row for each compared strategy."""
    worth = results.worth
    if worth is None:
        return _make_frame([], STRATEGIES)
    compared = {
        "planned candidates": strategies.list_planned(worth),
        "cost of the proxy task": worth.at_proxy_cost,
        "cost of the recommendation": worth.at_recommended_cost,
    }
    rows = [{"compared_at": at, **row} for at, found in compared.items() for row in strategies.list_rows(worth, found)]
    return _make_frame(rows, STRATEGIES)


def _make_frame(rows: Sequence[Row], types: Mapping[str, str]) -> "DataFrame":
    import pandas as pd

    return pd.DataFrame(rows, columns=list(types)).astype(dict(types))


def _variance(results: StudyResults) -> Iterator[Row]:
    if results.measured is not None:
        decision = "within its limits" if results.has_low_noise else "beyond its limits"
        yield {"stage": Purpose.VARIANCE.value, "models": 1, "decision": decision}


def _selection(results: StudyResults) -> Iterator[Row]:
    for iteration in () if results.selection is None else results.selection.iterations:
        if iteration.kept is not None:
            counts = {"kept": iteration.kept, "removed": iteration.removed, "failed": iteration.failed}
            yield {
                "stage": Purpose.SELECTION.value,
                "step": iteration.until_step,
                "models": len(iteration.candidates),
                "decision": ", ".join(f"{len(numbers)} {name}" for name, numbers in counts.items() if numbers),
            }


def _looks(results: StudyResults) -> Iterator[Row]:
    judged = [judgement for task in results.tasks.values() for judgement in _judgements(results, task)]
    if results.policy != "sequential":
        judged.sort(key=lambda judgement: judgement[0])
    for _, row in judged:
        yield row


def _judgements(results: StudyResults, task: TaskState) -> Iterator[tuple[tuple[float, bool], Row]]:
    """List the decisions on a proxy task, each with its training time and whether it comes after the looks then."""
    for check in task.checks:
        yield (check.rated_seconds, False), _look(task, check)
    if task.stopping_state in BETWEEN_LOOKS:
        best = None if task.beaten_by is None else results.tasks.get(task.beaten_by)
        last = task.checks[-1].rated_seconds if task.checks else 0.0
        moment = max(last, (best and best.final_rated_seconds) or 0.0)
        ended = {"stage": Purpose.PROXY_SEARCH.value, "proxy_task": task.name, "decision": task.stopping_state.value}
        yield (moment, True), ended


def _look(task: TaskState, check: TaskCheck) -> Row:
    found = check.correlation
    end = _end_at_last_look(task) if check is task.checks[-1] else None
    return {
        "stage": Purpose.PROXY_SEARCH.value,
        "proxy_task": task.name,
        "step": check.step,
        "models": check.models,
        "tau": found and found.tau,
        "tau_low": found and found.low,
        "tau_high": found and found.high,
        "needed": check.needed,
        "lower_limit": check.lower_limit,
        "bound": task.bound if check.step == task.final_step else None,
        "median_score": check.median_score,
        "train_seconds": check.median_train_seconds,
        "decision": "Continue" if end is None else end.value,
    }


def _end_at_last_look(task: TaskState) -> StoppingState | None:
    """Return the stopping state decided at the last look; a task that was contradicted later was accepted there."""
    if task.stopping_state in BETWEEN_LOOKS:
        return None
    if task.stopping_state is not StoppingState.CONTRADICTED:
        return task.stopping_state
    is_by_tau = task.verdict is not None and task.verdict.kind is VerdictKind.ACCEPTED
    return StoppingState.MET_CORRELATION if is_by_tau else StoppingState.MET_ACCURACY


def _confirmations(results: StudyResults) -> Iterator[Row]:
    for row in confirmation_section.make_confirmations(results).rows:
        decided = {"step": row["final_step"], "decision": f"{row['kind']}: {row['outcome']}"}
        yield {**row, **decided, "stage": Purpose.CONFIRMATION.value}


def _list_stage_decisions(results: StudyResults) -> Iterator[Row]:
    """List the decisions of stages that bring their own."""
    for stage in list_stages():
        result = results.stage_results.get(stage.name)
        for row in () if result is None else stage.list_decisions(result):
            yield {"stage": stage.label, **row}
