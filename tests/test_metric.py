"""Studies on a metric that is better when lower, from the command line."""

import json
from pathlib import Path
from typing import Any

import pytest

from helpers import cli
from nasproxy.storage.study_stores import FolderStudyStore

FEW = (
    "experiment=debug",
    "proxy=[data50,width50]",
    "variance.seeds=3",
    "controller.poll_seconds=0.05",
    "references.initial=8",
    "references.max=0",
    "confirm.enabled=false",
    "cost.estimate_first=false",
    "backend=inline",
)


def read_decisions(study: FolderStudyStore) -> dict[str, Any]:
    """Read what a study decided, without the values of its metric."""
    tasks = [json.loads(path.read_text()) for path in sorted((study.path / "proxy_search" / "tasks").glob("*.json"))]
    references = json.loads((study.path / "references" / "state.json").read_text())["references"]
    return {
        "references": [reference["architecture"] for reference in references],
        "tasks": [(task["name"], task["stopping_state"], task["final_step"], task["keys"]) for task in tasks],
        "taus": [[round(check["correlation"]["tau"], 9) for check in task["checks"]] for task in tasks],
    }


@pytest.mark.gate
def test_a_study_on_a_loss_decides_as_one_on_its_negation(tmp_path: Path) -> None:
    for name, metric in (("accuracy", "accuracy"), ("loss", "loss")):
        status, output = cli.run(*FEW, f"metric={metric}", folder=tmp_path / name)
        assert status == 0, output
    loss, accuracy = (read_decisions(FolderStudyStore(tmp_path / name / "debug")) for name in ("loss", "accuracy"))
    assert loss == accuracy
    page = (tmp_path / "loss" / "debug" / "report" / "index.html").read_text(encoding="utf-8")
    assert "loss (lower is better)" in page
    status, listing = cli.run("experiment=debug", "metric=loss", "job=list_trials", folder=tmp_path / "loss")
    assert status == 0, listing
    assert cli.run("experiment=debug", "job=list_trials", folder=tmp_path / "loss") == (0, listing), (
        "it is a study on loss"
    )


@pytest.mark.slow
def test_the_embedded_study_on_its_validation_loss_decides_as_on_the_negated_loss(tmp_path: Path) -> None:
    decisions = []
    for name, mode in (("loss", "min"), ("negated_loss", "max")):
        trainer = ("trainer=plain_pytorch", "trainer._target_=helpers.counted_seconds.train")
        metric = (f"metric.name={name}", f"metric.mode={mode}")
        status, output = cli.run(*trainer, *metric, folder=tmp_path / name, seconds=900)
        assert status == 0, output
        decisions.append(read_decisions(FolderStudyStore(tmp_path / name / "digits")))
    assert decisions[0] == decisions[1]
    assert any(state == "Met desired correlation" for _, state, _, _ in decisions[0]["tasks"]), decisions[0]["tasks"]


@pytest.mark.gate
def test_a_metric_with_the_wrong_mode_gets_a_hint_and_an_unreported_one_is_refused(tmp_path: Path) -> None:
    flags = ("experiment=debug", "job=measure_variance", "cost.estimate_first=false", "backend=inline")
    status, output = cli.run(*flags, "metric=loss", "metric.mode=max", folder=tmp_path / "up")
    assert status == 0, output
    assert "curves of loss fall, and metric.mode=max prefers the opposite: set metric.mode=min" in " ".join(
        output.split()
    )
    status, output = cli.run(*flags, "metric.name=f1", folder=tmp_path / "unknown")
    assert status != 0
    assert "a check needs the study's metric 'f1', got accuracy, loss" in " ".join(output.split())
