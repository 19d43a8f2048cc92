"""Sections of stages that bring their own: a stage returns data, the report formats it."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from nasproxy.report import wording
from nasproxy.report.content import Block, Figure, Paragraph, Section, ShownTable
from nasproxy.report.figures.style import Picture
from nasproxy.report.tables import Column, Row, Table
from nasproxy.stages.registry import list_stages
from nasproxy.stages.section import StageSection
from nasproxy.stages.study_results import StudyResults

PREFIX = "stage_"
"""Beginning of the names of tables and figures, so that they differ from those of the report."""


def collect_sections(results: StudyResults) -> dict[str, StageSection]:
    """Collect the section of each stage that has one, by the stage's name; a stage draws its figures for it."""
    sections = {}
    for stage in list_stages():
        result = results.stage_results.get(stage.name)
        section = None if result is None else stage.report(result, results)
        if section is not None:
            sections[stage.name] = section
    return sections


def make_sections(collected: Mapping[str, StageSection]) -> tuple[Section, ...]:
    """Make the section of each stage that has one."""
    return tuple(
        Section(f"{PREFIX}{name}", section.title, section.title, tuple(_write_section(name, section)))
        for name, section in collected.items()
    )


def make_tables(collected: Mapping[str, StageSection]) -> dict[str, Table]:
    """Make the table of each stage that has one, by the name under which its section shows it."""
    return {
        f"{PREFIX}{name}": Table(
            [dict(row) for row in section.rows],
            [_make_column(heading, field, section) for field, heading in section.columns.items()],
            tuple(section.columns),
        )
        for name, section in collected.items()
        if section.columns
    }


def list_pictures(collected: Mapping[str, StageSection]) -> Iterator[Picture]:
    """List the figures of all stages' sections."""
    for name, section in collected.items():
        for picture_name, picture in section.pictures.items():
            yield Picture(f"{PREFIX}{name}_{picture_name}.png", picture.alternative, picture.png)


def _write_section(name: str, section: StageSection) -> Iterator[Block]:
    for text in section.paragraphs:
        yield Paragraph(text)
    for picture_name, picture in section.pictures.items():
        yield Figure(f"{PREFIX}{name}_{picture_name}", picture.caption)
    if section.columns:
        yield ShownTable(f"{PREFIX}{name}")


def _make_column(heading: str, field: str, section: StageSection) -> Column:
    values = [row.get(field) for row in section.rows]
    is_number = any(map(_is_number, values)) and all(value is None or _is_number(value) for value in values)
    return Column(heading, partial(_format_cell, field=field), is_number=is_number)


def _format_cell(row: Row, *, field: str) -> str:
    value = row.get(field)
    return wording.format_number(value) if value is None or _is_number(value) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
