"""Reference models against the baseline model, on the page and in its remarks."""

from dataclasses import replace
from html import unescape
from typing import Any

from nasproxy.report import baseline_remarks, verdict
from nasproxy.report.page import Page, write_report
from nasproxy.stages.study_results import StudyResults, read_results


def results_of(author: Any) -> StudyResults:
    return read_results(author.folder, time_tolerance=0.05)


def with_baseline_score(results: StudyResults, score: float) -> StudyResults:
    assert results.selection is not None
    assert results.selection.baseline is not None
    baseline = replace(results.selection.baseline, score=score)
    return replace(results, selection=replace(results.selection, baseline=baseline))


def test_page_and_json_say_how_many_references_are_better(full_study: Any, page: Page) -> None:
    found = results_of(full_study).baseline_comparison
    assert found is not None
    (row,) = page.tables["baseline"]
    assert (row["n"], row["better"], row["finding"]) == (10, found.better, found.finding.value)
    assert found.message in unescape(page.path.read_text(encoding="utf-8"))
    assert "The references were not drawn at random" in found.message


def test_a_baseline_above_all_references_is_a_remark(full_study: Any) -> None:
    results = with_baseline_score(results_of(full_study), 2.0)
    (remark,) = baseline_remarks.remark_on_baseline(results)
    assert remark.title == "All reference models score below the baseline."
    assert "Revisit the space before a search" in remark.text
    assert remark in verdict.judge_study(results).remarks


def test_references_that_are_better_within_seed_noise_are_a_remark(full_study: Any) -> None:
    results = results_of(full_study)
    best = max(reference.score for reference in results.references)
    (remark,) = baseline_remarks.remark_on_baseline(with_baseline_score(results, best))
    assert remark.title == "No reference model is better than the baseline by more than seed noise."


def test_better_references_are_no_remark(full_study: Any) -> None:
    assert list(baseline_remarks.remark_on_baseline(with_baseline_score(results_of(full_study), 0.0))) == []


def test_lower_losses_are_better(full_study: Any) -> None:
    results = replace(with_baseline_score(results_of(full_study), 2.0), base={"metric.mode": "min"})
    assert results.baseline_comparison is not None
    assert results.baseline_comparison.better == len(results.references)


def test_a_reference_that_is_the_baseline_is_left_out(full_study: Any) -> None:
    results = results_of(full_study)
    assert results.selection is not None
    same = replace(results, selection=replace(results.selection, baseline=results.references[0]))
    assert same.baseline_comparison is not None
    assert same.baseline_comparison.n == len(results.references) - 1


def test_a_study_without_a_baseline_has_no_comparison(grown_study: Any) -> None:
    assert results_of(grown_study).baseline_comparison is None
    assert write_report(grown_study.folder, time_tolerance=0.05).tables["baseline"] == []
