"""Effect of every dimension of a proxy task on a real training of a tiny model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from helpers.cli import conf, digits_spec
from nasproxy.data.dataset import ImageSplit
from nasproxy.execution.worker.context import TrialContext, get_trainer_arguments
from nasproxy.execution.worker.preflight import preflight
from nasproxy.storage.trial_files import read_checks
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.trainers import plain_pytorch
from nasproxy.trials.grid import span_grid
from nasproxy.trials.proxy_task import ProxyTask

TWO_LAYERS = {
    "activation": "relu",
    "pool": "avg",
    "stem.kernel": 3,
    "stage1.channels": 16,
    "stage1.repeats": 2,
    "stage1.dilation": 1,
    "stage2.channels": 32,
    "stage2.repeats": 2,
    "stage2.dilation": 1,
}
MODEL = conf("search_space/digits_cnn")["model"]
HALF_IMAGE_PX = 12
STEPS = 4


class SeenTrial(TrialContext):
    """A trial that records its model and the shapes of training batches."""

    def build_model(self, data: ImageSplit) -> nn.Module:
        model = super().build_model(data)
        self.seen["parameters"] = sum(parameter.numel() for parameter in model.parameters())
        self.seen["convolutions"] = sum(isinstance(module, nn.Conv2d) for module in model.modules())
        self.seen["images"] = len(data.train_images)
        model.register_forward_pre_hook(self._see)
        return model

    @property
    def seen(self) -> dict[str, Any]:
        return self.__dict__.setdefault("_seen", {})

    def _see(self, model: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        if model.training:
            self.seen["batch"] = tuple(arguments[0].shape)


def trained(
    folder: Path, task: ProxyTask, *, dropout: float = 0.4, **settings: Any
) -> tuple[dict[str, Any], list[Any]]:
    """Train one trial and return the recordings, scores and weights."""
    node = {**conf("trainer/plain_pytorch"), "shift_px": 2, **settings}
    recipe = {"trainer": node, "total_steps": STEPS, "check_every_steps": 2, "model": {**MODEL, "dropout": dropout}}
    spec = replace(digits_spec(task, **recipe), architecture=TWO_LAYERS)
    trial = SeenTrial(folder, spec)
    preflight([spec])
    plain_pytorch.train(trial, **get_trainer_arguments(node))
    checks = read_checks(TrialFolder(folder).metrics)
    assert [check.step for check in checks] == [2, STEPS]
    weights = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["model"]
    return trial.seen, [*(check.score for check in checks), *(weight.tolist() for weight in weights.values())]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return trained(tmp_path_factory.mktemp("full"), ProxyTask())[0]


def test_width_reduces_parameters_and_keeps_layers(tmp_path: Path, full: dict[str, Any]) -> None:
    seen, _ = trained(tmp_path, ProxyTask(width=0.5))
    assert seen["parameters"] < full["parameters"] / 2
    assert seen["convolutions"] == full["convolutions"]


def test_depth_reduces_layers(tmp_path: Path, full: dict[str, Any]) -> None:
    seen, _ = trained(tmp_path, ProxyTask(depth=0.5))
    assert seen["convolutions"] == full["convolutions"] - 2


@pytest.mark.parametrize("mode", ["resize", "crop"])
def test_image_size_reduces_tensors(tmp_path: Path, full: dict[str, Any], mode: Any) -> None:
    seen, _ = trained(tmp_path, ProxyTask(image_size=0.5, image_mode=mode))
    assert full["batch"][2:] == (2 * HALF_IMAGE_PX, 2 * HALF_IMAGE_PX)
    assert seen["batch"][2:] == (HALF_IMAGE_PX, HALF_IMAGE_PX)


def test_data_fraction_reduces_images(tmp_path: Path, full: dict[str, Any]) -> None:
    seen, _ = trained(tmp_path, ProxyTask(data_fraction=0.25))
    assert seen["images"] == pytest.approx(full["images"] / 4, rel=0.01)


def test_compound_scaling_changes_width_depth_and_image_size(tmp_path: Path, full: dict[str, Any]) -> None:
    (task,) = span_grid({"compound": -5}).values()
    seen, _ = trained(tmp_path, task)
    assert seen["parameters"] < full["parameters"]
    assert seen["convolutions"] < full["convolutions"]
    assert seen["batch"][2] < full["batch"][2]


def test_batch_size_changes_images_per_step_and_the_learning_rate(tmp_path: Path, full: dict[str, Any]) -> None:
    node = conf("trainer/plain_pytorch")
    by_task, curve = trained(tmp_path / "task", ProxyTask(batch_size=0.5))
    by_hand, same = trained(
        tmp_path / "hand", ProxyTask(), batch_size=node["batch_size"] // 2, learning_rate=node["learning_rate"] / 2
    )
    assert by_task["batch"][0] == by_hand["batch"][0] == full["batch"][0] / 2
    assert curve == same


def test_augmentation_scales_the_shift(tmp_path: Path) -> None:
    _, curve = trained(tmp_path / "task", ProxyTask(augmentation=0.5))
    _, same = trained(tmp_path / "hand", ProxyTask(), shift_px=1)
    _, other = trained(tmp_path / "full", ProxyTask())
    assert curve == same != other


def test_regularisation_that_follows_the_scale_reaches_decay_and_dropout(tmp_path: Path) -> None:
    (task,) = span_grid({"width": 0.5, "regularisation": "follow"}).values()
    decay = conf("trainer/plain_pytorch")["weight_decay"]
    by_hand = replace(task, regularisation=1.0)
    _, curve = trained(tmp_path / "task", task, dropout=0.4)
    _, same = trained(tmp_path / "hand", by_hand, dropout=0.2, weight_decay=decay / 2)
    _, other = trained(tmp_path / "decay", by_hand, dropout=0.4, weight_decay=decay / 2)
    assert curve == same != other


def test_devices_are_those_of_the_task_or_of_full_training() -> None:
    assert digits_spec(ProxyTask(devices=2)).devices == 2
    assert digits_spec(ProxyTask(), devices=4).devices == 4
    assert digits_spec(ProxyTask(devices=2)).key != digits_spec(ProxyTask()).key
