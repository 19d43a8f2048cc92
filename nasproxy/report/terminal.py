"""Print tables, trees and activity: drawn on a terminal, else as lines of plain text with tabs between cells."""

from collections.abc import Collection

from rich.status import Status
from rich.table import Table as RichTable
from rich.text import Text
from rich.tree import Tree

from nasproxy.report.tables import Table
from nasproxy.tracking.standard_output import StandardOutput

UNBROKEN = 100_000
"""Width in characters that no line exceeds."""


def print_table(content: Table, title: str, whole_words: Collection[str] = ()) -> None:
    """Print a table.

    Args:
        content: The table.
        title: Title above the table, on a terminal only.
        whole_words: Headings of columns whose cells are not wrapped.
    """
    console = StandardOutput(highlight=False)
    if console.is_terminal:
        console.print(_draw_table(content, title, whole_words))
        return
    for line in _list_lines(content):
        print(line)


def print_tree(tree: Tree) -> None:
    """Print a tree: wrapped on a terminal, else a line for each branch."""
    console = StandardOutput(highlight=False)
    if console.is_terminal:
        console.print(tree)
        return
    whole = StandardOutput(highlight=False, width=UNBROKEN)
    with whole.capture() as capture:
        whole.print(tree)
    for line in capture.get().splitlines():
        print(line.rstrip())


def show_busy(doing: str) -> Status:
    """Show a spinner with a message on a terminal while something runs."""
    return StandardOutput().status(doing)


def _draw_table(content: Table, title: str, whole_words: Collection[str]) -> RichTable:
    table = RichTable(title=title, title_justify="left")
    for column in content.columns:
        justify = "right" if column.is_number else "left"
        table.add_column(column.heading, justify=justify, no_wrap=column.heading in whole_words)  # type: ignore[arg-type]
    for cells in content.cells:
        # Text, not markup: a message may contain brackets.
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _list_lines(content: Table) -> list[str]:
    return ["\t".join(cells) for cells in [content.headings, *content.cells]]
