"""Both trainers on image files: equal checks with and without pauses, and in both trainers."""

import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.cli import conf
from nasproxy.data import generated
from nasproxy.errors import ConfigError, DataError
from nasproxy.execution.worker.preflight import preflight
from nasproxy.trials.identity import list_arguments
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.spec import TrialSpec
from tests.trainers.tiny_trials import TRAINERS, TinyTrial, curve, tiny_trial, train, weights

both = pytest.mark.parametrize("trainer", list(TRAINERS))
LOADER: dict[str, Any] = {
    "_target_": "nasproxy.data.generated.load_folder",
    "images": 24,
    "classes": 3,
    "image_size_px": 8,
    "policy": "trivial",
    "identity_exclude": ["cache_dir", "num_workers"],
}
RANDOM = {"batch_size": 8, "flip": True, "erase": 0.5, "mixup": 0.2}


class FolderTrial(TinyTrial):
    """A trial on 18 image files, so that an epoch ends inside a batch."""

    def load_data(self) -> Any:
        return super(TinyTrial, self).load_data()

    def build_model(self, data: Any) -> torch.nn.Module:
        model = super().build_model(data)
        model[0] = torch.nn.Conv2d(3, 4, 3, bias=False)
        return model


def folder_trial(folder: Path, images: Path, *, num_workers: int = 0, task: ProxyTask | None = None) -> FolderTrial:
    loader = {**LOADER, "cache_dir": str(images), "num_workers": num_workers}
    data = {"loader": loader, "holdout_fraction": 0.25, "order_seed": 0, "balance": "proportional"}
    arguments = {key: value for key, value in list_arguments(loader).items() if key != "_target_"}
    fingerprint = generated.load_folder(**arguments).fingerprint
    trial = tiny_trial(folder, kind=FolderTrial, task=task, total_steps=8, check_every_steps=3)
    recipe = replace(trial.spec.recipe, data=data, data_fingerprint=fingerprint)
    return replace(trial, spec=replace(trial.spec, recipe=recipe))


def same(left: FolderTrial, right: FolderTrial) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(left), weights(right), strict=True))


@both
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_trial_is_bit_equal_to_an_uninterrupted_one(tmp_path: Path, trainer: str, num_workers: int) -> None:
    whole = folder_trial(tmp_path / "whole", tmp_path / "images")
    parts = folder_trial(tmp_path / "parts", tmp_path / "images", num_workers=num_workers)
    assert whole.spec.key == parts.spec.key
    checks = train(whole, trainer, **RANDOM)
    for until in (1, 4, None):
        paused = train(parts, trainer, until, **RANDOM)
    assert curve(paused) == curve(checks)
    assert [check.step for check in checks] == [3, 6, 8]
    assert same(parts, whole)


def test_lightning_and_the_plain_loop_are_bit_equal(tmp_path: Path) -> None:
    trials = {name: folder_trial(tmp_path / name, tmp_path / "images") for name in TRAINERS}
    lightning, plain = (curve(train(trial, name, **RANDOM)) for name, trial in trials.items())
    assert lightning == plain
    assert same(*trials.values())


@both
def test_no_process_that_reads_images_outlives_its_trial(tmp_path: Path, trainer: str) -> None:
    train(folder_trial(tmp_path / "trial", tmp_path / "images", num_workers=1), trainer, until=3, **RANDOM)
    assert multiprocessing.active_children() == []


@both
def test_a_broken_image_ends_its_trial_with_its_path(tmp_path: Path, trainer: str) -> None:
    trial = folder_trial(tmp_path / "trial", tmp_path / "images")
    broken = sorted((tmp_path / "images").rglob("train/*/*.png"))[0]
    broken.write_bytes(b"\0" * broken.stat().st_size)
    with pytest.raises(DataError, match=rf"{broken} must be a readable image"):
        train(trial, trainer, **RANDOM)


def test_the_proxy_task_scales_image_and_data(tmp_path: Path) -> None:
    task = ProxyTask(data_fraction=0.5, image_size=0.75, image_mode="crop")
    data = folder_trial(tmp_path / "trial", tmp_path / "images", task=task).load_data()
    assert (len(data.train_paths), len(data.valid_paths), data.image_shape) == (9, 6, (3, 6, 6))


def spread(images: Path, devices: int, task: ProxyTask | None = None, **settings: Any) -> TrialSpec:
    """Make a trial on several devices, as a study does."""
    spec = folder_trial(images, images, task=task).spec
    node = {**conf("trainer/plain_pytorch"), "mixup": 0.2, **settings}
    model = {"_target_": "helpers.several_devices.colours"}
    return replace(spec, recipe=replace(spec.recipe, trainer=node, devices=devices, model=model))


@pytest.mark.parametrize(
    ("devices", "batch_size", "problem"),
    [
        (2, 6, r"an even number of images on every device, got 3 with trainer\.batch_size 6"),
        (7, 14, r"every device of a trial needs a validation image, got 6 images on 7"),
    ],
)
def test_images_that_cannot_be_split_over_devices_are_refused_before_training(
    tmp_path: Path, devices: int, batch_size: int, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        preflight([spread(tmp_path, devices, batch_size=batch_size)])


def test_a_proxy_task_of_smaller_batches_can_be_mixed_on_every_device(tmp_path: Path) -> None:
    preflight([spread(tmp_path, 2, ProxyTask(batch_size=0.5), batch_size=12)])
