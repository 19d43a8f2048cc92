"""The ImageNet example of the docs: its numbers, and a complete study in debug size."""

from pathlib import Path

import pytest

from helpers import cli
from nasproxy.data.dataset import size_subset
from nasproxy.stages.confirmation.state import read_confirmations
from nasproxy.stages.proxy_search.state import read_tasks
from nasproxy.stages.references.state import read_selection
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.trials.records import State

DEBUG = ("experiment=imagenet_mnasnet_debug",)
TRAIN_IMAGES = 1_281_167


def test_the_numbers_of_the_example_match_the_docs() -> None:
    example = cli.conf("experiment/imagenet_mnasnet")
    training, trainer = example["training"], example["trainer"]
    assert round(trainer["warmup_fraction"] * training["total_steps"]) == 6256
    assert training["total_steps"] == 350 * (TRAIN_IMAGES // trainer["batch_size"])
    assert example["proxy_search"]["train_seconds_limit"] == 3 * 3600
    assert size_subset(TRAIN_IMAGES, example["data"]["holdout_fraction"]) == 64_058
    searched = TRAIN_IMAGES - 64_058
    for fraction in example["proxy"]["data_fraction"]:
        assert abs(size_subset(searched, fraction) - fraction * searched) <= 0.5


def test_a_missing_image_folder_is_reported_before_anything_starts(tmp_path: Path) -> None:
    code, output = cli.run("experiment=imagenet_mnasnet", folder=tmp_path)
    assert code == 2
    assert "data.loader.root must be given: add data.loader.root=VALUE" in output
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_debug_version_runs_all_stages_on_two_devices_per_training(tmp_path: Path) -> None:
    cache = f"data.loader.cache_dir={tmp_path / 'images'}"
    code, output = cli.run(*DEBUG, cache, folder=tmp_path, seconds=600)
    assert code == 0, output
    folder = FolderStudyStore(tmp_path / "imagenet_mnasnet_debug")
    selected = read_selection(folder)
    assert selected is not None
    assert len(selected.references or ()) == 5
    assert set(read_tasks(folder)) == {"data50", "data95"}
    assert len(read_confirmations(folder)) == 1
    assert (folder.path / "report" / "index.html").exists()
    store = folder.trials
    states = {store.read(key).status.state for key in store.keys()}
    assert states <= {State.DONE, State.PAUSED}
    assert {store.spec(key).devices for key in store.keys()} == {2}
    assert len(list((tmp_path / "images").rglob("*.png"))) == 24
