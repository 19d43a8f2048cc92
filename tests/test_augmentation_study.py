"""A study of augmentation policies: the search space is of image operations, and proxy tasks train to their end."""

import json
from pathlib import Path

import pytest

from helpers import cli
from nasproxy.trials.grid import span_grid

EXPERIMENT = cli.conf("experiment/augmentation_search")
SMALL = (
    "data.loader.train_size=200",
    "training.total_steps=40",
    "training.check_every_steps=10",
    "variance.seeds=2",
    "variance.min_seeds=2",
    "variance.on_failure=warn",
    "references.initial=5",
    "references.max=0",
    "criterion=first_crossing",
    "criterion.target=0.2",  # below the noise ceiling of so short trainings on any processor
    "cost.estimate_first=false",
    "proxy.tasks=[{name: half, data_fraction: 0.5, training.total_steps: 20, training.check_every_steps: 20}]",
)


def test_a_proxy_task_has_as_many_epochs_as_full_training_and_one_check_at_its_end() -> None:
    total_steps = EXPERIMENT["training"]["total_steps"]
    for task in span_grid(EXPERIMENT["proxy"]).values():
        assert task.overrides["training.total_steps"] == total_steps * task.data_fraction
        assert task.overrides["training.check_every_steps"] == task.overrides["training.total_steps"]


@pytest.mark.gate
@pytest.mark.parametrize("space", [pytest.param("autoaugment", marks=pytest.mark.slow), "randaugment"])
def test_policies_are_ranked_by_complete_trainings(tmp_path: Path, space: str) -> None:
    code, output = cli.run(
        "experiment=augmentation_search", f"search_space={space}", *SMALL, "study=small", folder=tmp_path
    )
    assert code == 0, output
    assert "half: " in output
    assert "5 reference models are trained" in output
    curves = [path.read_text().splitlines() for path in (tmp_path / "small" / "trials").glob("*/metrics.jsonl")]
    steps = [[json.loads(line)["step"] for line in curve] for curve in curves]
    assert steps.count([20]) >= 5, "the proxy task's trials, each checked once"
    assert steps.count([10, 20, 30, 40]) >= 5
