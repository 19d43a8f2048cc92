"""A whole study of a trainer that validates before training and after epochs of 16 steps, under a grid of 10."""

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest

from helpers import cli
from nasproxy.cost.vertex_comparison import compare_with_vertex
from nasproxy.stages.study_results import read_results
from nasproxy.storage.study_stores import FolderStudyStore
from test_crash import Disturbances, compare, decisions, read_curves, survive

SETTING = (
    "experiment=debug",
    "study=crash",
    "job=design",
    "tracking=csv",
    "cost.estimate_first=false",
    "trainer._target_=helpers.epoch_trainer.train",
    "trainer.check_seconds=0.01",
    "training.total_steps=96",
    "training.check_every_steps=10",
    "variance.seeds=2",
    "variance.min_seeds=2",
    "variance.on_failure=warn",
    "references.initial=8",
    "references.max=0",
    "criterion=first_crossing",
    "criterion.target=0.8",
    "proxy.data_fraction=[0.5,1.0]",
    "proxy.width=[0.5]",
)
EPOCHS = [0, 16, 32, 48, 64, 80, 96]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    code, output = cli.run(*SETTING, folder=folder)
    assert code == 0, output
    return folder


@pytest.mark.gate
def test_every_stage_uses_the_steps_that_the_trainer_reports(undisturbed: Path) -> None:
    decided: dict[str, Any] = decisions(undisturbed)
    assert len(decided["references"]) == 8
    assert decided["best"] is not None
    assert len(decided["confirmations"]) == 1
    looks = {name: [check.step for check in checks] for name, (_, _, checks) in decided["tasks"].items()}
    assert all(steps == EPOCHS[1 : len(steps) + 1] for steps in looks.values()), looks
    for curve in read_curves(undisturbed).values():
        steps = [step for step, _ in curve]
        assert steps[:-1] == EPOCHS[: len(steps) - 1]


@pytest.mark.gate
def test_step_0_is_the_first_point_of_a_curve_and_no_look(undisturbed: Path) -> None:
    study = undisturbed / "crash"
    with (study / "tracking" / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    keys = {row["key"] for row in rows}
    assert {row["key"] for row in rows if row["step"] == "0"} == keys
    assert (study / "report" / "index.html").exists()
    tasks = [json.loads(path.read_text()) for path in (study / "proxy_search" / "tasks").glob("*.json")]
    assert all(check["step"] > 0 for task in tasks for check in task["checks"])


@pytest.mark.gate
def test_the_comparison_with_vertex_uses_the_reported_steps(undisturbed: Path) -> None:
    results = read_results(FolderStudyStore(undisturbed / "crash"), time_tolerance=0.05)
    best = next(task for task in results.tasks.values() if task.is_accepted)
    rows = {row.task: row for row in compare_with_vertex(results) if row.stage == "proxy search"}
    assert best.final_step is not None
    corrected = rows[best.name].corrected
    assert corrected is not None
    assert corrected.trainings == pytest.approx(8 * best.final_step / 96), "this study used the first crossing too"


@pytest.mark.slow
def test_killed_at_random_moments_it_decides_the_same(undisturbed: Path, tmp_path: Path) -> None:
    disturbances = Disturbances(random.Random(4))
    survive(tmp_path, 4, disturbances, SETTING)
    assert disturbances.kills
    assert decisions(tmp_path) == decisions(undisturbed)
    compare(tmp_path, undisturbed)
