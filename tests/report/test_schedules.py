"""The report shows compared schedules with learning curves, learning rates, final score and its late change."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from nasproxy.report.figures.variance_and_references import draw_schedule_curves
from nasproxy.report.page import write_report
from nasproxy.report.schedule_section import make_schedules
from nasproxy.stages.study_results import Purpose, StudyResults, read_results
from nasproxy.trials.proxy_task import ProxyTask

TASKS = {
    ("constant", "none"): ProxyTask(width=0.7),
    ("constant", "ema"): ProxyTask(width=0.5),
    ("cosine", "none"): ProxyTask(),
    ("cosine", "ema"): ProxyTask(data_fraction=0.5),
}


@pytest.fixture(scope="module")
def compared(new_study: Callable[..., Any]) -> Any:
    author = new_study(8)
    author.compare_schedules(TASKS)
    return author


def results_of(author: Any) -> StudyResults:
    return read_results(author.folder, time_tolerance=0.05)


def with_rates(results: StudyResults) -> StudyResults:
    """Return results whose checks have the learning rate that falls linearly with the step."""
    trials = {}
    for key, trial in results.trials.items():
        checks = tuple(replace(c, metrics={"learning_rate": 1 - c.step / 500}) for c in trial.record.checks)
        trials[key] = replace(trial, record=replace(trial.record, checks=checks))
    return replace(results, trials=trials)


def test_the_figure_has_a_curve_per_schedule_and_a_panel_per_kind_of_weight_averaging(compared: Any) -> None:
    results = results_of(compared)
    assert results.schedules is not None
    plain, smoothed = draw_schedule_curves(results).axes
    assert (plain.get_title(), smoothed.get_title()) == ("no weight averaging", "weight averaging: ema")
    for axes, smoothing in ((plain, "none"), (smoothed, "ema")):
        shown = [curve for curve in results.schedules.curves if curve.smoothing == smoothing]
        assert [line.get_label() for line in axes.lines] == [
            f"{curve.schedule} ({curve.score:.3g}, late change {curve.late_change:.2g})" for curve in shown
        ]
        record = results.trials[shown[0].key].record
        assert axes.lines[0].get_ydata().tolist() == [check.score for check in record.checks]


def test_reported_learning_rates_are_drawn_beside_the_curves(compared: Any) -> None:
    *_, rates = draw_schedule_curves(with_rates(results_of(compared))).axes
    assert rates.get_ylabel() == "learning rate"
    assert [line.get_label() for line in rates.lines] == ["constant", "cosine"]
    assert rates.lines[0].get_ydata()[-1] == 0.0


def test_the_table_is_sorted_by_final_score_and_the_page_shows_table_and_figure(compared: Any) -> None:
    page = write_report(compared.folder, time_tolerance=0.05)
    rows = page.tables["schedules"]
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    html = page.path.read_text()
    assert "Comparison of learning-rate schedules" in html
    assert f"Best final score: {rows[0]['schedule']}" in html
    assert "the seed noise is not measured (job=measure_variance)" in html
    assert (compared.folder.path / "report" / "schedules.png").exists()


def test_late_changes_are_compared_with_the_seed_noise_and_ranks_are_shown_for_several_models(
    new_study: Callable[..., Any],
) -> None:
    author = new_study(8)
    author.measure_variance()
    author.compare_schedules(TASKS, models=6)
    results = results_of(author)
    table = make_schedules(results)
    assert table.rows[0]["late_change_seed_sds"] == pytest.approx(table.rows[0]["late_change"] / results.seed_sd)
    assert all(-1 <= row["late_tau"] <= 1 for row in table.rows)
    assert {"in seed SDs", "lowest tau, last quarter"} <= set(table.headings)
    html = write_report(author.folder, time_tolerance=0.05).path.read_text()
    assert "6 models, the first depth=1" in html
    assert "seed SDs)" in html


def test_a_training_shared_with_another_stage_keeps_the_purpose_that_it_was_created_for(compared: Any) -> None:
    results = read_results(compared.folder, time_tolerance=0.05)
    assert {trial.purpose for trial in results.trials.values()} == {Purpose.SCHEDULES}
    compared.measure_variance()
    measured = read_results(compared.folder, time_tolerance=0.05)
    assert measured.measured is not None
    assert measured.schedules is not None
    keys = {curve.key for curve in measured.schedules.curves}
    (shared,) = keys & set(measured.measured.keys)
    assert measured.trials[shared].purpose == Purpose.SCHEDULES, "the study's full training, trained there first"
    others = set(measured.measured.keys) - keys
    assert {measured.trials[key].purpose for key in others} == {Purpose.VARIANCE}


def test_a_study_without_a_comparison_shows_none(new_study: Callable[..., Any]) -> None:
    author = new_study(8)
    assert make_schedules(results_of(author)).rows == []
    assert (
        "Comparison of learning-rate schedules" not in write_report(author.folder, time_tolerance=0.05).path.read_text()
    )
