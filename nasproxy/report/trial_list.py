"""Print the list of all trials, including failed ones, on standard output."""

from nasproxy.report import tables
from nasproxy.report.terminal import print_table
from nasproxy.stages.study_results import read_results
from nasproxy.storage.study_stores import StudyStore

UNWRAPPED = ("trial", "stage", "proxy task", "state")
"""Columns whose cells are not wrapped on a terminal."""


def print_trials(study: StudyStore) -> None:
    """Print all trials by stage and score: a table on a terminal, else a line each with tabs between cells.

    Args:
        study: The study.

    Raises:
        CorruptFileError: A file of the study, other than those of a trial, cannot be parsed.
    """
    results = read_results(study, time_tolerance=0.0)
    content = tables.make_trials(results)
    print_table(content, f"{len(content.rows)} trials of {study.name}", UNWRAPPED)
    for key, reason in results.damaged.items():
        print(f"trial {key} is damaged and begins again when the study goes on: {reason}")
