"""Print the list of all trials, including failed ones, on standard output."""

from nasproxy.report import tables
from nasproxy.report.terminal import print_table
from nasproxy.stages.study_results import read_results
from nasproxy.storage.study import StudyFolder
from nasproxy.storage.trial_stores import TrialStore

UNWRAPPED = ("trial", "stage", "proxy task", "state")
"""Columns whose cells are not wrapped on a terminal."""


def print_trials(folder: StudyFolder, store: TrialStore | None = None) -> None:
    """Print all trials by stage and score: a table on a terminal, else a line each with tabs between cells.

    Args:
        folder: The study.
        store: Its trials; None for those in the study's folder.

    Raises:
        CorruptFileError: A file of the study, other than those of a trial, cannot be parsed.
    """
    results = read_results(folder, time_tolerance=0.0, store=store)
    content = tables.make_trials(results)
    print_table(content, f"{len(content.rows)} trials of {folder.path.name}", UNWRAPPED)
    for key, reason in results.damaged.items():
        print(f"trial {key} is damaged and begins again when the study goes on: {reason}")
