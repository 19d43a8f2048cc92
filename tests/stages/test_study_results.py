"""Results that are read from a study, and costs and report tables computed from them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nasproxy.cost.account import Saving, count_stage_costs, measure_train_saving, measure_wall_saving
from nasproxy.report import tables
from nasproxy.report.figures.proxy_tasks import draw_proxy_against_full
from nasproxy.report.figures.variance_and_references import draw_selection_scatter
from nasproxy.stages.study_results import find_decisive_check, read_results, read_target
from nasproxy.statistics.rank_correlation import kendall_tau
from nasproxy.trials.proxy_task import ProxyTask


@pytest.fixture(scope="module")
def with_a_failure(new_study: Callable[..., Any]) -> Any:
    """Make a study in which one reference model trains fully, but fails under the proxy task."""
    author = new_study(8)
    author.architectures[3] = {**author.architectures[3], "proxy_cause": "nan"}
    author.measure_variance()
    author.select_models(start_models=8, models=8)
    author.search({"width50": ProxyTask(width=0.5)}, target=0.9)
    return author


def test_tau_of_the_stored_scores_equals_tau_of_the_stage(with_a_failure: Any) -> None:
    results = read_results(with_a_failure.folder, time_tolerance=0.05)
    task = results.tasks["width50"]
    check = find_decisive_check(task)
    assert check is not None
    assert check.correlation is not None
    scores = results.scores_at(task, check.step)
    assert scores.has_failed.sum() == 1
    assert np.isnan(scores.proxy[scores.has_failed]).all()
    (row,) = tables.make_proxy_tasks(results).rows
    assert (row["tau"], row["models"]) == (check.correlation.tau, 8)
    assert scores.measure(kendall_tau) == check.correlation


def test_failed_models_are_drawn_separately(with_a_failure: Any, full_study: Any) -> None:
    results = read_results(with_a_failure.folder, time_tolerance=0.05)
    axes = draw_proxy_against_full(results, results.tasks["width50"]).axes[0]
    assert "failed, ranked last" in axes.get_legend_handles_labels()[1]
    selection = read_results(full_study.folder, time_tolerance=0.05)
    assert selection.selection is not None
    (iteration,) = [iteration for iteration in selection.selection.iterations if iteration.failed]
    labels = draw_selection_scatter(selection, iteration).axes[0].get_legend_handles_labels()[1]
    assert labels == [f"kept ({len(iteration.kept or ())})", "removed: too similar (4)", "failed, no score (1)"]


def test_the_curve_of_full_training_ends_at_tau_one(full_study: Any) -> None:
    results = read_results(full_study.folder, time_tolerance=0.05)
    *_, (step, seconds, correlation) = results.full_training_curve()
    assert (step, correlation.tau) == (500, pytest.approx(1.0))
    assert seconds == pytest.approx(np.median([reference.train_seconds for reference in results.references]))


def test_training_beyond_the_final_step_is_not_counted_in_the_saving(full_study: Any) -> None:
    results = read_results(full_study.folder, time_tolerance=0.05)
    task = results.best
    assert task is not None
    assert task.final_step is not None
    saving = measure_wall_saving(results, task)
    assert saving is not None
    records = [results.trials[key].record for key in task.keys]
    at_step = [record.check_at(task.final_step) for record in records]
    expected = np.median(
        [
            record.status.wall_seconds - (record.checks[-1].train_seconds - check.train_seconds)
            for record, check in zip(records, at_step, strict=True)
            if check is not None
        ]
    )
    assert saving.proxy_seconds == pytest.approx(expected)


def test_costs_count_every_device_of_a_training(new_study: Callable[..., Any]) -> None:
    author = new_study(8)
    author.select_models(start_models=8, models=8)
    author.search({"one": ProxyTask(width=0.5), "two": ProxyTask(width=0.5, devices=2)}, target=1.0)
    results = read_results(author.folder, time_tolerance=0.05)
    one, two = (results.tasks[name] for name in ("one", "two"))
    costs = {task: cost for (_, task), cost in count_stage_costs(results).items()}
    assert costs["two"].train_seconds / costs["two"].steps == pytest.approx(
        2 * costs["one"].train_seconds / costs["one"].steps
    )
    records = [trial.record for trial in results.trials.values() if trial.task == "two"]
    assert costs["two"].wall_seconds == pytest.approx(2 * sum(record.status.wall_seconds for record in records))
    savings = [measure_train_saving(results, task) for task in (one, two)]
    per_step = [
        saving and saving.proxy_seconds / (task.final_step or 1)
        for saving, task in zip(savings, (one, two), strict=True)
    ]
    assert per_step[1] == pytest.approx(2 * (per_step[0] or 0))
    saving = measure_wall_saving(results, two)
    assert saving is not None
    beyond = [
        record.checks[-1].train_seconds - record.checks[two.checks.index(two.checks[-1])].train_seconds
        for record in records
    ]
    alone = [record.status.wall_seconds - more for record, more in zip(records, beyond, strict=True)]
    assert saving.proxy_seconds == pytest.approx(2 * np.median(alone))


def test_target_tau_is_read_from_the_stored_rules(full_study: Any) -> None:
    results = read_results(full_study.folder, time_tolerance=0.05)
    assert {read_target(task) for task in results.tasks.values()} == {0.65}


@pytest.mark.parametrize(("full", "proxy", "models"), [(10.0, 2.0, 13), (10.0, 10.0, None), (10.0, 20.0, None)])
def test_break_even_depends_on_the_saving_per_model(full: float, proxy: float, models: int | None) -> None:
    assert Saving(full, proxy).break_even(100.0) == models
