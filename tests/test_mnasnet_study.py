"""Studies of the MnasNet search space at 32 pixels, with all features of training."""

import json
import re
from pathlib import Path

import pytest

from helpers import cli
from nasproxy.stages.confirmation.state import read_confirmations
from nasproxy.stages.proxy_search.state import read_tasks
from nasproxy.stages.references.state import read_selection
from nasproxy.stages.variance.state import VarianceState
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.trials.records import Cause, State

TASKS = (
    "{name: compound, compound: -2, augmentation: follow, regularisation: follow}",
    "{name: cropped, image_size: 0.75, image_mode: crop, width: 0.5, trainer.smoothing: swa, trainer.schedule: step}",
    "{name: small_batch, batch_size: 0.5, depth: 0.5, trainer.optimizer: lamb, trainer.schedule: constant}",
    "{name: two_devices, devices: 2, width: 0.5, data_fraction: 0.5}",
    "{name: too_hot, width: 0.5, trainer.learning_rate: 1.0e+20, trainer.weight_decay: 0.0}",
    "{name: half, width: 0.5, trainer.channels_last: false, training.check_every_steps: null}",
)
EVERYTHING = (
    "experiment=mnasnet",
    "trainer.optimizer=sgd",
    "trainer.learning_rate=0.05",
    "trainer.warmup_fraction=0.1",
    "trainer.label_smoothing=0.1",
    "trainer.mixup=0.2",
    "trainer.cutmix=0.5",
    "trainer.shift_px=2",
    "trainer.erase=0.1",
    "trainer.channels_last=true",
    "training.precision=bf16-mixed",
    "training.micro_batch=16",
    "search_space.model.drop_path=0.1",
    "search_space.model.dropout=0.1",
    "failures.on_nan=clip",
    f"proxy.tasks=[{','.join(TASKS)}]",
    "criterion=first_crossing",
    "criterion.target=0.05",
    "references.initial=5",
    "references.max=0",
    "variance.seeds=2",
    "variance.min_seeds=2",
    "variance.on_failure=warn",
    "proxy_search.policy=sequential",
    "proxy_search.early_stop_if_not_best=false",
    "confirm.fresh_models=5",
    "study=everything",
)
SMALL = (
    # After so few steps all models may have the accuracy of chance, and losses differ more by seed than by model.
    "metric=loss",
    "variance.enabled=false",
    "confirm.allow_identical=true",  # the constant schedule of a task may win
    "data.loader.train_size=64",
    "data.loader.valid_size=32",
    "trainer.batch_size=16",
    "training.micro_batch=8",
    "training.total_steps=4",
    "training.check_every_steps=2",
    "confirm.fresh_models=0",
)


def check_everything(folder: FolderStudyStore) -> None:
    """Check the results of all stages, and that every proxy task trained with its settings."""
    selection = read_selection(folder)
    assert selection is not None
    assert len(selection.references or ()) == 5
    tasks = read_tasks(folder)
    assert set(tasks) == set(re.findall(r"name: (\w+)", " ".join(TASKS)))
    assert all(task.stopping_state is not None for task in tasks.values())
    store = folder.trials

    def trained(name: str, what: str) -> set[object]:
        return {store.spec(key).recipe.trainer[what] for key in tasks[name].keys}

    assert trained("cropped", "smoothing") == {"swa"}
    assert trained("small_batch", "optimizer") == {"lamb"}
    assert {store.spec(key).devices for key in tasks["two_devices"].keys} == {2}
    compound = store.spec(tasks["compound"].keys[0]).proxy_task
    assert (compound.width, compound.depth, compound.image_size) == (0.8264, 0.6944, 0.7561)
    assert compound.augmentation == compound.regularisation < 1
    hot = [store.read(key) for key in tasks["too_hot"].keys]
    assert {by.cause for record in hot for by in record.retries} == {Cause.NAN}, "each was retried, with clipping"
    others = {key for name, task in tasks.items() if name != "too_hot" for key in task.keys}
    assert all(store.read(key).status.state in (State.DONE, State.PAUSED) for key in others)
    page = (folder.path / "report" / "index.html").read_text()
    assert all(name in page for name in tasks)


@pytest.mark.slow
def test_a_small_study_of_mnasnet_completes_all_stages_with_all_features(tmp_path: Path) -> None:
    code, output = cli.run(*EVERYTHING, *SMALL, folder=tmp_path, seconds=900)
    assert code == 0, output
    check_everything(FolderStudyStore(tmp_path / "everything"))


@pytest.mark.slow
def test_a_study_of_mnasnet_completes_all_stages_with_all_features(tmp_path: Path) -> None:
    steps = ("training.total_steps=40", "training.check_every_steps=10")
    code, output = cli.run(*EVERYTHING, *steps, folder=tmp_path, seconds=1500)
    assert code == 0, output
    folder = FolderStudyStore(tmp_path / "everything")
    check_everything(folder)
    variance = folder.read("variance/state", VarianceState)
    assert variance is not None
    assert variance.result is not None
    assert read_confirmations(folder)
    curves = [path.read_text().splitlines() for path in folder.trials.glob("*/metrics.jsonl")]
    assert all(json.loads(line)["train_seconds"] > 0 for curve in curves for line in curve)


@pytest.mark.slow
def test_schedules_of_mnasnet_are_compared(tmp_path: Path) -> None:
    steps = ("training.total_steps=40", "training.check_every_steps=10", "compare_schedules.smoothing=[none,ema,swa]")
    code, output = cli.run("experiment=mnasnet", "job=compare_schedules", *steps, folder=tmp_path, seconds=1500)
    assert code == 0, output
    assert output.count("(0.") == 9, "a late change for each of three schedules with three smoothings"
    assert (tmp_path / "mnasnet" / "report" / "schedules.png").exists()
