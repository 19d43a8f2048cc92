"""The comparison of strategies and the ladder in the report and in the Python API."""

import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from nasproxy.api.study import read_study
from nasproxy.report import strategies, wording
from nasproxy.report.figures.worth import draw_ladder
from nasproxy.report.page import Page, write_report
from nasproxy.report.strategies import recommend
from nasproxy.report.verdict import judge_study
from nasproxy.report.worth_section import make_section
from nasproxy.stages.study_results import StudyResults, read_results
from nasproxy.stages.worth.evidence import collect_curves
from nasproxy.stages.worth.stage import compare, describe_ladder, find_ladder
from nasproxy.stages.worth.state import LADDER, STATE, LadderState, StoredRung, WorthState
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.trials.objective import Objective


@pytest.fixture(scope="module")
def compared(full_study: Any, tmp_path_factory: pytest.TempPathFactory) -> FolderStudyStore:
    """Return a copy of a study, with its strategies compared for a search of 300 models."""
    path = shutil.copytree(full_study.folder.path, tmp_path_factory.mktemp("compared") / "study")
    folder, objective = FolderStudyStore(Path(path)), Objective()
    curves = collect_curves(folder, objective, time_tolerance=0.05)
    ladder = find_ladder(curves, 0.25)
    folder.write(LADDER, describe_ladder(ladder, curves, objective, max_risk=0.25, trials=300, most=200))
    folder.write(STATE, compare(curves, ladder, objective, trials=300))
    return folder


@pytest.fixture(scope="module")
def results(compared: FolderStudyStore) -> StudyResults:
    return read_results(compared, time_tolerance=0.05)


@pytest.fixture(scope="module")
def compared_page(compared: FolderStudyStore) -> Page:
    return write_report(compared, time_tolerance=0.05)


def worth_of(results: StudyResults) -> WorthState:
    assert results.worth is not None
    return results.worth


def test_the_verdict_recommends_one_strategy_with_its_cost_and_what_it_finds(results: StudyResults) -> None:
    sentence = recommend(results)
    assert sentence is not None
    assert sentence.startswith("For a search of 300 models: ")
    assert "of models are expected to be better than the best one found (95 % interval " in sentence
    assert judge_study(results).recommendation == sentence
    assert sentence in judge_study(results).text


def test_the_table_has_each_strategy_and_marks_the_recommended_one(results: StudyResults) -> None:
    table = strategies.make_planned(results)
    names = [row["strategy"] for row in table.rows]
    assert {"full training of random models", "successive halving (eta 3)"} <= set(names)
    assert all(row["candidates"] == 300 for row in table.rows)
    assert [row["is_recommended"] for row in table.rows].count(True) == 1
    assert [row["better"] for row in table.rows] == sorted(row["better"] for row in table.rows)


def test_strategies_at_equal_cost_cost_no_more_than_the_proxy_task(results: StudyResults) -> None:
    planned = worth_of(results).planned
    proxy = next(outlook.prospect for outlook in planned if outlook.prospect.strategy == "proxy")
    rows = strategies.make_equal_cost(results).rows
    assert len(rows) > 2
    assert all(row["cost"] <= 1.1 * proxy.cost for row in rows)


def test_scores_beyond_the_best_reference_model_are_not_extrapolated(results: StudyResults) -> None:
    table = strategies.make_planned(results)
    best = max(model.score for model in results.references)
    assert all(row["score"] is None or row["score"] <= best for row in table.rows)
    assert any("better than" in cells[-1] for cells in table.cells)


def test_the_page_shows_the_comparison_and_a_picture_of_it(compared_page: Page, results: StudyResults) -> None:
    html = unescape(compared_page.path.read_text(encoding="utf-8"))
    assert "Is it worth it? Strategies for a search of 300 models" in html
    assert recommend(results) in html
    assert "worth.png" in [picture.name for picture in compared_page.pictures]


def test_the_page_states_the_risk_of_the_ladder_or_why_there_is_none(
    compared_page: Page, results: StudyResults
) -> None:
    html = unescape(compared_page.path.read_text(encoding="utf-8"))
    assert results.ladder is not None
    if results.ladder.rungs:
        assert "is eliminated, over all rungs together, is at most 25 %" in html
        assert len(strategies.make_ladder(results).rows) == len(results.ladder.rungs)
    else:
        assert f"No ladder: {results.ladder.reason}." in html


def test_the_page_says_why_the_accepted_task_is_not_compared(compared: FolderStudyStore, tmp_path: Path) -> None:
    folder = FolderStudyStore(Path(shutil.copytree(compared.path, tmp_path / "study")))
    reason = "7 of 10 reference models have a score under data50, and 8 are needed"
    worth = worth_of(read_results(folder, time_tolerance=0.05))
    folder.write(STATE, replace(worth, proxy_reason=reason))
    html = unescape(write_report(folder, time_tolerance=0.05).path.read_text(encoding="utf-8"))
    assert f"The accepted proxy task is not compared: {reason}." in html


def test_the_page_says_how_many_models_are_left_out(results: StudyResults) -> None:
    worth = worth_of(results)
    blocks = make_section(replace(results, worth=replace(worth, left_out=2)))
    assert f"reference models (2 without a score under {worth.proxy_task} left out)" in str(blocks)
    assert "left out" not in str(make_section(results))


def test_what_is_cheapest_now_that_the_study_is_paid_is_said_if_it_is_another_strategy(results: StudyResults) -> None:
    worth = worth_of(results)
    assert worth.recommended is not None
    other = next(outlook for outlook in worth.planned if outlook.prospect.strategy == "proxy")
    left = other.prospect.cost - (worth.study_cost or 0)
    said = recommend(replace(results, worth=replace(worth, from_here=other)))
    assert said is not None
    assert "Now that the study is paid, the cheapest is to use " in said
    assert said.endswith(f": {wording.format_about(left)} full trainings more.")
    same = recommend(replace(results, worth=replace(worth, from_here=worth.recommended)))
    assert same is not None
    assert "Now that the study is paid" not in same


def test_a_study_that_cannot_be_compared_says_why_there_is_no_recommendation(results: StudyResults) -> None:
    none = replace(results, worth=WorthState(300, 5, "there are 5 reference models"))
    assert recommend(none) == "No recommendation: there are 5 reference models."


def test_the_picture_of_the_ladder_has_a_panel_for_each_training_with_rungs(results: StudyResults) -> None:
    name, task = next((name, task) for name, task in results.tasks.items() if task.is_accepted)
    rungs = (
        StoredRung(name, 5, 0.3, 0.5, 0.1),
        StoredRung(None, 20, 0.4, 0.3, 0.2),
        StoredRung(None, 40, 0.5, 0.2, 0.4),
    )
    ladder = LadderState("accuracy", "max", 0.25, len(task.keys), rungs=rungs, best=3)
    panels = draw_ladder(results, ladder).axes
    assert [axes.get_title() for axes in panels] == [name, "full training"]
    models = len([*results.references, *results.added])
    assert [len(axes.lines) - 1 for axes in panels] == [len(task.keys), models], "curves, and the scores to reach"
    assert panels[1].lines[-1].get_ydata().tolist() == [0.4, 0.5]


def test_a_study_without_a_comparison_recommends_nothing(full_study: Any) -> None:
    before = read_results(full_study.folder, time_tolerance=0.05)
    assert recommend(before) is None
    assert judge_study(before).recommendation == ""
    assert strategies.make_planned(before).rows == []


def test_the_frame_of_strategies_has_the_rows_of_the_tables(compared: FolderStudyStore, results: StudyResults) -> None:
    frame = read_study(compared).strategies
    planned = frame[frame.compared_at == "planned candidates"]
    assert planned.strategy.tolist() == [row["strategy"] for row in strategies.make_planned(results).rows]
    assert planned.is_recommended.sum() == 1
    assert set(frame.compared_at) == {"planned candidates", "cost of the proxy task", "cost of the recommendation"}
    assert read_study(compared).ladder == results.ladder
