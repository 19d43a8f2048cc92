"""A stage's own section of the report, as data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class StagePicture:
    """A figure of a stage's section.

    Attributes:
        png: The image, as the content of a PNG file.
        alternative: Description for those who cannot see it.
        caption: Text below it.
    """

    png: bytes
    alternative: str
    caption: str = ""


@dataclass(frozen=True)
class StageSection:
    """What the report shows of a stage.

    Attributes:
        title: Heading of the section.
        paragraphs: Sentences before table and figures.
        columns: Headings of the table's columns by the name of the value in `rows`.
        rows: Values of the table by name; a missing value is None.
        pictures: Figures by name: letters, digits and underscores.
    """

    title: str
    paragraphs: Sequence[str] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] = ()
    pictures: Mapping[str, StagePicture] = field(default_factory=dict)
