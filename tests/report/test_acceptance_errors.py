"""The probability that the accepted proxy task's true tau lies below the target, as a report states it."""

from dataclasses import replace
from typing import Any

import pytest

from nasproxy.report import acceptance_errors, verdict
from nasproxy.report.page import Page, write_report
from nasproxy.stages.proxy_search.rules import read_settings
from nasproxy.stages.proxy_search.state import StoppingState, TaskState
from nasproxy.stages.study_results import StudyResults, read_results
from nasproxy.statistics.acceptance import LookPlan
from nasproxy.statistics.acceptance_error import estimate_crossing_errors, estimate_sequential_errors
from nasproxy.statistics.criteria.group_sequential import GroupSequential
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.spec import to_canonical_json

TITLE = "Probability that the true tau lies below the target"


def results_of(author: Any) -> StudyResults:
    return read_results(author.folder, time_tolerance=0.05)


def accepted_of(results: StudyResults) -> TaskState:
    assert results.best is not None
    return results.best


def fractions_of(task: TaskState) -> tuple[float, ...]:
    return tuple(check.step / task.total_steps for check in task.checks)


def list_probabilities(results: StudyResults) -> list[str]:
    return [remark.text for remark in verdict.judge_study(results).remarks if remark.title.startswith(TITLE)]


@pytest.fixture(scope="module")
def default_study(new_study: Any) -> Any:
    author = new_study(20)
    author.measure_variance()
    author.select_randomly()
    author.search({"width50": ProxyTask(width=0.5)}, criterion=GroupSequential(target=0.6, alpha=0.3))
    return author


@pytest.fixture(scope="module")
def default_page(default_study: Any) -> Page:
    return write_report(default_study.folder, time_tolerance=0.05)


def test_they_are_those_of_the_studys_criterion_looks_tasks_and_models(default_study: Any) -> None:
    results = results_of(default_study)
    best = accepted_of(results)
    expected = estimate_sequential_errors(fractions_of(best), LookPlan(1, (len(best.keys),)), target=0.6, alpha=0.3)
    assert acceptance_errors.estimate_errors(results, best) == expected


def test_models_that_could_have_been_added_count(default_study: Any) -> None:
    results = results_of(default_study)
    rules = {**read_settings(results.judged_by), "references": {"initial": 10, "max": 20, "step": 6}}
    best = replace(accepted_of(results), judged_by=to_canonical_json(rules))
    expected = estimate_sequential_errors(fractions_of(best), LookPlan(1, (10, 16, 20)), target=0.6, alpha=0.3)
    assert len(best.keys) == 10
    assert acceptance_errors.estimate_errors(results, best) == expected


def test_fact_remark_and_table_agree(default_study: Any, default_page: Page) -> None:
    results = results_of(default_study)
    rows, cells = default_page.tables["acceptance_errors"], default_page.shown["acceptance_errors"].cells
    assert [row["prior"] for row in rows] == ["published", "uniform", "half hopeless"]
    assert [row["target"] for row in rows] == [0.6, 0.6, 0.6]
    facts = dict(verdict.judge_study(results).facts)
    stated = facts["accepted tasks with a true tau below 0.6, below 0.50"]
    assert stated == f"{cells[0][2]}, {cells[0][3]} (average over simulated studies)"
    (text,) = list_probabilities(results)
    assert text.startswith(f"Below 0.50: {cells[0][3]}.")
    assert f"{cells[1][2]} and {cells[1][3]} if true taus are spread evenly" in text
    assert "References selected for spread" not in text
    html = default_page.path.read_text(encoding="utf-8")
    assert "half as published, half spread evenly over 0 to 0.50" in html


def test_first_crossing_states_how_often_it_is_wrong_and_that_spread_makes_it_worse(vertex_study: Any) -> None:
    results = results_of(vertex_study)
    best = accepted_of(results)
    assert acceptance_errors.estimate_errors(results, best) == estimate_crossing_errors(
        fractions_of(best), len(best.keys), target=0.65
    )
    (text,) = list_probabilities(results)
    assert text.endswith("References selected for spread are not random: the probabilities are higher for them.")
    assert list(acceptance_errors.list_facts(results, best)) == [], "the shares do not hold for them"


def test_a_criterion_of_the_users_own_is_not_simulated(grown_study: Any, grown_page: Page) -> None:
    assert list_probabilities(results_of(grown_study)) == []
    assert grown_page.tables["acceptance_errors"] == []
    assert "Probability that an accepted proxy task is poor" not in grown_page.path.read_text(encoding="utf-8")


def test_a_task_accepted_by_its_score_has_no_such_probability(default_study: Any) -> None:
    results = results_of(default_study)
    best = replace(accepted_of(results), stopping_state=StoppingState.MET_ACCURACY)
    assert acceptance_errors.estimate_errors(results, best) == ()
