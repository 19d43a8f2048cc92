"""The report's account of reference models added after inconclusive looks."""

from dataclasses import replace
from html import unescape
from typing import Any

import pytest

from nasproxy.report import tables, verdict, wording
from nasproxy.report.added_references import list_additions
from nasproxy.report.page import Page
from nasproxy.stages.study_results import Purpose, read_results


def test_each_addition_is_described_with_its_cost_and_the_cost_of_waiting(grown_study: Any, grown_page: Page) -> None:
    results = read_results(grown_study.folder, time_tolerance=0.05)
    (addition,) = list_additions(results)
    task = results.tasks["width50"]
    assert (addition.task, addition.before, addition.models) == ("width50", 10, task.added)
    assert addition.full_seconds == pytest.approx(sum(model.train_seconds for model in task.added))
    assert addition.waiting_seconds == pytest.approx(300 * addition.check.rated_seconds)
    sentence = addition.sentence(300)
    assert f"inconclusive on 10 models, {len(task.added)} random models added" in sentence
    assert wording.format_duration(addition.full_seconds) in sentence
    assert f"would cost the search of 300 models {wording.format_duration(addition.waiting_seconds)}" in sentence
    assert sentence in unescape(grown_page.path.read_text(encoding="utf-8"))


def test_adding_models_costs_no_more_than_waiting_as_the_rule_requires(grown_study: Any) -> None:
    for addition in list_additions(read_results(grown_study.folder, time_tolerance=0.05)):
        assert len(addition.trained) * 10.0 + addition.proxy_seconds <= addition.waiting_seconds


def test_at_the_last_look_no_later_check_remains(grown_study: Any) -> None:
    (addition,) = list_additions(read_results(grown_study.folder, time_tolerance=0.05))
    assert "no later check remained to wait for" in replace(addition, is_last=True).sentence(300)


def test_a_reference_added_by_two_tasks_is_charged_once(grown_study: Any) -> None:
    results = read_results(grown_study.folder, time_tolerance=0.05)
    task = results.tasks["width50"]
    twin = replace(task, name="twin", number=7)
    first, second = list_additions(replace(results, tasks={**results.tasks, "twin": twin}))
    assert (first.trained, second.trained) == (task.added, ())
    assert f"({len(task.added)} of them trained before for another proxy task)" in second.sentence(300)


def test_added_references_are_a_stage_in_the_cost_table(grown_study: Any) -> None:
    results = read_results(grown_study.folder, time_tolerance=0.05)
    keys = {key for key, trial in results.trials.items() if trial.purpose == Purpose.ADDED_REFERENCES}
    assert keys == {model.key for model in results.tasks["width50"].added}
    (row,) = [row for row in tables.make_costs(results).rows if row["stage"] == "added references"]
    assert (row["trials"], row["trainings"]) == (5, 5.0)


def test_the_verdict_and_the_list_of_references_show_added_references(grown_study: Any) -> None:
    results = read_results(grown_study.folder, time_tolerance=0.05)
    (remark,) = [r for r in verdict.judge_study(results).remarks if r.title == "Reference models added: 5."]
    assert remark.text.startswith("The look on 10 models was inconclusive; the verdict rests on 15. The 5 full")
    rows = tables.make_references(results).rows
    assert sum(row["is_added"] for row in rows) == 5
    assert len(rows) == 15
