"""The reference models against the baseline model: what they show of the search space."""

from collections.abc import Iterator
from dataclasses import asdict, fields

from nasproxy.report.tables import Row, Table
from nasproxy.report.wording import Remark
from nasproxy.stages.study_results import StudyResults
from nasproxy.statistics.baseline_comparison import BaselineComparison, BaselineFinding

TITLES = {
    BaselineFinding.UNCLEAR: "No reference model is better than the baseline by more than seed noise.",
    BaselineFinding.BELOW: "All reference models score below the baseline.",
}
FIELDS = ("finding", *(each.name for each in fields(BaselineComparison)))


def make_comparison(results: StudyResults) -> Table:
    """Tabulate the comparison in one row for programs; the page shows it as a sentence."""
    found = results.baseline_comparison
    rows: list[Row] = [] if found is None else [{"finding": found.finding.value, **asdict(found)}]
    return Table(rows, [], FIELDS)


def remark_on_baseline(results: StudyResults) -> Iterator[Remark]:
    """Remark on a space of which no reference model is better than the baseline."""
    found = results.baseline_comparison
    if found is not None and found.finding in TITLES:
        yield Remark(TITLES[found.finding], found.message)
