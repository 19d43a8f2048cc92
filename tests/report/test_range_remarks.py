"""Remarks on reference scores that do not cover their range, and on a tau that rests on it."""

import json
from dataclasses import replace
from html import unescape
from typing import Any

import pytest

from nasproxy.report import range_remarks, verdict
from nasproxy.report.page import write_report
from nasproxy.stages.proxy_search.state import TaskState
from nasproxy.stages.study_results import StudyResults, read_results
from nasproxy.trials.proxy_task import ProxyTask

WIDTH50 = {"width50": ProxyTask(width=0.5)}


def results_of(author: Any) -> StudyResults:
    return read_results(author.folder, time_tolerance=0.05)


def write_study(new_study: Any, qualities: list[float], target: float = 0.65) -> Any:
    author = new_study(len(qualities))
    for architecture, quality in zip(author.architectures, qualities, strict=True):
        architecture["quality"] = quality
    author.measure_variance()
    author.select_models(start_models=len(qualities), models=len(qualities))
    author.search(WIDTH50, target=target)
    return author


@pytest.fixture(scope="module")
def split(new_study: Any) -> Any:
    """Write a study whose models are of two qualities, which differ by little within them."""
    near = [0.001 * place for place in range(5)]
    return write_study(new_study, [*near, *(0.9 + each for each in near)], target=0.6)


def test_a_tau_that_rests_on_a_split_is_a_remark_with_its_figure(split: Any) -> None:
    results = results_of(split)
    assert results.best is not None
    found = range_remarks.find_influence(results, results.best)
    assert found is not None
    assert found.within is not None
    assert (found.below, found.above, found.within.within) == (5, 5, 20)
    assert found.within.tau < 0.6 <= found.tau
    (remark,) = range_remarks.remark_on_sampling(results, results.best)
    assert remark.title == "Tau rests on a split into two groups."
    assert f"tau is {found.within.tau:.2f}".replace("-", "\N{MINUS SIGN}") in remark.text
    assert "(20 of 45 pairs)" in remark.text
    assert "separates the 5 lowest from the 5 highest" in remark.text
    assert remark in verdict.judge_study(results).remarks


def test_page_and_json_hold_the_sampling_and_its_effect_on_tau(split: Any) -> None:
    page = write_report(split.folder, time_tolerance=0.05)
    (row,) = page.tables["reference_range"]
    assert (row["n"], row["below"]) == (10, 5)
    assert row["tau_within"] < row["lowest_tau"] <= row["tau"]
    html = unescape(page.path.read_text(encoding="utf-8"))
    assert "The full-training scores do not cover their range" in html
    assert "Within the two groups, tau is" in html


def with_target(task: TaskState, target: float) -> TaskState:
    return replace(task, judged_by=json.dumps({"criterion": {"target": target}}))


def test_one_model_far_from_a_cluster_is_named_as_what_tau_rests_on(new_study: Any) -> None:
    results = results_of(write_study(new_study, [0.0, *(0.95 + 0.0005 * place for place in range(9))], target=0.2))
    assert results.best is not None
    found = range_remarks.find_influence(results, results.best)
    assert found is not None
    assert found.within is not None
    assert found.is_of_one_model
    assert found.within.tau < found.tau
    between = with_target(results.best, (found.within.tau + found.tau) / 2)
    (remark,) = range_remarks.remark_on_sampling(results, between)
    assert remark.title == "Tau rests on one model."
    assert "Without the model beyond the gap, tau is" in remark.text
    assert "(36 of 45 pairs)" in remark.text


def test_a_tau_that_reaches_the_target_only_with_one_model_names_it(full_study: Any) -> None:
    results = results_of(full_study)
    assert results.best is not None
    found = range_remarks.find_influence(results, results.best)
    assert found is not None
    between = with_target(results.best, (found.lowest + found.tau) / 2)
    (remark,) = range_remarks.remark_on_sampling(results, between)
    assert remark.title == "Tau reaches the target only with one of the models."
    assert f"Without {found.model} it is {found.lowest:.2f} instead of {found.tau:.2f}" in remark.text


def test_a_tau_that_holds_without_any_model_is_no_remark(full_study: Any) -> None:
    results = results_of(full_study)
    assert results.best is not None
    found = range_remarks.find_influence(results, results.best)
    assert found is not None
    assert list(range_remarks.remark_on_sampling(results, with_target(results.best, found.lowest - 0.01))) == []
    assert "without any one model at least" in range_remarks.write_sampling(results)


def test_without_an_accepted_task_an_unusual_gap_alone_is_a_remark(split: Any, full_study: Any) -> None:
    (remark,) = range_remarks.remark_on_sampling(results_of(split), None)
    assert remark.title == "Reference scores do not cover their range."
    assert "Add reference models that fill the gap" in remark.text
    assert list(range_remarks.remark_on_sampling(results_of(full_study), None)) == []


def test_a_study_without_references_has_no_sampling(new_study: Any) -> None:
    results = results_of(new_study(8))
    assert range_remarks.write_sampling(results) == ""
    assert range_remarks.make_sampling(results).rows == []


def test_the_range_counts_added_references(grown_study: Any) -> None:
    results = results_of(grown_study)
    every = len(results.references) + len(results.added)
    assert results.added
    assert results.sampling is not None
    assert results.sampling.n == every
    assert results.range is not None
    assert f" of {every} scores" in results.range.message
