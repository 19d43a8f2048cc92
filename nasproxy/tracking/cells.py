"""Convert the study's tables to cells that both CSV files and Weights & Biases can store."""

import enum
from collections.abc import Mapping, Sequence
from typing import Any

from nasproxy.trials.spec import to_canonical_json

Rows = Sequence[Mapping[str, Any]]


def list_columns(rows: Rows) -> list[str]:
    """List the names of all columns in order of first appearance.

    >>> list_columns([{"name": "full"}, {"name": "half", "tau": 0.7}])
    ['name', 'tau']
    """
    return list(dict.fromkeys(str(name) for row in rows for name in row))


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


def make_cells(rows: Rows) -> list[list[Any]]:
    """Convert rows to cells in the order of `list_columns`; None where a row lacks a column."""
    names = list_columns(rows)
    return [[make_cell(row.get(name)) for name in names] for row in rows]
