"""The report's comparison with zero-cost baselines."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nasproxy.report import tables, verdict, wording
from nasproxy.report.baselines import make_baselines
from nasproxy.report.page import write_report
from nasproxy.stages.study_results import StudyResults, read_results
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.storage.zero_cost_scores import ZeroCost, ZeroCostScores
from nasproxy.trials.spec import to_canonical_json

Scored = Callable[..., FolderStudyStore]


def results(folder: FolderStudyStore) -> StudyResults:
    return read_results(folder, time_tolerance=0.05)


@pytest.fixture
def scored(full_study: Any, tmp_path: Path) -> Scored:
    """Return the study with zero-cost scores computed from a model's rank among the references, 0 for the best."""

    def score(function: Callable[[int], ZeroCost | None]) -> FolderStudyStore:
        folder = FolderStudyStore(Path(shutil.copytree(full_study.folder.path, tmp_path / "copy")))
        models = results(folder).references
        scores = {to_canonical_json(model.architecture): function(place) for place, model in enumerate(models)}
        folder.write("zero_cost", ZeroCostScores(scores))
        return folder

    return score


def remark(folder: FolderStudyStore) -> str:
    remarks = verdict.judge_study(results(folder)).remarks
    about = [remark for remark in remarks if re.match("Not (significantly )?better than", remark.title)]
    return " ".join(f"{remark.title} {remark.text}" for remark in about)


def test_baselines_keep_the_sign_of_their_tau(scored: Scored) -> None:
    folder = scored(lambda place: ZeroCost(100 - place, flops=place, synflow=None))
    parameters, flops = make_baselines(results(folder)).rows
    assert (parameters["baseline"], flops["baseline"]) == ("parameters", "FLOPs")
    assert parameters["tau"] > 0.9
    assert flops["tau"] == -parameters["tau"], "a reversed ranking is shown as one"
    assert (parameters["models"], parameters["top_regret"], parameters["train_seconds"]) == (10, 0.0, 0.0)
    page = write_report(folder, time_tolerance=0.05)
    assert page.tables["zero_cost"] == [parameters, flops]
    assert "Zero-cost baselines" in page.path.read_text()


def test_a_baseline_that_ranks_no_worse_than_the_proxy_task_is_named_with_both_taus(scored: Scored) -> None:
    folder = scored(lambda place: ZeroCost(100 - place, flops=place, synflow=1.0))
    text = remark(folder)
    parameters, *_ = make_baselines(results(folder)).rows
    (proxy,) = [row for row in tables.make_proxy_tasks(results(folder)).rows if row["is_best"]]
    taus = f"{wording.format_tau(proxy['tau'])} vs {wording.format_tau(parameters['tau'])}"
    assert text.startswith(
        f"Not better than counting parameters ({taus}). Tau in the proxy search on the same 10 models;"
    )


def test_a_baseline_that_is_not_significantly_worse_is_named_with_the_interval_of_the_difference(
    scored: Scored,
) -> None:
    turned = [2, 1, 0, 5, 4, 3, 8, 7, 6, 9]
    text = remark(scored(lambda place: ZeroCost(1, flops=10 - turned[place], synflow=None)))
    assert text.startswith("Not significantly better than counting FLOPs (")
    low = float(text.partition("interval of the difference is ")[2].split()[0].replace("\N{MINUS SIGN}", "-"))
    assert low <= 0, "with ten models a difference of 0.2 may be chance"


def test_a_significantly_worse_baseline_gets_no_remark(scored: Scored) -> None:
    assert remark(scored(lambda place: ZeroCost(place, flops=place, synflow=float(place)))) == ""


def test_models_without_zero_cost_scores_have_no_baselines(scored: Scored) -> None:
    folder = scored(lambda place: None)
    assert not make_baselines(results(folder)).rows
    assert remark(folder) == ""
    assert "Zero-cost baselines" not in write_report(folder, time_tolerance=0.05).path.read_text()
