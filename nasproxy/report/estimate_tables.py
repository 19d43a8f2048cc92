"""Cost estimate of a study: a forecast before it starts, and a comparison with actual costs afterwards."""

from collections.abc import Iterator, Mapping, Sequence

from nasproxy.cost.account import Cost
from nasproxy.cost.estimate import Amount, Estimate, StageEstimate
from nasproxy.report import wording
from nasproxy.report.augmentation_remarks import advise_on_kind
from nasproxy.report.duration_remarks import advise_on_duration
from nasproxy.report.tables import Column, Row, Table
from nasproxy.space import SearchSpace
from nasproxy.stages.confirmation.state import ConfirmationOutcome
from nasproxy.stages.proxy_search.state import TaskState
from nasproxy.stages.references.count_decision import write_decision
from nasproxy.stages.study_results import Purpose, StudyResults, Trial

TOTAL = "total"
ENDS = ("low", "middle", "high")
COMPARISON = (
    "stage",
    *(
        f"{quantity}_{end}"
        for end in ENDS
        for quantity in ("trials", "trainings", "elapsed_seconds", "device_seconds", "money")
    ),
    *("actual_trials", "actual_trainings", "actual_device_seconds", "same_steps_seconds", "ratio", "ratio_per_step"),
)
"""Values of a row of the comparison."""


def make_forecast(estimate: Estimate) -> Table:
    """Tabulate the forecast of each stage and the total: the middle estimate, and its range in brackets."""
    rows = [_make_forecast_row(estimate, name, stage) for name, stage in _add_total(estimate).items()]
    columns = [
        Column("stage", lambda row: row["stage"], is_number=False),
        Column("trials", lambda row: _format_range(row, "trials")),
        Column("full-training equivalents", lambda row: _format_range(row, "trainings")),
        Column("elapsed time", lambda row: _format_range(row, "elapsed_seconds")),
        Column("device time", lambda row: _format_range(row, "device_seconds")),
    ]
    if estimate.price_per_hour is not None:
        columns.append(Column("cost", lambda row: _format_range(row, "money")))
    return Table(rows, columns, tuple(rows[0]), frozenset([len(rows) - 1]))


def make_comparison(results: StudyResults, estimate: Estimate | None) -> Table:
    """Tabulate estimated and actual costs of each stage, and their ratio once the stage has ended."""
    if estimate is None:
        return Table([], [], COMPARISON)
    grouped = _group_by_stage(results, estimate)
    rows = [
        _make_comparison_row(results, estimate, grouped.get(name, []), name, stage)
        for name, stage in _add_total(estimate).items()
    ]
    expected = [row["same_steps_seconds"] for row in rows[:-1]]
    rows[-1]["same_steps_seconds"] = sum(expected) if all(seconds is not None for seconds in expected) else None
    for row in rows:
        row["ratio_per_step"] = _divide(row["actual_device_seconds"], row["same_steps_seconds"])
    columns = [
        Column("stage", lambda row: row["stage"], is_number=False),
        Column("trials, estimated", lambda row: _format_range(row, "trials")),
        Column("actual", lambda row: wording.format_number(row["actual_trials"])),
        Column("full-training equivalents, estimated", lambda row: _format_range(row, "trainings")),
        Column("actual", lambda row: _format_amount("trainings", row["actual_trainings"])),
        Column("device time, estimated", lambda row: _format_range(row, "device_seconds")),
        Column("actual", lambda row: wording.format_duration(row["actual_device_seconds"])),
        Column("actual / estimated", lambda row: _format_amount("ratio", row["ratio"])),
        Column("actual / estimated, per step", lambda row: _format_amount("ratio", row["ratio_per_step"])),
    ]
    return Table(rows, columns, COMPARISON, frozenset([len(rows) - 1]))


def write_estimate(estimate: Estimate) -> str:
    """Write the total in one line."""
    row = _make_forecast_row(estimate, TOTAL, estimate.total)
    cost = "" if estimate.price_per_hour is None else f", cost {_format_range(row, 'money')}"
    return (
        f"estimate: {_format_range(row, 'trials')} trials, {_format_range(row, 'trainings')} full-training "
        f"equivalents, device time {_format_range(row, 'device_seconds')}{cost}"
    )


def write_assumptions(estimate: Estimate) -> list[str]:
    """List the assumptions of the estimate, a sentence or more each."""
    words = []
    assumed = estimate.assumption
    if assumed is not None:
        ends = (
            f"{assumed.task} is accepted after {assumed.step:,} of {assumed.total_steps:,} steps"
            if assumed.step is not None
            else "no proxy task is accepted"
        )
        words.append(
            f"The middle estimate assumes that proxy tasks rank as on published learning curves, and that the best "
            f"task of a grid is the best of a few draws, since tasks of one grid rank alike: by this study's "
            f"criterion, {ends}, with {wording.format_count(assumed.added, 'reference model')} added. Lower end: every "
            f"proxy task is accepted at its first check. Upper end: every task is trained to the end on the maximum "
            f"number of reference models."
        )
    if estimate.references is not None:
        revised = "" if estimate.references.is_given else " The numbers are revised when the first ones are trained."
        words.append(f"{write_decision(estimate.references)}{revised}")
    words.append(
        "Device time is that of busy slots: of GPUs, or of the machine if trials share its cores. The range covers "
        "what may be trained; each step is assumed to cost what it cost in the timing."
    )
    return [*words, *estimate.notes]


def list_advice(estimate: Estimate, space: SearchSpace) -> Iterator[str]:
    """Yield advice on a study before it starts: on what its space decides, and on long trials."""
    yield from advise_on_kind(space)
    if (advice := advise_on_duration(estimate.assumption)) is not None:
        yield f"advice: {advice}"


def _add_total(estimate: Estimate) -> Mapping[str, StageEstimate]:
    return {**estimate.stages, TOTAL: estimate.total}


def _make_forecast_row(estimate: Estimate, name: str, stage: StageEstimate) -> Row:
    amounts = {"low": stage.low, "middle": stage.middle, "high": stage.high}
    row: Row = {"stage": name}
    for end, amount in amounts.items():
        row.update({f"{quantity}_{end}": value for quantity, value in _measure_amount(estimate, amount).items()})
    return row


def _measure_amount(estimate: Estimate, amount: Amount) -> Mapping[str, float | None]:
    return {
        "trials": amount.trials,
        "trainings": amount.steps / estimate.full_steps,
        "elapsed_seconds": amount.elapsed_seconds,
        "device_seconds": estimate.device_seconds(amount),
        "money": estimate.price(amount),
    }


def _make_comparison_row(
    results: StudyResults, estimate: Estimate, trials: Sequence[Trial], name: str, stage: StageEstimate
) -> Row:
    row = _make_forecast_row(estimate, name, stage)
    cost = Cost.of(trials) if trials or name == TOTAL else None
    busy = sum(trial.alone.status.wall_seconds * estimate.slots_of(trial.spec.devices) for trial in trials)
    seconds = None if cost is None else busy * estimate.devices_per_slot
    expected, steps = row["device_seconds_middle"], stage.middle.steps
    has_ended = name in _list_finished_stages(results) or (
        name == TOTAL and set(estimate.stages) <= _list_finished_stages(results)
    )
    return {
        **row,
        "actual_trials": None if cost is None else cost.trials,
        "actual_trainings": None if cost is None else cost.steps / estimate.full_steps,
        "actual_device_seconds": seconds,
        "same_steps_seconds": 0.0 if cost is None else expected / steps * cost.steps if steps else None,
        "ratio": _divide(seconds, expected) if has_ended else None,
    }


def _divide(actual: float | None, expected: float | None) -> float | None:
    return actual / expected if actual is not None and expected else None


def _group_by_stage(results: StudyResults, estimate: Estimate) -> dict[str, list[Trial]]:
    """Group trials by stage as the estimate does: added reference models belong to the proxy search.

    A schedule comparison that was not estimated is left out, also of the total.
    """
    grouped: dict[str, list[Trial]] = {}
    for key, trial in results.trials.items():
        if trial.purpose == Purpose.SCHEDULES and trial.purpose not in estimate.stages:
            continue
        is_added = trial.purpose == Purpose.ADDED_REFERENCES or not _is_selected(results, key, trial)
        grouped.setdefault(Purpose.PROXY_SEARCH.value if is_added else trial.purpose, []).append(trial)
    return {**grouped, TOTAL: [trial for trials in grouped.values() for trial in trials]}


def _is_selected(results: StudyResults, key: str, trial: Trial) -> bool:
    selection = results.selection
    if selection is None or trial.purpose != Purpose.SELECTION:
        return True
    return key in selection.keys or (selection.baseline is not None and key == selection.baseline.key)


def _list_finished_stages(results: StudyResults) -> set[str]:
    ended = set()
    if results.measured is not None:
        ended.add(Purpose.VARIANCE.value)
    if results.references:
        ended.add(Purpose.SELECTION.value)
    if results.tasks and all(task.stopping_state is not None for task in results.tasks.values()):
        ended.add(Purpose.PROXY_SEARCH.value)
        if results.best is None or _is_confirmed(results, results.best):
            ended.add(Purpose.CONFIRMATION.value)
    return ended


def _is_confirmed(results: StudyResults, best: TaskState) -> bool:
    state = results.confirmation_of(best)
    if state is None or state.outcome in (None, ConfirmationOutcome.VOID):
        return False
    return state.fresh is None or state.fresh.is_judged


def _format_range(row: Row, quantity: str) -> str:
    low, middle, high = (_format_amount(quantity, row[f"{quantity}_{end}"]) for end in ENDS)
    return middle if low == high else f"{middle} ({low} to {high})"


def _format_amount(quantity: str, value: float | None) -> str:
    if value is None:
        return wording.MISSING
    if quantity.endswith("seconds"):
        return wording.format_duration(value)
    return {"trials": f"{value:,.0f}", "trainings": f"{value:,.1f}"}.get(quantity, f"{value:,.2f}")
