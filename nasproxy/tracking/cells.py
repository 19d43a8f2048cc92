"""The study's tables as cells: what CSV files and Weights & Biases can both hold."""

import enum
from collections.abc import Mapping, Sequence
from typing import Any

from nasproxy.trials.spec import to_canonical_json

Rows = Sequence[Mapping[str, Any]]


def list_columns(rows: Rows) -> list[str]:
    """Names of all columns, in the order in which they first appear.

    >>> columns([{"name": "full"}, {"name": "half", "tau": 0.7}])
    ['name', 'tau']
    """
    return list(dict.fromkeys(str(name) for row in rows for name in row))


def make_cell(value: Any) -> Any:
    """A value as one cell: numbers and texts as they are, whatever is nested as canonical JSON.

    >>> cell({"width": 2, "depth": 1})
    '{"depth":1,"width":2}'
    """
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping | list | tuple):
        return to_canonical_json(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def make_cells(rows: Rows) -> list[list[Any]]:
    """The rows in the order of `list_columns`; None where a row lacks a column."""
    names = list_columns(rows)
    return [[make_cell(row.get(name)) for name in names] for row in rows]
