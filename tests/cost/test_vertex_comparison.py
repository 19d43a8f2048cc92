"""Cost of the same study with Vertex AI NAS, computed from its own seconds."""

from dataclasses import replace
from statistics import fmean, median
from typing import Any

import pytest

from nasproxy.cost.vertex_comparison import Effort, StageComparison, compare_with_vertex
from nasproxy.report import tables
from nasproxy.report.page import Page
from nasproxy.stages.study_results import StudyResults, read_results
from nasproxy.trials.proxy_task import ProxyTask


def read_study(author: Any) -> StudyResults:
    return read_results(author.folder, time_tolerance=0.05)


def index_rows(rows: list[StageComparison]) -> dict[str, StageComparison]:
    return {row.task or row.stage: row for row in rows}


def test_the_tools_selection_takes_18_trainings_and_12_if_they_are_resumed(full_study: Any) -> None:
    results = read_study(full_study)
    selection = index_rows(compare_with_vertex(results))["references"]
    full = median(reference.train_seconds for reference in results.references)
    assert selection.as_it_is == Effort(pytest.approx(18.15), pytest.approx(18.15 * full))
    assert selection.corrected == Effort(pytest.approx(12.1), pytest.approx(12.1 * full))
    assert selection.study is not None
    assert selection.study.trainings == pytest.approx(12.36, abs=0.01), "one check more, one failure, one baseline"


def test_in_the_tool_every_proxy_task_trains_to_its_end_at_the_measured_speed(full_study: Any) -> None:
    results = read_study(full_study)
    rows = index_rows(compare_with_vertex(results))
    for name, task in results.tasks.items():
        last = [results.trials[key].record.checks[-1] for key in task.keys]
        seconds = fmean(check.train_seconds * 500 / check.step for check in last)
        assert rows[name].as_it_is == Effort(pytest.approx(10.0), pytest.approx(10 * seconds))


def test_with_fixed_faults_a_proxy_task_stops_at_its_first_crossing(full_study: Any) -> None:
    results = read_study(full_study)
    width50 = results.tasks["width50"]
    assert width50.final_step == 160, "this study used the first crossing as well"
    at_step = [results.trials[key].record.check_at(160) for key in width50.keys]
    seconds = sum(check.train_seconds for check in at_step if check is not None)
    assert index_rows(compare_with_vertex(results))["width50"].corrected == Effort(
        pytest.approx(3.2), pytest.approx(seconds)
    )


def test_costs_beyond_the_measured_steps_are_lower_limits(full_study: Any) -> None:
    results = read_study(full_study)
    rows = index_rows(compare_with_vertex(results))
    trained = min(results.trials[key].record.step for key in results.tasks["data50"].keys)
    corrected = rows["data50"].corrected
    assert corrected is not None
    assert corrected.is_at_least
    assert corrected.trainings == pytest.approx(10 * trained / 500)
    assert rows["total"].corrected is not None
    assert rows["total"].corrected.is_at_least
    shown = {column.heading: column for column in tables.make_vertex_comparison(results).columns}
    (row,) = [row for row in tables.make_vertex_comparison(results).rows if row["stage"] == "total"]
    assert (
        shown["Vertex AI NAS, faults fixed: full-training equivalents"]
        .text(row)
        .startswith("\N{GREATER-THAN OR EQUAL TO}")
    )
    assert (
        not shown["Vertex AI NAS as it is: full-training equivalents"]
        .text(row)
        .startswith("\N{GREATER-THAN OR EQUAL TO}")
    )


def test_a_later_task_stops_when_it_cannot_be_cheaper_than_the_best(vertex_study: Any) -> None:
    results = read_study(vertex_study)
    rows = index_rows(compare_with_vertex(results))
    crossing = results.tasks["width50"].final_train_seconds
    assert crossing is not None
    later = rows["data25_width50"].corrected
    assert later is not None
    assert not later.is_at_least
    known = {check.step: check.median_train_seconds for check in results.tasks["data25_width50"].checks}
    stop = round(later.trainings * 500 / 10)
    assert all(seconds < crossing for step, seconds in known.items() if step < stop)


def test_a_time_limit_ends_every_training(new_study: Any) -> None:
    author = new_study(8)
    author.measure_variance()
    author.select_models(start_models=8, models=8)
    author.search({"width25": ProxyTask(width=0.25)}, target=1.0, train_seconds_limit=1.0)
    task = index_rows(compare_with_vertex(read_study(author)))["width25"]
    assert task.as_it_is is not None
    assert task.as_it_is.seconds == pytest.approx(8 * 1.0)


def test_the_total_includes_every_stage_of_this_study(grown_study: Any) -> None:
    results = read_study(grown_study)
    *stages, total = compare_with_vertex(results)
    assert [row.stage for row in stages][:3] == ["variance", "references", "added references"]
    assert stages[2].as_it_is is None
    assert total.study is not None
    assert total.study.trainings == pytest.approx(tables.make_costs(results).rows[-1]["trainings"])


def test_without_training_seconds_there_is_no_comparison(full_study: Any) -> None:
    results = read_study(full_study)
    assert results.selection is not None
    timeless = tuple(replace(reference, train_seconds=0.0) for reference in results.references)
    assert compare_with_vertex(replace(results, selection=replace(results.selection, references=timeless))) == []


def test_an_unfinished_search_is_not_compared(full_study: Any) -> None:
    results = read_study(full_study)
    going = {name: replace(task, stopping_state=None) for name, task in results.tasks.items()}
    assert compare_with_vertex(replace(results, tasks=going)) == []


def test_the_page_states_what_is_computed_and_what_is_assumed(page: Page) -> None:
    html = page.path.read_text(encoding="utf-8")
    for words in (
        "Comparison with Vertex AI NAS",
        "Vertex AI NAS was not run",
        "Assumptions: its candidates train as",
    ):
        assert words in html
