"""The report shows compared schedules with learning curve, roughness and final score."""

from collections.abc import Callable
from typing import Any

import pytest

from nasproxy.report import tables
from nasproxy.report.figures.variance_and_references import draw_schedule_curves
from nasproxy.report.page import write_report
from nasproxy.stages.study_results import Purpose, read_results
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


def test_the_figure_has_a_curve_per_schedule_and_a_panel_per_kind_of_weight_averaging(compared: Any) -> None:
    results = read_results(compared.folder, time_tolerance=0.05)
    assert results.schedules is not None
    plain, smoothed = draw_schedule_curves(results).axes
    assert (plain.get_title(), smoothed.get_title()) == ("no weight averaging", "weight averaging: ema")
    for axes, smoothing in ((plain, "none"), (smoothed, "ema")):
        shown = [curve for curve in results.schedules.curves if curve.smoothing == smoothing]
        assert [line.get_label() for line in axes.lines] == [
            f"{curve.schedule} (roughness {curve.roughness:.3g})" for curve in shown
        ]
        record = results.trials[shown[0].key].record
        assert axes.lines[0].get_ydata().tolist() == [check.score for check in record.checks]


def test_the_table_is_sorted_by_roughness_and_the_page_shows_table_and_figure(compared: Any) -> None:
    page = write_report(compared.folder, time_tolerance=0.05)
    rows = page.tables["schedules"]
    assert [row["roughness"] for row in rows] == sorted(row["roughness"] for row in rows)
    assert "Comparison of learning-rate schedules" in page.path.read_text()
    assert (compared.folder.path / "report" / "schedules.png").exists()


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
    assert tables.make_schedules(read_results(author.folder, time_tolerance=0.05)).rows == []
    assert (
        "Comparison of learning-rate schedules" not in write_report(author.folder, time_tolerance=0.05).path.read_text()
    )
