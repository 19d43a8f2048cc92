"""Predicted cost and outcome of a search with the accepted proxy task."""

from dataclasses import replace
from html import unescape
from typing import Any

import pytest

from nasproxy.cost.account import measure_train_saving
from nasproxy.report import tables, wording
from nasproxy.report.page import Page
from nasproxy.report.search_prediction import SearchPrediction, predict_search
from nasproxy.stages.study_results import StudyResults, read_results


def results_of(author: Any) -> StudyResults:
    return read_results(author.folder, time_tolerance=0.05)


def prediction_of(author: Any) -> SearchPrediction:
    expected = predict_search(results_of(author))
    assert expected is not None
    return expected


def test_the_number_of_searched_models_is_the_one_the_tasks_were_judged_for(full_study: Any) -> None:
    results = results_of(full_study)
    assert prediction_of(full_study).trials == 300
    assert replace(results, judged_by=None).search_trials == 2000


def test_the_cost_includes_full_training_of_the_top_models(full_study: Any) -> None:
    results, expected = results_of(full_study), prediction_of(full_study)
    assert results.best is not None
    saving = measure_train_saving(results, results.best)
    assert saving is not None
    by_training, by_wall = expected.costs
    assert by_training.proxy_seconds == pytest.approx(300 * saving.proxy_seconds + 10 * saving.full_seconds)
    assert by_training.full_seconds == pytest.approx(300 * saving.full_seconds)
    assert by_training.full_models == pytest.approx(by_training.proxy_seconds / saving.full_seconds)
    assert by_wall.proxy_seconds > by_training.proxy_seconds
    assert [row["name"] for row in tables.make_search(expected).rows] == ["training time", "wall time"]


def test_decision_accuracy_is_given_at_tau_and_at_its_lower_confidence_bound(grown_study: Any) -> None:
    expected = prediction_of(grown_study)
    assert expected.tau is not None
    assert expected.lower_limit is not None
    (pairs,) = expected.sentences
    right, at_limit = (f"{50 * (1 + tau):.0f} %" for tau in (expected.tau, expected.lower_limit))
    source = "of the proxy search, which is optimistic"
    assert f": {right} at tau {wording.format_tau(expected.tau)} {source}, {at_limit} at its lower confidence" in pairs


def test_the_prediction_is_made_at_the_bound_that_holds_after_selection(grown_study: Any) -> None:
    results = results_of(grown_study)
    assert results.best is not None
    alone = results.best.checks[-1].lower_limit
    assert alone is not None
    assert results.best.bound is not None
    assert prediction_of(grown_study).lower_limit == results.best.bound < alone


def test_without_an_accepted_proxy_task_there_is_no_prediction(full_study: Any) -> None:
    results = results_of(full_study)
    assert predict_search(replace(results, tasks={})) is None


def test_the_page_shows_the_prediction(full_study: Any, page: Page) -> None:
    html = unescape(page.path.read_text(encoding="utf-8"))
    assert "Predicted cost and outcome of a search of 300 models" in html
    assert all(sentence in html for sentence in prediction_of(full_study).sentences)
