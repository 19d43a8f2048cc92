"""Remarks on the limits of a verdict."""

from dataclasses import replace
from html import unescape
from typing import Any

from nasproxy.report import tables, verdict, wording
from nasproxy.report.page import Page
from nasproxy.stages.study_results import StudyResults, read_results
from nasproxy.statistics.worst_case import worst_case_tau
from nasproxy.trials.proxy_task import ProxyTask


def results_of(author: Any) -> StudyResults:
    return read_results(author.folder, time_tolerance=0.05)


class TestVertexPractice:
    def test_the_warning_is_shown_before_the_numbers(self, vertex_study: Any, vertex_page: Page) -> None:
        warning = verdict.judge_study(results_of(vertex_study)).warning
        assert warning is not None
        assert "up to 76 % of such acceptances" in warning.text
        html = unescape(vertex_page.path.read_text(encoding="utf-8"))
        assert html.index(warning.title) < html.index("<dl>") < html.index("Limits of this verdict")
        assert warning.title in vertex_page.verdict

    def test_each_of_its_choices_is_explained(self, vertex_study: Any) -> None:
        remarks = {remark.title: remark.text for remark in verdict.judge_study(results_of(vertex_study)).remarks}
        assert "up to 39 % of such acceptances" in remarks["Stopping at the first crossing is optimistically biased."]
        assert "tau by 0.1 to 0.35" in remarks["Reference models selected for spread bias tau upwards."]
        sequential = remarks["Proxy tasks were judged sequentially."]
        assert "went to 1 task listed before width50" in sequential

    def test_two_of_the_three_choices_are_remarks_without_a_warning(self, full_study: Any, vertex_study: Any) -> None:
        assert results_of(full_study).policy == "race"
        assert verdict.judge_study(results_of(full_study)).warning is None
        unknown = replace(results_of(vertex_study), policy=None)
        assert verdict.judge_study(unknown).warning is None


class TestLostModels:
    def test_tau_is_bounded_over_any_scores_of_lost_models(self, new_study: Any) -> None:
        author = new_study(10)
        author.architectures[3]["proxy_cause"] = "lost"
        author.measure_variance()
        author.select_models(start_models=10, models=10)
        author.search({"width50": ProxyTask(width=0.5)}, target=0.6)
        results = results_of(author)
        task = results.tasks["width50"]
        assert task.final_step is not None
        scores = results.scores_at(task, task.final_step)
        bounds = worst_case_tau(scores.ranked, scores.reference)
        assert bounds is not None
        table = tables.make_proxy_tasks(results)
        (row,) = table.rows
        assert (row["lost"], row["lost_tau_low"], row["lost_tau_high"]) == (1, bounds.low, bounds.high)
        assert row["lost_tau_low"] < row["tau"] < row["lost_tau_high"]
        assert "tau bounds, lost models" in [column.heading for column in table.columns]
        facts = dict(verdict.judge_study(results).facts)
        assert facts["tau-b bounds over any scores of 1 lost model"] == wording.format_interval(bounds.low, bounds.high)

    def test_no_bounds_are_shown_if_no_model_was_lost(self, full_study: Any) -> None:
        table = tables.make_proxy_tasks(results_of(full_study))
        assert all(row["lost"] is None for row in table.rows)
        assert "tau bounds, lost models" not in [column.heading for column in table.columns]


class TestCriterionSettings:
    def test_the_criterion_and_the_search_settings_are_shown(self, vertex_study: Any, vertex_page: Page) -> None:
        values = {row["path"]: row["value"] for row in tables.make_rules(results_of(vertex_study)).rows}
        assert values["criterion.target"] == 0.65
        assert values["criterion._target_"].endswith("FirstCrossing")
        assert values["search.trials"] == 300
        assert values["proxy_search.policy"] == "sequential"
        html = vertex_page.path.read_text(encoding="utf-8")
        assert "Criterion and proxy search (" in html
        assert "proxy_search.policy" in html

    def test_unknown_settings_give_an_empty_table(self, vertex_study: Any) -> None:
        assert tables.make_rules(replace(results_of(vertex_study), judged_by="{", policy=None)).rows == []
