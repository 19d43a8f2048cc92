"""List of trials on standard output."""

from typing import Any

import pytest
from rich.console import Console

from nasproxy.report import tables, terminal, trial_list
from nasproxy.stages.study_results import read_results


def test_without_a_terminal_every_trial_is_a_line_with_tabs_between_cells(
    full_study: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    trial_list.print_trials(full_study.folder)
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split("\t")[:3] == ["trial", "stage", "proxy task"]
    assert len(lines) == len(full_study.folder.trials.keys())
    assert {len(line.split("\t")) for line in lines} == {len(heading.split("\t"))}


def test_trials_are_sorted_by_stage_and_descending_score(full_study: Any) -> None:
    rows = tables.make_trials(read_results(full_study.folder, time_tolerance=0.0)).rows
    stages = [row["stage"] for row in rows]
    assert stages == sorted(stages, key=["variance", "references", "proxy search"].index)
    scores = [row["score"] for row in rows if row["stage"] == "references" and row["state"] != "failed"]
    assert scores == sorted(scores, reverse=True)


def test_failed_trials_are_listed_with_their_cause_and_a_sanitised_message(
    full_study: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    trial_list.print_trials(full_study.folder)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "failed" in line.split("\t")]
    assert "oom: <script>" in line
    assert "\x1b" not in line


def test_on_a_terminal_the_table_does_not_interpret_text_as_markup(
    full_study: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        terminal, "StandardOutput", lambda **_: Console(force_terminal=True, width=240, color_system=None)
    )
    trial_list.print_trials(full_study.folder)
    out = capsys.readouterr().out
    assert "trials of made-up" in out
    assert "[red]" in out
