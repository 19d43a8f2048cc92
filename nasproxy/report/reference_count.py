"""How many reference models a study trains: the chosen numbers and two alternatives, as a table."""

from nasproxy.report import wording
from nasproxy.report.tables import Column, Row, Table
from nasproxy.stages.references.count_decision import CountDecision, write_numbers
from nasproxy.statistics.reference_count import ReferenceCount

FIELDS = ("kind", "initial", "maximum", "models", "accepted", "fraction", "study", "search", "total")


def make_count_table(decision: CountDecision | None) -> Table:
    """Tabulate the chosen numbers of reference models and two alternatives, with their expected costs."""
    if decision is None:
        return Table([], [], FIELDS)
    chosen = decision.choice.chosen
    first, other = ("given", "auto") if decision.is_given else ("chosen", "")
    rows = [_make_row(chosen, first), *(_make_row(count, other) for count in decision.choice.alternatives)]
    columns = [
        Column("reference models", _write_name, is_number=False),
        Column("expected number", lambda row: wording.format_number(row["models"], 2)),
        Column("probability of an accepted task", lambda row: f"{100 * row['accepted']:.0f} %"),
        Column(
            "accepted after, share of training",
            lambda row: wording.MISSING if row["fraction"] is None else f"{100 * row['fraction']:.3g} %",
        ),
        Column("study, full trainings", lambda row: f"{row['study']:,.1f}"),
        Column("search, full trainings", lambda row: f"{row['search']:,.1f}"),
        Column("total", lambda row: f"{row['total']:,.1f}"),
    ]
    return Table(rows, columns, FIELDS, frozenset([0]))


def _make_row(count: ReferenceCount, kind: str) -> Row:
    return {
        "kind": kind,
        "initial": count.initial,
        "maximum": count.maximum,
        "models": count.models,
        "accepted": count.accepted,
        "fraction": count.fraction,
        "study": count.study,
        "search": count.cost - count.study,
        "total": count.cost,
    }


def _write_name(row: Row) -> str:
    return f"{write_numbers(row['initial'], row['maximum'])}{f' ({kind})' if (kind := row['kind']) else ''}"
