"""Advice on proxy tasks whose trials take longer than about two hours."""

from dataclasses import replace
from typing import Any

import pytest

from nasproxy.cost.estimate import Assumption
from nasproxy.report import duration_remarks, verdict
from nasproxy.stages.study_results import StudyResults, read_results


def with_hours(author: Any, hours: float) -> StudyResults:
    """Return results whose accepted proxy task trains a model for so many hours."""
    results = read_results(author.folder, time_tolerance=0.05)
    assert results.best is not None
    task = replace(results.best, final_train_seconds=3600 * hours)
    return replace(results, tasks={task.name: task})


def test_before_a_study_a_long_trial_of_the_search_is_named() -> None:
    advice = duration_remarks.advise_on_duration(Assumption("data50", 1200, 5000, 5, trial_seconds=3 * 3600.0))
    assert advice is not None
    assert advice.startswith("A trial of the search under data50, stopped after 1,200 steps, would take about 3 h.")
    assert "(training.devices)" in advice


@pytest.mark.parametrize("assumed", [None, Assumption("data50", 12, 50, 5), Assumption("data50", 12, 50, 5, 7000.0)])
def test_short_trials_and_unknown_times_need_no_advice(assumed: Assumption | None) -> None:
    assert duration_remarks.advise_on_duration(assumed) is None


def test_an_accepted_task_with_long_trials_is_a_remark_with_the_cost_of_the_search(full_study: Any) -> None:
    results = with_hours(full_study, 2.5)
    (remark,) = duration_remarks.remark_on_duration(results)
    assert remark.title == "A trial of the search takes 2.5 h."
    assert remark.text.startswith("300 of them train for 750 h of device time. Vertex AI NAS advises two hours at most")
    assert remark in verdict.judge_study(results).remarks


def test_time_on_several_devices_is_divided_among_them(full_study: Any) -> None:
    results = with_hours(full_study, 5.0)
    trials = {}
    for key, trial in results.trials.items():
        recipe = replace(trial.spec.recipe, devices=4)
        trials[key] = replace(trial, spec=replace(trial.spec, recipe=recipe))
    assert list(duration_remarks.remark_on_duration(replace(results, trials=trials))) == []
    assert len(list(duration_remarks.remark_on_duration(results))) == 1


def test_a_study_without_an_accepted_task_has_no_remark(new_study: Any) -> None:
    results = read_results(new_study(8).folder, time_tolerance=0.05)
    assert list(duration_remarks.remark_on_duration(results)) == []
