"""The report's tables: rows of plain values for programs, and columns that format them for readers."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from nasproxy.cost import vertex_comparison
from nasproxy.cost.account import Cost, count_stage_costs, measure_train_saving, measure_wall_saving, sum_train_seconds
from nasproxy.report import wording
from nasproxy.report.search_prediction import TOP, SearchCost, SearchPrediction
from nasproxy.report.task_outcomes import TaskOutcome, explain_outcome, get_models_needed, get_outcome
from nasproxy.stages.headline import Headline, find_headline
from nasproxy.stages.proxy_search.rules import list_by_path
from nasproxy.stages.proxy_search.state import TaskState
from nasproxy.stages.study_results import ModelScores, StudyResults, Trial, find_decisive_check, rank_purpose
from nasproxy.statistics.rank_correlation import (
    RankCorrelation,
    spearman,
    tau_in_better_half,
    top_k_regret,
    weighted_tau,
)
from nasproxy.trials.objective import Objective

Row = dict[str, Any]

RANKS = (
    *("tau", "tau_low", "tau_high", "p_value", "models", "spearman", "weighted_tau", "tau_better_half"),
    "top_regret",
)
"""Values of `measure_ranks`."""
PROXY_TASKS = (
    *("proxy_task", "is_best", "is_accepted", "state", "outcome", "models_needed", *RANKS, "needed", "lost"),
    *("lost_tau_low", "lost_tau_high", "step", "total_steps", "median_score", "train_seconds", "wall_seconds"),
    *("train_ratio", "wall_ratio", "tau_confirmed", "bound", "grade"),
)
NOT_CHOSEN = ("proxy_task", "outcome", "models_needed", "step", "tau", "needed", "models", "reason")
COMPARISON = ("stage", "proxy_task", *vertex_comparison.WAYS)
REFERENCES = ("model", "is_added", "architecture", "score", "train_seconds", "trial")
COSTS = ("stage", "proxy_task", "trials", "steps", "trainings", "train_seconds", "wall_seconds", "failed", "causes")
TRIALS = (
    *("trial", "stage", "proxy_task", "architecture", "seed", "micro_batch", "state", "step", "total_steps", "score"),
    *("train_seconds", "wall_seconds", "cause", "message", "replaced_by", "change"),
)
SETTINGS = ("path", "value")
TOP_K = 3
"""Models trained fully after a search, for the regret."""
LONGEST_MESSAGE = 300


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        heading: Its heading.
        text: Formats the cell of a row.
        is_number: Whether cells are aligned to the right.
        is_prose: Whether cells hold sentences, which need a minimum width.
    """

    heading: str
    text: Callable[[Row], str]
    is_number: bool = True
    is_prose: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        rows: Plain values by name; None where missing.
        columns: The columns shown to readers.
        fields: Names of the values of a row, also for a table without rows.
        emphasised: Indices of the rows to highlight.
    """

    rows: Sequence[Row]
    columns: Sequence[Column]
    fields: tuple[str, ...]
    emphasised: frozenset[int] = field(default_factory=frozenset)

    @property
    def headings(self) -> list[str]:
        """Headings of the columns."""
        return [column.heading for column in self.columns]

    @property
    def cells(self) -> list[list[str]]:
        """Texts of all cells, row by row."""
        return [[column.text(row) for column in self.columns] for row in self.rows]


def make_proxy_tasks(results: StudyResults) -> Table:
    """Tabulate all proxy tasks: accepted ones first, then by training time."""
    rows = [_make_proxy_task_row(results, task) for task in results.tasks.values()]
    never = float("inf")
    rows.sort(key=lambda row: (not row["is_accepted"], never if row["train_seconds"] is None else row["train_seconds"]))
    best = frozenset(place for place, row in enumerate(rows) if row["is_best"])
    by_wall_time = Column("speedup, wall time", lambda row: wording.format_speedup(row["wall_ratio"]))
    columns = [
        Column("proxy task", lambda row: row["proxy_task"], is_number=False),
        Column("outcome", _format_outcome, is_number=False),
        Column("grade", lambda row: row["grade"] or "", is_number=False),
        Column("tau, confirmed", lambda row: wording.format_tau(row["tau_confirmed"])),
        Column("lower bound", lambda row: wording.format_tau(row["bound"])),
        Column("steps", lambda row: wording.format_number(row["step"])),
        Column("training time", lambda row: wording.format_duration(row["train_seconds"])),
        Column("speedup", lambda row: wording.format_speedup(row["train_ratio"])),
        *([by_wall_time] if any(row["wall_ratio"] for row in rows) else []),
        *make_rank_columns(),
    ]
    if any(row["lost"] for row in rows):
        columns.insert(-len(make_rank_columns()) + 2, Column("tau bounds, lost models", _format_lost_bounds))
    return Table(rows, columns, PROXY_TASKS, best)


def make_rank_columns() -> list[Column]:
    """Make the columns of rank statistics, for rows of `measure_ranks`."""
    return [
        Column("tau", lambda row: wording.format_tau(row["tau"])),
        Column("95 % CI, one look", lambda row: wording.format_interval(row["tau_low"], row["tau_high"])),
        Column("p", lambda row: wording.format_p_value(row["p_value"])),
        Column("models", lambda row: wording.format_number(row["models"])),
        Column("Spearman", lambda row: wording.format_tau(row["spearman"])),
        Column("weighted tau", lambda row: wording.format_tau(row["weighted_tau"])),
        Column("tau, top half", lambda row: wording.format_tau(row["tau_better_half"])),
        Column(f"top-{TOP_K} regret", lambda row: wording.format_number(row["top_regret"], 2)),
    ]


def measure_ranks(scores: ModelScores, found: RankCorrelation | None) -> Row:
    """Measure how well scores rank the reference models; None where a statistic is undefined."""
    half = scores.measure(tau_in_better_half)
    return {
        "tau": found and found.tau,
        "tau_low": found and found.low,
        "tau_high": found and found.high,
        "p_value": found and found.p_value,
        "models": found and found.n,
        "spearman": scores.measure(spearman),
        "weighted_tau": scores.measure(weighted_tau),
        "tau_better_half": half and half.tau,
        "top_regret": scores.measure(lambda proxy, full: top_k_regret(proxy, full, TOP_K)),
    }


def make_not_chosen(results: StudyResults) -> Table:
    """Tabulate the proxy tasks that were not chosen: outcome, tau and acceptance threshold at the last look, reason."""
    tasks = [task for task in results.tasks.values() if get_outcome(results, task) is not TaskOutcome.CHOSEN]
    columns = [
        Column("proxy task", lambda row: row["proxy_task"], is_number=False),
        Column("outcome", _format_outcome, is_number=False),
        Column("last look, step", lambda row: wording.format_number(row["step"])),
        Column("tau", lambda row: wording.format_tau(row["tau"])),
        Column("acceptance threshold", lambda row: wording.format_tau(row["needed"])),
        Column("models", lambda row: wording.format_number(row["models"])),
        Column("reason", lambda row: f"{row['reason']}.", is_number=False, is_prose=True),
    ]
    return Table([_make_not_chosen_row(results, task) for task in tasks], columns, NOT_CHOSEN)


def make_vertex_comparison(results: StudyResults) -> Table:
    """Compare this study's cost with that of Vertex AI NAS, as it is and with its two faults fixed."""
    rows = [_make_comparison_row(row) for row in vertex_comparison.compare_with_vertex(results)]
    ways = {"study": "this study", "as_it_is": "Vertex AI NAS as it is", "corrected": "Vertex AI NAS, faults fixed"}
    columns = [
        Column("stage", lambda row: row["stage"], is_number=False),
        Column("proxy task", lambda row: row["proxy_task"] or "", is_number=False),
        *(
            _make_effort_column(way, heading, unit)
            for way, heading in ways.items()
            for unit in ("trainings", "seconds")
        ),
    ]
    return Table(rows, columns, COMPARISON, frozenset([len(rows) - 1] if rows else []))


def make_search(expected: SearchPrediction | None) -> Table:
    """Compare the cost of a search with the proxy task and with full training."""
    rows: list[Row] = [] if expected is None else [asdict(cost) for cost in expected.costs]
    columns = [
        Column("cost of the search", lambda row: row["name"], is_number=False),
        Column(f"proxy task + top {TOP} trained fully", lambda row: wording.format_duration(row["proxy_seconds"])),
        Column("equivalent full trainings", lambda row: wording.format_about(row["full_models"])),
        Column("all models trained fully", lambda row: wording.format_duration(row["full_seconds"])),
        Column("break-even of the study", lambda row: _format_break_even(row["break_even"])),
    ]
    return Table(rows, columns, _list_fields(SearchCost))


def make_references(results: StudyResults) -> Table:
    """Tabulate the reference models and the baseline model, best first."""
    baseline = results.selection.baseline if results.selection else None
    models = [*results.references, *results.added, *([] if baseline is None else [baseline])]
    models.sort(key=lambda model: results.objective.orient(model.score), reverse=True)
    rows: list[Row] = [
        {
            "model": "baseline" if model is baseline else f"candidate {model.number}",
            "is_added": model in results.added,
            "architecture": wording.format_architecture(model.architecture),
            "score": model.score,
            "train_seconds": model.train_seconds,
            "trial": model.key,
        }
        for model in models
    ]
    columns = [
        Column("model", lambda row: row["model"] + (", added" if row["is_added"] else ""), is_number=False),
        Column("architecture", lambda row: row["architecture"], is_number=False, is_prose=True),
        Column(results.objective.name, lambda row: wording.format_number(row["score"])),
        Column("training time", lambda row: wording.format_duration(row["train_seconds"])),
        Column("trial", lambda row: row["trial"], is_number=False),
    ]
    return Table(rows, columns, REFERENCES, frozenset(i for i, model in enumerate(models) if model is baseline))


def make_costs(results: StudyResults) -> Table:
    """Tabulate the cost of each stage and proxy task, and the total."""
    rows = [_make_cost_row(results, stage, task, cost) for (stage, task), cost in count_stage_costs(results).items()]
    rows.append(_make_cost_row(results, "total", None, Cost.of(list(results.trials.values()))))
    columns = [
        Column("stage", lambda row: row["stage"], is_number=False),
        Column("proxy task", lambda row: row["proxy_task"] or "", is_number=False),
        Column("trials", lambda row: wording.format_number(row["trials"])),
        Column("steps", lambda row: wording.format_number(row["steps"])),
        Column("full-training equivalents", _format_full_trainings),
        Column("training time", lambda row: wording.format_duration(row["train_seconds"])),
        Column("wall time", lambda row: wording.format_duration(row["wall_seconds"])),
        Column("failed trials", lambda row: wording.format_number(row["failed"])),
        Column("causes", lambda row: row["causes"], is_number=False),
    ]
    return Table(rows, columns, COSTS, frozenset([len(rows) - 1]))


def make_trials(results: StudyResults) -> Table:
    """Tabulate all trials, including failed ones, by stage and score; trials without a score come last."""
    ranked = sorted(results.trials.items(), key=lambda item: _sort_key(item[1], results.objective))
    rows = [_make_trial_row(key, trial) for key, trial in ranked]
    has_micro_batches = any(row["micro_batch"] is not None for row in rows)
    columns = [
        Column("trial", lambda row: row["trial"], is_number=False),
        Column("stage", lambda row: row["stage"], is_number=False),
        Column("proxy task", lambda row: row["proxy_task"] or "", is_number=False),
        Column("architecture", lambda row: row["architecture"], is_number=False, is_prose=True),
        Column("seed", lambda row: str(row["seed"])),
        *([Column("micro-batch", lambda row: wording.format_number(row["micro_batch"]))] if has_micro_batches else []),
        Column("state", lambda row: row["state"], is_number=False),
        Column("steps", lambda row: f"{row['step']}/{row['total_steps']}"),
        Column(results.objective.name, lambda row: wording.format_number(row["score"])),
        Column("training time", lambda row: wording.format_duration(row["train_seconds"])),
        Column("wall time", lambda row: wording.format_duration(row["wall_seconds"])),
        Column("cause", lambda row: _format_cause(row), is_number=False),
    ]
    return Table(rows, columns, TRIALS)


def make_failures(results: StudyResults) -> Table:
    """Tabulate the trials that failed and were not retried, with their error messages."""
    every = make_trials(results)
    rows = [row for row in every.rows if row["state"] == "failed"]
    shown = ("trial", "stage", "proxy task", "architecture", "steps")
    columns = [column for column in every.columns if column.heading in shown]
    message = Column("cause", lambda row: _format_cause(row, LONGEST_MESSAGE), is_number=False)
    return Table(rows, [*columns, message], TRIALS)


def make_settings(results: StudyResults) -> Table:
    """Tabulate the base configuration of the study."""
    return _make_settings_table(results.base)


def make_rules(results: StudyResults) -> Table:
    """Tabulate the settings that the proxy tasks were last judged by."""
    return _make_settings_table(list_by_path(results.judged_by, results.policy))


def _make_settings_table(values: Mapping[str, Any]) -> Table:
    rows: list[Row] = [{"path": path, "value": value} for path, value in sorted(values.items())]
    columns = [
        Column("setting", lambda row: row["path"], is_number=False),
        Column("value", lambda row: json.dumps(row["value"], ensure_ascii=False), is_number=False),
    ]
    return Table(rows, columns, SETTINGS)


def _list_fields(kind: type[Any]) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind))


def _make_proxy_task_row(results: StudyResults, task: TaskState) -> Row:
    check = find_decisive_check(task)
    found = None if check is None else check.correlation
    scores = ModelScores.none() if check is None else results.scores_at(task, check.step)
    train, wall = measure_train_saving(results, task), measure_wall_saving(results, task)
    bounds = None if check is None else results.lost_bounds(task, check.step)
    shown = find_headline(task, results.confirmation_of(task)) if task.is_accepted else None
    return {
        "proxy_task": task.name,
        "is_best": task is results.best,
        "is_accepted": task.is_accepted,
        "state": None if task.stopping_state is None else task.stopping_state.value,
        "outcome": get_outcome(results, task).value,
        "models_needed": get_models_needed(task),
        **measure_ranks(scores, found),
        "needed": check and check.needed,
        "lost": bounds and bounds.lost,
        "lost_tau_low": bounds and bounds.low,
        "lost_tau_high": bounds and bounds.high,
        "step": check and check.step,
        "total_steps": task.total_steps,
        "median_score": check and check.median_score,
        "train_seconds": check and check.median_train_seconds,
        "wall_seconds": wall and wall.proxy_seconds,
        "train_ratio": train and train.ratio,
        "wall_ratio": wall and wall.ratio,
        "tau_confirmed": _get_confirmed_tau(shown),
        "bound": shown and shown.bound,
        "grade": shown and shown.grade.value,
    }


def _get_confirmed_tau(shown: Headline | None) -> float | None:
    if shown is None or shown.is_selected or shown.correlation is None:
        return None
    return shown.correlation.tau


def _format_outcome(row: Row) -> str:
    outcome, more = TaskOutcome(row["outcome"]), row["models_needed"]
    is_shown = outcome is TaskOutcome.INCONCLUSIVE and more is not None
    return f"{outcome.value} ({wording.format_count(more, 'more model')})" if is_shown else outcome.value


def _format_break_even(models: int | None) -> str:
    return "never" if models is None else wording.format_count(models, "searched model")


def _format_lost_bounds(row: Row) -> str:
    if not row["lost"]:
        return wording.MISSING
    return f"{wording.format_interval(row['lost_tau_low'], row['lost_tau_high'])} ({row['lost']} lost)"


def _make_not_chosen_row(results: StudyResults, task: TaskState) -> Row:
    check = find_decisive_check(task)
    found = None if check is None else check.correlation
    return {
        "proxy_task": task.name,
        "outcome": get_outcome(results, task).value,
        "models_needed": get_models_needed(task),
        "step": check and check.step,
        "tau": found and found.tau,
        "needed": check and check.needed,
        "models": found and found.n,
        "reason": explain_outcome(results, task),
    }


def _make_comparison_row(row: vertex_comparison.StageComparison) -> Row:
    return {
        "stage": row.stage,
        "proxy_task": row.task,
        **{way: None if (effort := getattr(row, way)) is None else asdict(effort) for way in vertex_comparison.WAYS},
    }


def _make_effort_column(way: str, heading: str, unit: str) -> Column:
    def text(row: Row) -> str:
        effort = row[way]
        if effort is None:
            return wording.MISSING
        amount = (
            wording.format_about(effort["trainings"])
            if unit == "trainings"
            else wording.format_duration(effort["seconds"])
        )
        return f"\N{GREATER-THAN OR EQUAL TO}\N{NO-BREAK SPACE}{amount}" if effort["is_at_least"] else amount

    return Column(f"{heading}: {'full-training equivalents' if unit == 'trainings' else 'training time'}", text)


def _make_cost_row(results: StudyResults, stage: str, task: str | None, cost: Cost) -> Row:
    return {
        "stage": stage,
        "proxy_task": task,
        "trials": cost.trials,
        "steps": cost.steps,
        "trainings": None if results.full_steps is None else cost.steps / results.full_steps,
        "train_seconds": cost.train_seconds,
        "wall_seconds": cost.wall_seconds,
        "failed": cost.failed,
        "causes": ", ".join(f"{number} {cause}" for cause, number in cost.causes),
    }


def _make_trial_row(key: str, trial: Trial) -> Row:
    record, status = trial.alone, trial.alone.status
    by = record.retries[0] if record.retries else None
    return {
        "trial": key,
        "stage": trial.purpose,
        "proxy_task": trial.task,
        "architecture": wording.format_architecture(trial.spec.architecture),
        "seed": trial.spec.seed,
        "micro_batch": trial.spec.recipe.micro_batch,
        "state": status.state.value if by is None else "retried",
        "step": record.step,
        "total_steps": trial.spec.total_steps,
        "score": record.score,
        "train_seconds": trial.spec.devices * sum_train_seconds(record),
        "wall_seconds": trial.spec.devices * status.wall_seconds,
        "cause": None if status.cause is None else status.cause.value,
        "message": status.message,
        "replaced_by": by and by.key,
        "change": by and by.change,
    }


def _sort_key(trial: Trial, objective: Objective) -> tuple[tuple[int, str], str, bool, float]:
    score = trial.alone.score
    is_last = trial.alone.is_failed or score is None
    return rank_purpose(trial.purpose), trial.task or "", is_last, 0.0 if score is None else -objective.orient(score)


def _format_cause(row: Mapping[str, Any], longest: int = 60) -> str:
    if row["replaced_by"] is not None:
        return f"{row['cause']}: retried as {row['replaced_by']} with {row['change']}"
    return ": ".join(wording.format_line(text, longest) for text in (row["cause"], row["message"]) if text)


def _format_full_trainings(row: Row) -> str:
    return wording.MISSING if row["trainings"] is None else wording.format_about(row["trainings"])
