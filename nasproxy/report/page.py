"""Write the report: one self-contained HTML page, the same content as `report.json`, and the figures as files."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from nasproxy.cost.estimate import ESTIMATE, Estimate
from nasproxy.report import (
    acceptance_errors,
    baseline_remarks,
    baselines,
    confirmation_section,
    estimate_tables,
    range_remarks,
    schedule_section,
    stage_sections,
    strategies,
    tables,
    verdict,
)
from nasproxy.report.content import ReportContent, encode_content, make_table_content
from nasproxy.report.figures import gallery
from nasproxy.report.figures.style import Picture
from nasproxy.report.reference_count import make_count_table
from nasproxy.report.search_prediction import predict_search
from nasproxy.report.sections import make_sections
from nasproxy.report.tables import Table
from nasproxy.stages.study_results import StudyResults, read_results
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.tracking.cells import TableRows
from nasproxy.tracking.events import AcceptedTask, ReportWritten

TEMPLATE = "page.html.jinja"
FOLDER = "report"
PAGE = f"{FOLDER}/index.html"
"""Names of files in a study."""
WRITTEN_PICTURES = (
    "variance_*.png",
    "filtered_trial_scores_*.png",
    "reference_scores.png",
    "proxy_task*.png",
    "schedules.png",
    "worth.png",
    "ladder.png",
    "stage_*.png",
)
"""Figures that a report writes; files of an earlier report that the new one does not write are outdated."""


@dataclass(frozen=True)
class Page:
    """A written report and its content.

    Attributes:
        path: The HTML file.
        verdict: The verdict as plain text.
        accepted: The accepted proxy task; None without one.
        shown: Tables by name, and that of all trials.
        pictures: Files of the figures.
    """

    path: Path
    verdict: str
    accepted: AcceptedTask | None
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
        return ReportWritten(self.path, self.verdict, tables, self.pictures, self.accepted)


def write_report(study: FolderStudyStore, *, time_tolerance: float) -> Page:
    """Write the report of a study's results so far; stages that have not run are shown as missing.

    Args:
        study: The study; only its report is written.
        time_tolerance: A proxy task must be cheaper than the best by more than this share to replace it.

    Raises:
        CorruptFileError: A file of the study cannot be parsed.
    """
    results = read_results(study, time_tolerance=time_tolerance)
    words, expected = verdict.judge_study(results), predict_search(results)
    estimate = study.read(ESTIMATE, Estimate)
    of_stages = stage_sections.collect_sections(results)
    pictures = [*gallery.draw_all(results), *stage_sections.list_pictures(of_stages)]
    shown = {
        "proxy_tasks": tables.make_proxy_tasks(results),
        "zero_cost": baselines.make_baselines(results),
        "acceptance_errors": acceptance_errors.make_errors(results),
        "search": tables.make_search(expected),
        "worth": strategies.make_planned(results),
        "worth_at_equal_cost": strategies.make_equal_cost(results),
        "worth_at_recommended_cost": strategies.make_at_recommended(results),
        "ladder": strategies.make_ladder(results),
        "not_chosen": tables.make_not_chosen(results),
        "confirmations": confirmation_section.make_confirmations(results),
        "references": tables.make_references(results),
        "baseline": baseline_remarks.make_comparison(results),
        "reference_range": range_remarks.make_sampling(results),
        "reference_count": make_count_table(results.reference_count),
        "schedules": schedule_section.make_schedules(results),
        "costs": tables.make_costs(results),
        "vertex_comparison": tables.make_vertex_comparison(results),
        "estimate": estimate_tables.make_comparison(results, estimate),
        "failures": tables.make_failures(results),
        "settings": tables.make_settings(results),
        "rules": tables.make_rules(results),
        **stage_sections.make_tables(of_stages),
    }
    content = ReportContent(
        study=results.name,
        verdict=words,
        sections=(*make_sections(results, expected, estimate, shown), *stage_sections.make_sections(of_stages)),
        tables={name: make_table_content(table) for name, table in shown.items()},
        pictures={picture.name: picture.alt for picture in pictures},
    )
    written = _write_pictures(study, pictures)
    study.write_file(f"{FOLDER}/report.json", encode_content(content))
    study.write_file(PAGE, _render(content, pictures).encode())
    return Page(
        study.path / PAGE,
        words.text,
        _describe_accepted(results),
        {**shown, "trials": tables.make_trials(results)},
        written,
    )


def _describe_accepted(results: StudyResults) -> AcceptedTask | None:
    best, shown = results.best, results.headline
    if best is None or shown is None:
        return None
    tau, raced = (None if found is None else found.tau for found in (shown.correlation, shown.raced))
    return AcceptedTask(best.name, shown.grade, tau, shown.bound, raced, is_confirmed=not shown.is_selected)


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


def _write_pictures(study: FolderStudyStore, pictures: Sequence[Picture]) -> list[Path]:
    """Write the figures, remove outdated ones, and return the files."""
    names = [f"{FOLDER}/{picture.name}" for picture in pictures]
    for name, picture in zip(names, pictures, strict=True):
        study.write_file(name, picture.png)
    for name in set(study.list_files(FOLDER)) - set(names):
        if any(fnmatch(name, f"{FOLDER}/{pattern}") for pattern in WRITTEN_PICTURES):
            study.remove_file(name)
    return [study.path / name for name in names]
