"""Cost estimates before a study, and compared with its actual costs."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nasproxy.cost.estimate import Amount, Assumption, Estimate, StageEstimate
from nasproxy.report import estimate_tables
from nasproxy.report.page import write_report
from nasproxy.space import SearchSpace
from nasproxy.stages.study_results import Purpose, read_results
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.trials.proxy_task import ProxyTask


def amounts(low: float, middle: float, high: float) -> StageEstimate:
    return StageEstimate(*(Amount(round(x), round(500 * x), 60.0 * x, 30.0 * x) for x in (low, middle, high)))


ESTIMATE = Estimate(
    stages={"variance": amounts(5, 5, 6), "references": amounts(12, 12, 12), "proxy search": amounts(2, 10, 90)},
    full_steps=500,
    devices_per_slot=0.25,
    price_per_hour=2.0,
    assumption=Assumption("data50", 120, 500, 5),
    notes=("not timed: quality=1 under full failed (oom)",),
)


def test_the_forecast_shows_the_middle_estimate_with_its_range_and_cost() -> None:
    table = estimate_tables.make_forecast(ESTIMATE)
    shown = [[column.text(row) for column in table.columns] for row in table.rows]
    assert [cells[0] for cells in shown] == ["variance", "references", "proxy search", "total"]
    assert shown[2][1:] == [
        "10 (2 to 90)",
        "10.0 (2.0 to 90.0)",
        "5 min (1 min to 45 min)",
        "2.5 min (30 s to 22.5 min)",
        "0.08 (0.02 to 0.75)",
    ]
    assert shown[1][1] == "12", "a certain amount has no range"
    assert table.rows[-1]["money_middle"] == pytest.approx(27 * 60 * 0.25 / 3600 * 2)
    (assumed, *_, failed) = estimate_tables.write_assumptions(ESTIMATE)
    assert "data50 is accepted after 120 of 500 steps, with 5 reference models added" in assumed
    assert failed.startswith("not timed")


def test_advice_names_an_augmentation_search_and_long_trials() -> None:
    assumed = Assumption("data50", 120, 500, 5, trial_seconds=4 * 3600.0)
    policies = SearchSpace("test", {"magnitude": [1, 2]}, augmentation=("magnitude",))
    augmentation, duration = estimate_tables.list_advice(replace(ESTIMATE, assumption=assumed), policies)
    assert augmentation.startswith("advice: This is an augmentation search")
    assert duration.startswith("advice: A trial of the search under data50")
    assert list(estimate_tables.list_advice(ESTIMATE, SearchSpace("test", {"depth": [1, 2]}))) == []


def test_a_finished_study_is_compared_with_its_estimate(full_study: Any, tmp_path: Path) -> None:
    folder = FolderStudyStore(Path(shutil.copytree(full_study.folder.path, tmp_path / "copy")))
    assert not estimate_tables.make_comparison(read_results(folder, time_tolerance=0.05), None).rows
    folder.write("estimate", ESTIMATE)
    page = write_report(folder, time_tolerance=0.05)
    costs = {row["stage"]: row for row in page.tables["costs"] if row["proxy_task"] is None}
    rows = {row["stage"]: row for row in page.tables["estimate"]}
    assert list(rows) == ["variance", "references", "proxy search", "total"]
    for name in ("variance", "total"):
        assert rows[name]["actual_trials"] == costs[name]["trials"]
        assert rows[name]["actual_device_seconds"] == pytest.approx(costs[name]["wall_seconds"] * 0.25)
        expected = rows[name]["device_seconds_middle"]
        assert rows[name]["ratio"] == pytest.approx(rows[name]["actual_device_seconds"] / expected)
    same = {
        name: row["device_seconds_middle"] / row["trainings_middle"] * row["actual_trainings"]
        for name, row in rows.items()
    }
    assert rows["variance"]["ratio_per_step"] == pytest.approx(
        rows["variance"]["actual_device_seconds"] / same["variance"]
    )
    stages = sum(seconds for name, seconds in same.items() if name != "total")
    assert rows["total"]["ratio_per_step"] == pytest.approx(rows["total"]["actual_device_seconds"] / stages)
    assert "Estimated and actual cost" in page.path.read_text()


def test_a_comparison_of_schedules_that_was_not_estimated_is_left_out(new_study: Any) -> None:
    author = new_study()
    author.measure_variance()
    before = estimate_tables.make_comparison(read_results(author.folder, time_tolerance=0.05), ESTIMATE).rows
    author.compare_schedules({("cosine", "none"): ProxyTask(), ("constant", "none"): ProxyTask(width=0.5)})
    results = read_results(author.folder, time_tolerance=0.05)
    assert Purpose.SCHEDULES in {trial.purpose for trial in results.trials.values()}
    assert estimate_tables.make_comparison(results, ESTIMATE).rows == before


def test_device_time_counts_every_slot_of_a_trial(new_study: Any) -> None:
    author = new_study()
    author.measure_variance()
    for slots in (1.0, 2.0):
        estimate = replace(ESTIMATE, slots_by_devices={"1": slots, "3": 3.0})
        results = read_results(author.folder, time_tolerance=0.05)
        (row, *_) = estimate_tables.make_comparison(results, estimate).rows
        seconds = sum(trial.alone.status.wall_seconds for trial in results.trials.values())
        assert row["actual_device_seconds"] == pytest.approx(seconds * 0.25 * slots)


def test_an_unfinished_stage_has_no_ratio_of_actual_to_estimated(new_study: Any) -> None:
    author = new_study()
    author.measure_variance()
    author.folder.write("estimate", ESTIMATE)
    rows = {
        row["stage"]: row
        for row in estimate_tables.make_comparison(read_results(author.folder, time_tolerance=0.05), ESTIMATE).rows
    }
    assert rows["variance"]["ratio"] is not None
    assert rows["references"]["actual_trials"] is None
    assert rows["references"]["ratio"] is None
    assert rows["total"]["ratio"] is None
