"""Write the report: one self-contained HTML page, the same content as `report.json`, and the figures as files."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from nasproxy.cost.estimate import Estimate
from nasproxy.report import baselines, confirmation_section, estimate_tables, stage_sections, tables, verdict
from nasproxy.report.content import ReportContent, make_table_content, write_content
from nasproxy.report.figures import gallery
from nasproxy.report.figures.style import Picture
from nasproxy.report.search_prediction import predict_search
from nasproxy.report.sections import make_sections
from nasproxy.report.tables import Table
from nasproxy.stages.study_results import read_results
from nasproxy.storage.files import read_record, replace_text
from nasproxy.storage.study import StudyFolder
from nasproxy.storage.trial_stores import TrialStore
from nasproxy.tracking.cells import TableRows
from nasproxy.tracking.events import ReportWritten

TEMPLATE = "page.html.jinja"
WRITTEN_PICTURES = (
    "variance_*.png",
    "filtered_trial_scores_*.png",
    "reference_scores.png",
    "proxy_task*.png",
    "schedules.png",
    "stage_*.png",
)
"""Figures that a report writes; files of an earlier report that the new one does not write are outdated."""


@dataclass(frozen=True)
class Page:
    """A written report and its content.

    Attributes:
        path: The HTML file.
        verdict: The verdict as plain text.
        shown: Tables by name, and that of all trials.
        pictures: Files of the figures.
    """

    path: Path
    verdict: str
    shown: Mapping[str, Table]
    pictures: Sequence[Path]

    @property
    def tables(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Rows of the tables by name."""
        return {name: table.rows for name, table in self.shown.items()}

    @property
    def event(self) -> ReportWritten:
        """The event that tells trackers of it."""
        tables = {name: TableRows(table.fields, table.rows) for name, table in self.shown.items()}
        return ReportWritten(self.path, self.verdict, tables, self.pictures)


def write_report(folder: StudyFolder, *, time_tolerance: float, store: TrialStore | None = None) -> Page:
    """Write the report of a study's results so far; stages that have not run are shown as missing.

    Args:
        folder: The study; only its `report` folder is written.
        time_tolerance: A proxy task must be cheaper than the best by more than this share to replace it.
        store: Its trials; None for those in the study's folder.

    Raises:
        CorruptFileError: A file of the study cannot be parsed.
    """
    results = read_results(folder, time_tolerance=time_tolerance, store=store)
    words, expected = verdict.judge_study(results), predict_search(results)
    estimate = read_record(folder.estimate, Estimate)
    pictures = [*gallery.draw_all(results), *stage_sections.list_pictures(results)]
    shown = {
        "proxy_tasks": tables.make_proxy_tasks(results),
        "zero_cost": baselines.make_baselines(results),
        "search": tables.make_search(expected),
        "not_chosen": tables.make_not_chosen(results),
        "confirmations": confirmation_section.make_confirmations(results),
        "references": tables.make_references(results),
        "schedules": tables.make_schedules(results),
        "costs": tables.make_costs(results),
        "vertex_comparison": tables.make_vertex_comparison(results),
        "estimate": estimate_tables.make_comparison(results, estimate),
        "failures": tables.make_failures(results),
        "settings": tables.make_settings(results),
        "rules": tables.make_rules(results),
        **stage_sections.make_tables(results),
    }
    content = ReportContent(
        study=results.name,
        verdict=words,
        sections=(*make_sections(results, expected, estimate, shown), *stage_sections.make_sections(results)),
        tables={name: make_table_content(table) for name, table in shown.items()},
        pictures={picture.name: picture.alt for picture in pictures},
    )
    written = _write_pictures(folder.report, pictures)
    write_content(folder.report / "report.json", content)
    path = folder.report / "index.html"
    replace_text(path, _render(content, pictures))
    return Page(path, words.text, {**shown, "trials": tables.make_trials(results)}, written)


def _render(content: ReportContent, pictures: Iterable[Picture]) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    images = {Path(picture.name).stem: _inline(picture) for picture in pictures}
    return environment.get_template(TEMPLATE).render(content=content, images=images)


def _inline(picture: Picture) -> Mapping[str, str]:
    return {"alt": picture.alt, "data": base64.b64encode(picture.png).decode("ascii")}


def _write_pictures(folder: Path, pictures: Sequence[Picture]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / picture.name for picture in pictures]
    for path, picture in zip(written, pictures, strict=True):
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_bytes(picture.png)
        temporary.replace(path)
    for pattern in WRITTEN_PICTURES:
        for path in set(folder.glob(pattern)) - set(written):
            path.unlink(missing_ok=True)
    return written
