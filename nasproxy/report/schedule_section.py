"""Comparison of learning-rate schedules: a table, and a sentence on what the trainings showed."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields

from nasproxy.report import wording
from nasproxy.report.content import Block, Figure, Heading, Paragraph, ShownTable
from nasproxy.report.tables import Column, Row, Table
from nasproxy.stages.schedule_comparison.stage import sort_curves
from nasproxy.stages.schedule_comparison.state import ScheduleComparisonState, ScheduleCurve
from nasproxy.stages.study_results import StudyResults

FIELDS = (*(each.name for each in fields(ScheduleCurve)), "late_change_seed_sds")


def make_schedules(results: StudyResults) -> Table:
    """Tabulate the compared schedules, the highest final score first."""
    curves = [] if results.schedules is None else sort_curves(results.schedules.curves, results.objective)
    rows: list[Row] = [
        {**asdict(curve), "late_change_seed_sds": _compare_with_noise(results, curve)} for curve in curves
    ]
    columns = [
        Column("schedule", lambda row: row["schedule"], is_number=False),
        Column("weight averaging", lambda row: row["smoothing"], is_number=False),
        Column(
            f"final {results.objective.name}",
            lambda row: "failed" if row["score"] is None else wording.format_number(row["score"]),
        ),
        Column("largest change, last quarter", lambda row: wording.format_number(row["late_change"], 2)),
    ]
    if results.seed_sd:
        columns.append(Column("in seed SDs", lambda row: wording.format_number(row["late_change_seed_sds"], 2)))
    if any(curve.late_tau is not None for curve in curves):
        columns.append(Column("lowest tau, last quarter", lambda row: wording.format_tau(row["late_tau"])))
    columns += [
        Column("roughness", lambda row: wording.format_number(row["roughness"], 3)),
        Column("trial", lambda row: row["key"], is_number=False),
    ]
    return Table(rows, columns, FIELDS)


def write_schedules(results: StudyResults) -> Iterator[Block]:
    """Write the part of the report on compared schedules, if there are any."""
    compared = results.schedules
    if compared is None:
        return
    yield Heading("Comparison of learning-rate schedules", anchor="schedules")
    yield Paragraph(f"{_describe_trainings(compared)} {_describe_findings(results, compared.curves)}".strip())
    yield Paragraph(_explain_measures(compared), is_note=True)
    yield Figure(
        "schedules",
        "Validation curves of the same model with the same seed and images. With weight averaging, the averaged "
        "weights are validated: ema from the start of training, swa from the start of its average. The last panel "
        "shows the learning rates that the trainer reported.",
    )
    yield ShownTable("schedules")


def _describe_trainings(compared: ScheduleComparisonState) -> str:
    models = max(len(curve.keys) for curve in compared.curves)
    chosen = wording.format_architecture(compared.architecture)
    trained = f"One model ({chosen}), trained" if models == 1 else f"{models} models, the first {chosen}, each trained"
    return f"{trained} once under each learning-rate schedule, without and with weight averaging."


def _explain_measures(compared: ScheduleComparisonState) -> str:
    ranks = (
        ""
        if all(curve.late_tau is None for curve in compared.curves)
        else " Lowest tau: between the final ranks of the models and those at these checks."
    )
    return (
        f"Largest change: the largest difference between the final score and those at the checks of the last quarter "
        f"of training, which is what ending earlier would change.{ranks} A schedule whose rate is near zero long "
        f"before the end hardly changes, whatever it scores: compare final scores first. Roughness: how much a curve "
        f"falls on its way, relative to its range."
    )


def _describe_findings(results: StudyResults, curves: Sequence[ScheduleCurve]) -> str:
    trained = sort_curves([curve for curve in curves if curve.is_measured], results.objective)
    if not trained:
        return ""
    best, calmest = trained[0], min(trained, key=lambda curve: curve.late_change or 0.0)
    found = f"Best final score: {_describe_curve(results, best)}."
    if calmest is not best:
        found += f" Smallest change: {_describe_curve(results, calmest)}."
    noise = (
        "the seed noise is not measured (job=measure_variance)"
        if results.seed_sd is None
        else f"the seed SD is {wording.format_number(results.seed_sd, 2)}"
    )
    return f"{found} One training each, and {noise}: small differences may be chance."


def _describe_curve(results: StudyResults, curve: ScheduleCurve) -> str:
    in_sds = _compare_with_noise(results, curve)
    noise = "" if in_sds is None else f", {wording.format_number(in_sds, 2)} seed SDs"
    change = wording.format_number(curve.late_change, 2)
    return f"{curve.name}, {wording.format_number(curve.score)} (largest change {change}{noise})"


def _compare_with_noise(results: StudyResults, curve: ScheduleCurve) -> float | None:
    return None if curve.late_change is None or not results.seed_sd else curve.late_change / results.seed_sd
