"""The report: one page that holds everything, and its pictures as files beside it."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from nasproxy.cost.estimate import Estimate
from nasproxy.errors import TooFewTrialsError
from nasproxy.report import baselines, confirmation_section, estimate_tables, tables, verdict, wording
from nasproxy.report.added_references import additions
from nasproxy.report.figures import gallery
from nasproxy.report.figures.style import Picture
from nasproxy.report.prospect import Prospect, prospect
from nasproxy.report.tables import Table
from nasproxy.stages.study_results import Findings, read_findings
from nasproxy.statistics.ceiling import spread_over_noise
from nasproxy.storage.files import read_record, replace_text
from nasproxy.storage.study import StudyFolder
from nasproxy.storage.trial_stores import TrialStore

TEMPLATE = "page.html.jinja"
OWN_PICTURES = (
    "variance_*.png",
    "filtered_trial_scores_*.png",
    "reference_scores.png",
    "proxy_task*.png",
    "schedules.png",
)
"""Pictures of earlier reports: those that a new one no longer has would tell of what is no longer so."""


@dataclass(frozen=True)
class Page:
    """A written report.

    Attributes:
        path: The page.
        verdict: What it says first, in plain text.
        tables: Its tables by name, each a list of rows.
        pictures: Its pictures' files.
    """

    path: Path
    verdict: str
    tables: Mapping[str, Sequence[Mapping[str, Any]]]
    pictures: Sequence[Path]


def write_report(folder: StudyFolder, *, time_tolerance: float, store: TrialStore | None = None) -> Page:
    """Write the report of what a study knows so far; any part of it may be missing.

    Args:
        folder: The study, which is only read but for its `report` folder.
        time_tolerance: A proxy task must be cheaper than the best by more than this share to replace it.
        store: Its trials; None for those of its folder.

    Raises:
        CorruptFileError: A file of the study cannot be read.
    """
    findings = read_findings(folder, time_tolerance=time_tolerance, store=store)
    words, expected = verdict.judge(findings), prospect(findings)
    estimate = read_record(folder.estimate, Estimate)
    pictures = list(gallery.draw_all(findings))
    shown = {
        "proxy_tasks": tables.proxy_tasks(findings),
        "zero_cost": baselines.baselines(findings),
        "search": tables.search(expected),
        "not_chosen": tables.not_chosen(findings),
        "confirmations": confirmation_section.table(findings),
        "references": tables.references(findings),
        "schedules": tables.schedules(findings),
        "costs": tables.costs(findings),
        "cloud_tool": tables.cloud_tool(findings),
        "estimate": estimate_tables.compared(findings, estimate),
        "failures": tables.failures(findings),
        "settings": tables.settings(findings),
        "rules": tables.rules(findings),
    }
    html = _render(findings, words, expected, estimate, shown, pictures)
    written = _write_pictures(folder.report, pictures)
    path = folder.report / "index.html"
    replace_text(path, html)
    rows = {name: table.rows for name, table in shown.items()}
    return Page(path, words.text, {**rows, "trials": tables.trials(findings).rows}, written)


def _render(
    findings: Findings,
    words: verdict.Verdict,
    expected: Prospect | None,
    estimate: Estimate | None,
    shown: Mapping[str, Table],
    pictures: Iterable[Picture],
) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(wording=wording, task_names=gallery.task_names, selection_name=gallery.selection_name)
    return environment.get_template(TEMPLATE).render(
        study=findings,
        verdict=words,
        tables=shown,
        pictures={Path(picture.name).stem: _inlined(picture) for picture in pictures},
        spread=_spread_over_noise(findings),
        prospect=expected,
        additions=[addition.sentence(findings.search_trials) for addition in additions(findings)],
        assumptions=[] if estimate is None else estimate_tables.assumptions(estimate),
    )


def _inlined(picture: Picture) -> Mapping[str, str]:
    return {"alt": picture.alt, "data": base64.b64encode(picture.png).decode("ascii")}


def _spread_over_noise(findings: Findings) -> float | None:
    if findings.seed_sd is None:
        return None
    try:
        return spread_over_noise([reference.score for reference in findings.references], findings.seed_sd)
    except TooFewTrialsError:
        return None


def _write_pictures(folder: Path, pictures: Sequence[Picture]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / picture.name for picture in pictures]
    for path, picture in zip(written, pictures, strict=True):
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_bytes(picture.png)
        temporary.replace(path)
    for pattern in OWN_PICTURES:
        for path in set(folder.glob(pattern)) - set(written):
            path.unlink(missing_ok=True)
    return written
