"""The content of a report as data: what the page shows, and what `report.json` holds."""

import enum
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from nasproxy.report.study_verdict import StudyVerdict
from nasproxy.report.tables import Table
from nasproxy.storage.files import make_corrupt_error, read_bytes
from nasproxy.storage.json_records import get_adapter, parse_json

SCHEMA = 1
"""Schema of `report.json`. New fields leave it as it is; a field that changes or goes raises it."""


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; a note is one in small print."""

    text: str
    is_note: bool = False
    kind: Literal["paragraph"] = "paragraph"


@dataclass(frozen=True)
class Heading:
    """A heading within a section.

    Attributes:
        text: The heading.
        anchor: Name that links lead to; empty for none.
        badge: A word or two beside it; empty for none.
        is_accepted: Whether the badge says that a proxy task was accepted.
        kind: Kind of the block.
    """

    text: str
    anchor: str = ""
    badge: str = ""
    is_accepted: bool = False
    kind: Literal["heading"] = "heading"


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: tuple[str, ...]
    kind: Literal["bullets"] = "bullets"


@dataclass(frozen=True)
class ShownTable:
    """A table of the report, by its name.

    Attributes:
        name: Name of the table.
        caption: Text above it.
        summary: Text that a reader clicks on to see it; empty to show it at once.
        kind: Kind of the block.
    """

    name: str
    caption: str = ""
    summary: str = ""
    kind: Literal["table"] = "table"


@dataclass(frozen=True)
class Figure:
    """A figure by the name of its picture, shown if there is one, with a caption unless it is empty."""

    picture: str
    caption: str = ""
    is_medium: bool = False
    kind: Literal["figure"] = "figure"


@dataclass(frozen=True)
class FigureGrid:
    """Small figures side by side."""

    figures: tuple[Figure, ...]
    kind: Literal["figures"] = "figures"


Block = Paragraph | Heading | Bullets | ShownTable | Figure | FigureGrid


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        anchor: Name that links lead to.
        link: Its name in the page's navigation.
        title: Its heading.
        blocks: Its content in order.
    """

    anchor: str
    link: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class TableContent:
    """A table as values and as the texts that readers see.

    Attributes:
        rows: Plain values by name; None where missing.
        fields: Names of the values, also for a table without rows.
        headings: Headings of the columns.
        cells: Texts of all cells, row by row.
        numeric: Indices of the columns that hold numbers.
        prose: Indices of the columns that hold sentences.
        emphasised: Indices of the rows to highlight.
    """

    rows: tuple[Mapping[str, Any], ...]
    fields: tuple[str, ...]
    headings: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    numeric: tuple[int, ...] = ()
    prose: tuple[int, ...] = ()
    emphasised: tuple[int, ...] = ()


@dataclass(frozen=True)
class ReportContent:
    """Everything that a report shows.

    Attributes:
        study: Name of the study.
        verdict: The verdict, with its remarks and advice.
        sections: The sections after the verdict.
        tables: Tables by name.
        pictures: Alternative texts of the figures by the name of their file in the report's folder.
    """

    study: str
    verdict: StudyVerdict
    sections: tuple[Section, ...]
    tables: Mapping[str, TableContent]
    pictures: Mapping[str, str]


def make_table_content(table: Table) -> TableContent:
    """Make the values and texts of a table."""
    return TableContent(
        rows=tuple({name: make_plain(value) for name, value in row.items()} for row in table.rows),
        fields=table.fields,
        headings=tuple(table.headings),
        cells=tuple(tuple(row) for row in table.cells),
        numeric=tuple(place for place, column in enumerate(table.columns) if column.is_number),
        prose=tuple(place for place, column in enumerate(table.columns) if column.is_prose),
        emphasised=tuple(sorted(table.emphasised)),
    )


def make_plain(value: Any) -> Any:
    """Convert a value to what JSON can hold: numbers that are not finite to None, other objects to text.

    >>> make_plain({"tau": float("nan"), "models": (1, 2)})
    {'tau': None, 'models': [1, 2]}
    """
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, np.generic):
        return make_plain(value.item())
    if isinstance(value, Mapping):
        return {str(name): make_plain(each) for name, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [make_plain(each) for each in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def encode_content(content: ReportContent) -> bytes:
    """Encode `report.json`: the content, the schema, and beside the verdict's parts its text and overrides."""
    plain = get_adapter(ReportContent).dump_python(content, mode="json")
    plain["verdict"] |= {"text": content.verdict.text, "overrides": content.verdict.overrides}
    text = json.dumps({"schema": SCHEMA, **plain}, indent=1, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def read_content(path: Path) -> ReportContent:
    """Read a `report.json`.

    Raises:
        CorruptFileError: The file cannot be read, or has another schema.
        StorageUnavailableError: Its file system does not answer now.
    """
    encoded = read_bytes(path)
    if encoded is None:
        raise make_corrupt_error(path, "it does not exist")
    plain = parse_json(path, encoded)
    if not isinstance(plain, dict) or plain.pop("schema", None) != SCHEMA:
        raise make_corrupt_error(path, f"it is not a report of schema {SCHEMA}")
    try:
        content: ReportContent = get_adapter(ReportContent).validate_python(plain)
    except ValidationError as error:
        raise make_corrupt_error(path, f"{error.error_count()} fields are not valid") from error
    except (RecursionError, OverflowError) as error:
        raise make_corrupt_error(path, f"{type(error).__name__}: {error}") from error
    return content
