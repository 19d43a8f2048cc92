"""Sections that stages bring to the report."""

from collections.abc import Iterator
from io import BytesIO

import pytest
from PIL import Image

from helpers.written_studies import NewStudy
from nasproxy.report.page import write_report
from nasproxy.stages import registry
from nasproxy.stages.definition import StageDefinition
from nasproxy.stages.section import StagePicture, StageSection
from nasproxy.stages.study_results import StudyResults


@pytest.fixture
def asked() -> Iterator[list[float]]:
    """Register a stage with a table and a figure; return the results that its section was asked for."""
    asked: list[float] = []

    def report(result: float, results: StudyResults) -> StageSection:
        asked.append(result)
        png = BytesIO()
        Image.new("RGB", (4, 3)).save(png, format="png")
        picture = StagePicture(png.getvalue(), "four by three pixels", "A figure.")
        return StageSection("Drawn", ("It is drawn.",), {"a": "A"}, [{"a": result}], {"pixels": picture})

    registry.register(StageDefinition("drawn", lambda context: None, lambda study: 0.5, report=report))
    yield asked
    registry.unregister("drawn")


def test_a_stage_makes_its_section_once_for_a_page_with_its_text_table_and_figure(
    new_study: NewStudy, asked: list[float]
) -> None:
    page = write_report(new_study(3).folder, time_tolerance=0.05)
    assert asked == [0.5]
    assert page.tables["stage_drawn"] == [{"a": 0.5}]
    assert [path.name for path in page.pictures if "drawn" in path.name] == ["stage_drawn_pixels.png"]
    text = page.path.read_text()
    assert all(part in text for part in ("It is drawn.", "A figure.", "four by three pixels"))
