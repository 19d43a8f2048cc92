"""Figures show the recorded looks, acceptance thresholds, added reference models and outcomes."""

from typing import Any

import numpy as np
import pytest

from nasproxy.report import wording
from nasproxy.report.figures.overview import draw_overview
from nasproxy.report.figures.proxy_tasks import draw_correlation
from nasproxy.report.figures.style import Over
from nasproxy.report.figures.variance_and_references import draw_reference_scores
from nasproxy.stages.study_results import StudyResults, read_results


def results_of(author: Any) -> StudyResults:
    return read_results(author.folder, time_tolerance=0.05)


def labels(axes: Any) -> list[str]:
    return list(axes.get_legend_handles_labels()[1])


def line(axes: Any, label: str) -> Any:
    (found,) = [drawn for drawn in axes.lines if drawn.get_label() == label]
    return found


@pytest.mark.parametrize("over", list(Over))
def test_every_look_is_drawn_with_its_acceptance_threshold(grown_study: Any, over: Over) -> None:
    results = results_of(grown_study)
    task = results.tasks["width50"]
    axes = draw_correlation(results, task, over).axes[0]
    taus, thresholds = line(axes, "tau-b at each look"), line(axes, "acceptance threshold")
    assert taus.get_marker() == "o"
    assert taus.get_ydata().tolist() == [check.correlation.tau for check in task.checks if check.correlation]
    assert thresholds.get_drawstyle() == "steps-mid"
    np.testing.assert_array_equal(
        thresholds.get_ydata(), [np.nan if c.needed is None else c.needed for c in task.checks]
    )
    assert line(axes, "lower confidence bound").get_ydata().tolist() == [c.lower_limit for c in task.checks]


def test_added_references_are_marked_with_their_number_at_their_look(grown_study: Any) -> None:
    results = results_of(grown_study)
    axes = draw_correlation(results, results.tasks["width50"], Over.STEPS).axes[0]
    (note,) = [text for text in axes.texts if text.get_text().startswith("+")]
    assert note.get_text() == "+5"
    grown = next(check for check in results.tasks["width50"].checks if check.models == 15)
    assert note.xy[0] == grown.step
    assert line(axes, "reference models added").get_xdata()[0] == grown.step


def test_the_deciding_look_is_labelled_with_the_outcome(full_study: Any) -> None:
    results = results_of(full_study)
    for name, words in (("width50", "accepted"), ("data50", "dropped")):
        task = results.tasks[name]
        last = task.checks[-1].correlation
        assert last is not None
        shown = labels(draw_correlation(results, task, Over.STEPS).axes[0])
        assert f"{words}: tau {wording.format_tau(last.tau)}" in shown


def test_a_threshold_equal_to_the_target_at_every_look_is_drawn_once(full_study: Any, grown_study: Any) -> None:
    crossing, sequential = results_of(full_study), results_of(grown_study)
    shown = labels(draw_correlation(crossing, crossing.tasks["width50"], Over.STEPS).axes[0])
    assert "acceptance threshold" in shown
    assert not any(label.startswith("target") for label in shown)
    assert "target 0.65" in labels(draw_correlation(sequential, sequential.tasks["width50"], Over.STEPS).axes[0])


def test_the_overview_shows_the_end_of_the_race_and_every_outcome(full_study: Any) -> None:
    results = results_of(full_study)
    assert results.best is not None
    left, right = draw_overview(results, list(results.tasks.values())).axes
    shown = labels(left)
    assert shown.count("accepted") == shown.count("dropped") == 1
    assert "end of the race" in [text.get_text() for text in left.texts]
    (finish,) = [drawn for drawn in left.lines if len(set(drawn.get_xdata())) == 1 and drawn.get_alpha() == 0.6]
    assert finish.get_xdata()[0] == pytest.approx(results.best.final_rated_seconds)
    notes = [text.get_text() for text in right.texts]
    assert sorted(note.partition(",")[0] for note in notes) == ["chosen", "dropped", "dropped"]


def test_the_mark_of_an_outcome_leaves_the_marker_of_its_task_visible(full_study: Any) -> None:
    results = results_of(full_study)
    left = draw_overview(results, list(results.tasks.values())).axes[0]
    curves = {line.get_label(): line for line in left.lines if line.get_label() in results.tasks}
    front = [line for line in left.lines if line.get_zorder() > max(mark.get_zorder() for mark in left.collections)]
    assert {(line.get_color(), line.get_marker(), line.get_xdata()[0]) for line in front} == {
        (curve.get_color(), curve.get_marker(), curve.get_xdata()[-1]) for curve in curves.values()
    }
    assert curves


def test_the_overview_of_a_sequential_search_marks_the_chosen_task_instead(vertex_study: Any) -> None:
    results = results_of(vertex_study)
    left = draw_overview(results, list(results.tasks.values())).axes[0]
    assert "chosen" in [text.get_text() for text in left.texts]


def test_added_references_are_drawn_among_the_others_by_score(grown_study: Any) -> None:
    axes = draw_reference_scores(results_of(grown_study)).axes[0]
    places = {container.get_label(): container[0].get_xdata() for container in axes.containers}
    added = places["added after an inconclusive look"]
    assert len(added) == 5
    assert sorted(np.concatenate(list(places.values())).tolist()) == list(range(1, 16))
