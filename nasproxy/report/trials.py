"""The list of all trials on standard output; failed ones are shown too."""

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from nasproxy.report import tables
from nasproxy.report.findings import read_findings
from nasproxy.report.tables import Table
from nasproxy.storage import TrialStore
from nasproxy.study import StudyFolder

FOLDED = ("trial", "stage", "proxy task", "state")
"""Columns of a terminal's table whose words are not broken."""


def print_trials(folder: StudyFolder, store: TrialStore | None = None) -> None:
    """Print all trials by stage and score: a table on a terminal, else one line each with tabs between the cells.

    Args:
        folder: The study.
        store: Its trials; None for those of its folder.

    Raises:
        CorruptFileError: A file of the study cannot be read.
    """
    content = tables.trials(read_findings(folder, time_tolerance=0.0, store=store))
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(_drawn(content, f"{len(content.rows)} trials of {folder.path.name}"))
        return
    for line in _lines(content):
        print(line)


def _drawn(content: Table, title: str) -> RichTable:
    table = RichTable(title=title, title_justify="left")
    for column in content.columns:
        justify = "right" if column.is_number else "left"
        table.add_column(column.heading, justify=justify, no_wrap=column.heading in FOLDED)  # type: ignore[arg-type]
    for row in content.rows:
        # Text, not markup: a message may hold brackets.
        table.add_row(*(Text(column.text(row)) for column in content.columns))
    return table


def _lines(content: Table) -> list[str]:
    rows = [[column.text(row) for column in content.columns] for row in content.rows]
    return ["\t".join(cells) for cells in [[column.heading for column in content.columns], *rows]]
