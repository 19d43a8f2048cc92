"""Convert the study's tables to cells that both CSV files and Weights & Biases can store."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasproxy.trials.spec import to_canonical_json


@dataclass(frozen=True)
class TableRows:
    """The content of a table.

    Attributes:
        columns: Names of all columns, also of a table without rows.
        rows: Plain values by the name of their column; a row may lack some.
    """

    columns: tuple[str, ...]
    rows: Sequence[Mapping[str, Any]]

    @property
    def cells(self) -> list[list[Any]]:
        """Rows of cells in the order of the columns; None where a row lacks a column."""
        return [[make_cell(row.get(name)) for name in self.columns] for row in self.rows]


def make_cell(value: Any) -> Any:
    """Convert a value to one cell: numbers and strings unchanged, nested values as canonical JSON.

    >>> make_cell({"width": 2, "depth": 1})
    '{"depth":1,"width":2}'
    """
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping | list | tuple):
        return to_canonical_json(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
