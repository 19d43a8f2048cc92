"""The study's tables as cells: what CSV files and Weights & Biases can both hold."""

import enum
from collections.abc import Mapping, Sequence
from typing import Any

from nasproxy.trials.spec import canonical

Rows = Sequence[Mapping[str, Any]]


def columns(rows: Rows) -> list[str]:
    """Names of all columns, in the order in which they first appear.

    >>> columns([{"name": "full"}, {"name": "half", "tau": 0.7}])
    ['name', 'tau']
    """
    return list(dict.fromkeys(str(name) for row in rows for name in row))


def cell(value: Any) -> Any:
    """A value as one cell: numbers and texts as they are, whatever is nested as canonical JSON.

    >>> cell({"width": 2, "depth": 1})
    '{"depth":1,"width":2}'
    """
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping | list | tuple):
        return canonical(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def cells(rows: Rows) -> list[list[Any]]:
    """The rows in the order of `columns`; None where a row lacks a column."""
    names = columns(rows)
    return [[cell(row.get(name)) for name in names] for row in rows]
