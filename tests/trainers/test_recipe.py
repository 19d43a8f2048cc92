from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nasproxy.data.dataset import ImageSplit
from nasproxy.errors import ConfigError
from nasproxy.proxy import ProxyTask
from trainers import recipe

CPU = torch.device("cpu")


def settings(**changes: Any) -> recipe.Settings:
    given = {"batch_size": 4, "learning_rate": 0.1, "weight_decay": 0.01, "momentum": 0.9}
    return recipe.Settings(**{**given, "optimizer": "sgd", "schedule": "cosine", **changes})


def images(**changes: Any) -> recipe.Images:
    labels = np.arange(10)
    pixels = np.broadcast_to(labels[:, None, None, None], (10, 1, 4, 4)).astype(np.float32) + 1
    split = ImageSplit(pixels, labels, pixels, labels, num_classes=10)
    return recipe.Images(split, settings(**changes), seed=3, device=CPU)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 10))


@pytest.mark.parametrize(
    ("name", "value", "needed"),
    [
        ("batch_size", 0, "at least 1"),
        ("learning_rate", 0.0, "above 0"),
        ("weight_decay", -1.0, "at least 0"),
        ("momentum", 1.0, r"in \[0, 1\)"),
        ("optimizer", "adam", "sgd or adamw"),
        ("schedule", "step", "cosine or constant"),
        ("warmup_steps", -1, "at least 0"),
        ("label_smoothing", 1.0, r"in \[0, 1\)"),
        ("shift_px", -1, "at least 0"),
        ("clip_norm", 0.0, "above 0 or null"),
    ],
)
def test_a_setting_out_of_range_is_refused(name: str, value: Any, needed: str) -> None:
    with pytest.raises(ConfigError, match=f"trainer.{name} must be {needed}, got {value}"):
        settings(**{name: value})


def test_a_proxy_task_scales_the_settings() -> None:
    task = ProxyTask(regularisation=0.5, augmentation=2.0, image_size=0.5)
    scaled = settings(shift_px=3).under(task)
    assert (scaled.weight_decay, scaled.shift_px) == (0.005, 3)
    cropped = settings(shift_px=3).under(ProxyTask(image_size=0.5, image_mode="crop"))
    assert cropped.shift_px == 3, "a crop leaves the pixels as large as they were"


def test_the_learning_rate_rises_then_falls_along_a_cosine() -> None:
    rates = [recipe.learning_rate(settings(warmup_steps=3), step, 11) for step in range(12)]
    np.testing.assert_allclose(rates[:4], [0.025, 0.05, 0.075, 0.1])
    np.testing.assert_allclose([rates[7], rates[11]], [0.05, 0.0], atol=1e-12)


def test_a_constant_learning_rate_stays() -> None:
    assert {recipe.learning_rate(settings(schedule="constant"), step, 10) for step in range(10)} == {0.1}


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_only_weights_decay(name: Any) -> None:
    decayed, spared = recipe.make_optimizer(net(), settings(optimizer=name)).param_groups
    assert [parameter.ndim for parameter in decayed["params"]] == [4, 2]
    assert [parameter.ndim for parameter in spared["params"]] == [1, 1, 1, 1]
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.01, 0.0)


def test_a_batch_depends_on_its_step_alone() -> None:
    left, right = images(shift_px=1), images(shift_px=1)
    for step in range(7):
        left.batch(step)
    torch.manual_seed(99)
    for a, b in zip(left.batch(7), right.batch(7), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(torch.rand(3), (right.batch(7), torch.rand(3))[1]), "dropout too draws by step"
    assert not torch.equal(left.batch(7)[1], left.batch(8)[1])


def test_images_keep_their_labels() -> None:
    pixels, labels = images().batch(0)
    assert torch.equal(pixels[:, 0, 0, 0], labels + 1.0)
    parts = list(images().validation())
    assert torch.equal(torch.cat([labels for _, labels in parts]), torch.arange(10))
    assert len(parts) == images().validation_batches


def test_a_shift_moves_the_whole_image_and_fills_with_0() -> None:
    torch.manual_seed(0)
    image = torch.arange(1.0, 26.0).reshape(1, 1, 5, 5)
    moved = recipe.shifted(image.repeat(200, 2, 1, 1), 2)
    assert moved.shape == (200, 2, 5, 5)
    assert torch.equal(moved[:, 0], moved[:, 1])
    padded = nn.functional.pad(image, (2, 2, 2, 2))[0, 0]
    places = {tuple(padded[y : y + 5, x : x + 5].flatten().tolist()) for y in range(5) for x in range(5)}
    assert {tuple(one.flatten().tolist()) for one in moved[:, 0]} == places, "every shift, and nothing else"


def test_gradients_of_micro_batches_add_up_to_those_of_the_batch() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 10))
    batch = images().batch(0)
    found = []
    for size in (None, 3):
        model.zero_grad()
        loss = recipe.add_gradients(model, batch, settings(), micro_batch=size, backward=torch.autograd.backward)
        found.append((loss, model[1].weight.grad.clone()))
    torch.testing.assert_close(*found)


def test_gradients_are_clipped_once_they_are_whole() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 10))
    recipe.add_gradients(
        model, images().batch(0), settings(clip_norm=0.5), micro_batch=3, backward=torch.autograd.backward
    )
    norm = torch.stack([parameter.grad.norm() for parameter in model.parameters()]).norm()
    torch.testing.assert_close(norm, torch.tensor(0.5))


def test_dropout_of_every_kind_is_scaled() -> None:
    from timm.layers import DropPath

    model = nn.Sequential(OrderedDict(a=nn.Dropout(0.2), b=DropPath(0.1), c=nn.Dropout2d(0.9), d=nn.Identity()))
    recipe.scale_dropout(model, 2.0)
    assert (model.a.p, model.b.drop_prob, model.c.p) == (0.4, 0.2, 0.95)


def test_hits_are_counted_and_are_no_number_where_the_scores_are_none() -> None:
    batch = (torch.eye(4), torch.tensor([0, 1, 2, 0]))
    assert recipe.hits(nn.Identity(), batch) == 3
    assert torch.isnan(recipe.hits(nn.Identity(), (batch[0] * torch.nan, batch[1])))
