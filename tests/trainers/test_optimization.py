import random
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

from helpers.cli import conf, digits_spec
from nasproxy.data.dataset import ImageSplit
from nasproxy.errors import ConfigError
from nasproxy.execution.worker.context import get_trainer_arguments
from nasproxy.execution.worker.preflight import preflight
from nasproxy.trainers import optimization
from nasproxy.trainers.batch_augmentation import flip_images, shift_images
from nasproxy.trainers.image_arrays import ImageArrays
from nasproxy.trainers.settings import list_optimizers
from nasproxy.trainers.shards import slice_validation
from nasproxy.trials.proxy_task import ProxyTask

CPU = torch.device("cpu")


def settings(**changes: Any) -> optimization.ClassifierSettings:
    given = {"batch_size": 4, "learning_rate": 0.1, "weight_decay": 0.01, "momentum": 0.9}
    return optimization.ClassifierSettings(**{**given, "optimizer": "sgd", "schedule": "cosine", **changes})


def images(*, rank: int = 0, world_size: int = 1, **changes: Any) -> ImageArrays:
    labels = np.arange(10)
    pixels = np.broadcast_to(labels[:, None, None, None], (10, 1, 4, 4)).astype(np.float32) + 1
    split = ImageSplit(pixels, labels, pixels, labels, num_classes=10)
    return ImageArrays(split, settings(**changes), seed=3, device=CPU, rank=rank, world_size=world_size)


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
        ("batch_size", 5, "even with mixup or cutmix"),
        ("optimizer", "adem", "one of adabelief, .*, adamw, .*"),
        ("optimizer", "bnbadam", "one of adabelief, .*"),
        ("schedule", "steps", "cosine or step or constant"),
        ("warmup_fraction", 1.0, r"in \[0, 1\)"),
        ("final_rate_fraction", -0.1, r"in \[0, 1\]"),
        ("decay_every_fraction", 0.0, r"in \(0, 1\]"),
        ("decay_rate", 0.0, r"in \(0, 1\]"),
        ("smoothing", "ewa", "none or ema or swa"),
        ("smoothing_decay", 1.0, r"in \(0, 1\)"),
        ("smoothing_start_fraction", 1.0, r"in \[0, 1\)"),
        ("mixup", -1.0, "at least 0"),
        ("cutmix", -1.0, "at least 0"),
        ("erase", 1.1, r"in \[0, 1\]"),
        ("label_smoothing", 1.0, r"in \[0, 1\)"),
        ("shift_px", -1, "at least 0"),
        ("clip_norm", 0.0, "above 0 or null"),
    ],
)
def test_a_setting_out_of_range_is_refused(name: str, value: Any, needed: str) -> None:
    with pytest.raises(ConfigError, match=f"trainer.{name} must be {needed}, got {value}"):
        settings(**{"mixup": 0.2, name: value} if name == "batch_size" else {name: value})


def test_a_proxy_task_scales_the_settings() -> None:
    task = ProxyTask(regularisation=0.5, augmentation=2.0, image_size=0.5)
    scaled = settings(shift_px=3).under(task)
    assert (scaled.weight_decay, scaled.shift_px) == (0.005, 3)
    cropped = settings(shift_px=3).under(ProxyTask(image_size=0.5, image_mode="crop"))
    assert cropped.shift_px == 3, "a crop does not change the size of pixels"


def test_a_proxy_task_scales_every_augmentation() -> None:
    given = settings(mixup=0.2, cutmix=1.0, flip=True, erase=0.6)
    half = given.under(ProxyTask(augmentation=0.5))
    assert (half.mixup, half.cutmix, half.flip, half.erase) == (0.1, 0.5, True, 0.3)
    none = given.under(ProxyTask(augmentation=0.0))
    assert (none.mixup, none.cutmix, none.flip, none.erase, none.mixes) == (0.0, 0.0, False, 0.0, False)
    assert given.under(ProxyTask(augmentation=2.0)).erase == 1.0


def test_a_mixed_batch_stays_even_under_every_proxy_task() -> None:
    assert settings(batch_size=6, mixup=0.2).under(ProxyTask(batch_size=0.5)).batch_size == 4
    assert settings(batch_size=6, mixup=0.2).under(ProxyTask(batch_size=0.1)).batch_size == 2
    assert settings(batch_size=6).under(ProxyTask(batch_size=0.5)).batch_size == 3
    assert settings(batch_size=24, mixup=0.2).under(ProxyTask(batch_size=0.5), devices=4).batch_size == 16
    assert settings(batch_size=6, mixup=0.2).under(ProxyTask(), devices=4).batch_size == 6, "it is left as it is"


@pytest.mark.parametrize(("share", "batch_size"), [(0.5, 16), (0.1, 8), (1.0, 24)])
def test_the_learning_rate_scales_with_the_batch_size(share: float, batch_size: int) -> None:
    given = settings(batch_size=24, mixup=0.2, learning_rate=0.6)
    taken = given.under(ProxyTask(batch_size=share), devices=4)
    assert (taken.batch_size, taken.learning_rate) == (batch_size, pytest.approx(0.6 * batch_size / 24))


def rates(total: int, **changes: Any) -> list[float]:
    """Return the learning rate of each step, queried in reverse, since it depends on the step only."""
    given = settings(**changes)
    optimizer = optimization.make_optimizer(net(), given)
    schedule = optimization.make_schedule(optimizer, given, total)
    found = []
    for step in reversed(range(total)):
        schedule.step_update(step)
        assert len({group["lr"] for group in optimizer.param_groups}) == 1
        found.append(optimizer.param_groups[0]["lr"])
    return found[::-1]


def test_the_learning_rate_warms_up_then_decays_along_a_cosine() -> None:
    found = rates(11, warmup_fraction=0.27)
    np.testing.assert_allclose(found[:4], [0.025, 0.05, 0.075, 0.1])
    np.testing.assert_allclose([found[7], found[10]], [0.05, 0.05 * (1 + np.cos(np.pi * 7 / 8))])
    assert rates(1000, final_rate_fraction=0.2)[-1] == pytest.approx(0.02, rel=1e-3)


def test_the_learning_rate_drops_at_fractions_of_the_whole_training() -> None:
    found = rates(10, schedule="step", decay_every_fraction=0.4, decay_rate=0.5, warmup_fraction=0.1)
    np.testing.assert_allclose(found, [0.05, *[0.1] * 3, *[0.05] * 4, *[0.025] * 2])


def test_a_constant_learning_rate_does_not_change_after_warm_up() -> None:
    assert set(rates(10, schedule="constant")) == {0.1}
    assert rates(10, schedule="constant", warmup_fraction=0.1) == [0.05, *[0.1] * 9]


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
def test_the_schedule_scales_with_the_number_of_steps(schedule: Any) -> None:
    given = {"schedule": schedule, "warmup_fraction": 0.1, "decay_every_fraction": 0.3}
    np.testing.assert_allclose(rates(4000, **given)[::2], rates(2000, **given), atol=3e-4)


@pytest.mark.parametrize("name", ["sgd", "adamw", "rmsproptf", "lamb"])
def test_only_weights_decay(name: str) -> None:
    groups = optimization.make_optimizer(net(), settings(optimizer=name)).param_groups
    assert {tuple(p.ndim for p in group["params"]): group["weight_decay"] for group in groups} == {
        (4, 2): 0.01,
        (1, 1, 1, 1): 0.0,
    }


def test_sgd_uses_nesterov_if_it_has_momentum() -> None:
    for momentum in (0.0, 0.9):
        (group, *_) = optimization.make_optimizer(net(), settings(momentum=momentum)).param_groups
        assert (group["momentum"], group["nesterov"]) == (momentum, momentum > 0)


def test_momentum_is_the_first_beta_and_options_reach_the_optimizer() -> None:
    (group, *_) = optimization.make_optimizer(net(), settings(optimizer="adamw", momentum=0.8)).param_groups
    assert group["betas"] == (0.8, 0.999)
    (group, *_) = optimization.make_optimizer(
        net(), settings(optimizer="rmsproptf", optimizer_options={"eps": 0.001})
    ).param_groups
    assert (group["eps"], group["momentum"]) == (0.001, 0.9)
    with pytest.raises(ConfigError, match=r"must be arguments of timm's sgd, got {'colour': 1}"):
        optimization.make_optimizer(net(), settings(optimizer_options={"colour": 1}))


@pytest.mark.parametrize("name", list_optimizers())
def test_every_optimizer_resumes_exactly_from_its_state(name: str) -> None:
    def steps(model: nn.Module, optimizer: torch.optim.Optimizer, numbers: range) -> None:
        for number in numbers:
            torch.manual_seed(number)
            optimizer.zero_grad()
            model(torch.randn(4, 1, 4, 4)).square().mean().backward()
            optimizer.step()

    given = settings(optimizer=name, learning_rate=0.01)
    whole, first = net(), net()
    steps(whole, optimization.make_optimizer(whole, given), range(6))
    paused = optimization.make_optimizer(first, given)
    steps(first, paused, range(3))
    second = net()
    second.load_state_dict(first.state_dict())
    resumed = optimization.make_optimizer(second, given)
    resumed.load_state_dict(paused.state_dict())
    steps(second, resumed, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))


EVERY_AUGMENTATION = {"shift_px": 1, "flip": True, "erase": 0.9, "mixup": 0.4, "cutmix": 1.0}


def test_a_batch_depends_on_its_step_only() -> None:
    left, right = images(**EVERY_AUGMENTATION), images(**EVERY_AUGMENTATION)
    for step in range(7):
        left.batch(step)
    torch.manual_seed(99)
    np.random.seed(99)
    random.seed(99)
    for a, b in zip(left.batch(7), right.batch(7), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(torch.rand(3), (right.batch(7), torch.rand(3))[1]), "dropout depends on the step"
    assert not torch.equal(left.batch(7)[1], left.batch(8)[1])
    for batch, step in zip(left.batches(3, 6), (3, 4, 5), strict=True):
        assert torch.equal(batch[1], right.batch(step)[1])


def test_ranks_partition_a_batch_and_the_validation_images() -> None:
    whole = images(batch_size=8, **EVERY_AUGMENTATION)
    parts = [images(rank=rank, world_size=3, batch_size=8, **EVERY_AUGMENTATION) for rank in range(3)]
    for step in range(3):
        batches = [part.batch(step) for part in parts]
        assert [len(labels) for _, labels in batches] == [2, 3, 3]
        for joined, at_once in zip(zip(*batches, strict=True), whole.batch(step), strict=True):
            assert torch.equal(torch.cat(joined), at_once), "augmented as on one device"
    scored = torch.cat([labels for part in parts for _, labels in part.validation()])
    assert torch.equal(scored, torch.arange(10))
    with pytest.raises(
        ConfigError, match="every device of a trial needs a validation image, got 2 images on 3 devices"
    ):
        slice_validation(2, 0, 3)


def test_a_mixed_label_has_the_shares_of_its_images() -> None:
    pixels, shares = images(mixup=1.0).batch(0)
    assert shares.shape == (4, 10)
    torch.testing.assert_close(shares.sum(1), torch.ones(4))
    torch.testing.assert_close(pixels.mean(dim=(1, 2, 3)), (shares * (torch.arange(10) + 1.0)).sum(1))
    pixels, shares = images(cutmix=1.0).batch(3)
    torch.testing.assert_close(pixels.mean(dim=(1, 2, 3)), (shares * (torch.arange(10) + 1.0)).sum(1))
    assert len(pixels[0].unique()) == 2, "a box of another image"


def test_about_half_of_the_images_are_flipped() -> None:
    torch.manual_seed(0)
    image = torch.arange(4.0).reshape(1, 1, 2, 2)
    found = flip_images(image.repeat(200, 1, 1, 1))
    is_mirrored = (found == image.flip(3)).all(dim=(1, 2, 3))
    assert ((found == image).all(dim=(1, 2, 3)) ^ is_mirrored).all()
    assert 70 < is_mirrored.sum() < 130


def test_erasing_sets_a_box_to_0() -> None:
    pixels, _ = images(erase=1.0).batch(0)
    assert (pixels == 0).any(dim=3).any(dim=2).any(dim=1).sum() >= 2
    assert ((pixels == 0).sum(dim=(1, 2, 3)) <= 6).all()


def test_images_keep_their_labels() -> None:
    pixels, labels = images().batch(0)
    assert torch.equal(pixels[:, 0, 0, 0], labels + 1.0)
    parts = list(images().validation())
    assert torch.equal(torch.cat([labels for _, labels in parts]), torch.arange(10))
    assert len(parts) == images().validation_batches


def test_a_shift_moves_the_whole_image_and_fills_with_0() -> None:
    torch.manual_seed(0)
    image = torch.arange(1.0, 26.0).reshape(1, 1, 5, 5)
    moved = shift_images(image.repeat(200, 2, 1, 1), 2)
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
        loss = optimization.add_gradients(model, batch, settings(), micro_batch=size, backward=torch.autograd.backward)
        found.append((loss, model[1].weight.grad.clone()))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(
    ("count", "micro_batch", "parts"), [(36, 7, [6] * 6), (5, 2, [3, 2]), (3, 2, [3]), (3, 1, [1] * 3), (1, 4, [1])]
)
def test_no_micro_batch_has_a_single_image_unless_requested(count: int, micro_batch: int, parts: list[int]) -> None:
    seen: list[int] = []
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 10))
    model.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    batch = torch.zeros(count, 1, 4, 4), torch.zeros(count, dtype=torch.long)
    given = settings(batch_size=count)
    optimization.add_gradients(model, batch, given, micro_batch=micro_batch, backward=torch.autograd.backward)
    assert seen == parts


def test_gradients_are_clipped_after_accumulation() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 10))
    optimization.add_gradients(
        model, images().batch(0), settings(clip_norm=0.5), micro_batch=3, backward=torch.autograd.backward
    )
    norm = torch.stack([parameter.grad.norm() for parameter in model.parameters()]).norm()
    torch.testing.assert_close(norm, torch.tensor(0.5))


def test_clipping_accounts_for_the_loss_scale() -> None:
    found = []
    for scale in (1.0, 64.0):
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 10, bias=False))
        nn.init.ones_(model[1].weight)
        optimization.add_gradients(
            model,
            images().batch(0),
            settings(clip_norm=0.5),
            micro_batch=None,
            backward=lambda loss, scale=scale: (scale * loss).backward(),
            scale=lambda scale=scale: scale,
        )
        found.append(model[1].weight.grad / scale)
    torch.testing.assert_close(*found)


def test_parts_of_a_batch_on_several_devices_average_to_its_gradient() -> None:
    given = settings(batch_size=5)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 10))
    gradients = []
    for rank, world_size in ((0, 1), (0, 3), (1, 3), (2, 3)):
        model.zero_grad()
        optimization.add_gradients(
            model,
            images(batch_size=5, rank=rank, world_size=world_size).batch(0),
            given,
            micro_batch=1,
            backward=torch.autograd.backward,
            world_size=world_size,
        )
        gradients.append(model[1].weight.grad.clone())
    torch.testing.assert_close(torch.stack(gradients[1:]).mean(0), gradients[0])


def test_gradients_are_averaged_with_the_last_micro_batch_only() -> None:
    said: list[str] = []

    @contextmanager
    def no_sync() -> Iterator[None]:
        said.append("held")
        yield
        said.append("free")

    def backward(loss: torch.Tensor) -> None:
        said.append("backward")

    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 10))
    optimization.add_gradients(model, images().batch(0), settings(), micro_batch=2, backward=backward, no_sync=no_sync)
    assert said == ["held", "backward", "free", "backward"]


def test_dropout_of_every_kind_is_scaled() -> None:
    from timm.layers import DropPath

    model = nn.Sequential(OrderedDict(a=nn.Dropout(0.2), b=DropPath(0.1), c=nn.Dropout2d(0.9), d=nn.Identity()))
    optimization.scale_dropout(model, 2.0)
    assert (model.a.p, model.b.drop_prob, model.c.p) == (0.4, 0.2, 0.95)


def test_all_dropout_rates_of_a_timm_model_are_scaled() -> None:
    from timm.layers import DropPath

    model = timm.create_model("mobilenetv3_small_050", drop_rate=0.3, drop_path_rate=0.2, num_classes=10)
    paths = [module for module in model.modules() if isinstance(module, DropPath)]
    before = [path.drop_prob for path in paths]
    assert max(before) > 0
    optimization.scale_dropout(model, 0.5)
    assert model.drop_rate == 0.15
    assert [path.drop_prob for path in paths] == [rate / 2 for rate in before]


@pytest.mark.parametrize(
    ("changes", "recipe_changes", "message"),
    [
        ({}, {"precision": "16-mixed"}, "16-mixed needs a GPU, got the CPU: choose bf16-mixed or 32-true"),
        ({}, {"precision": "64-true"}, "must be one of 32-true, bf16-mixed, 16-mixed, got 64-true"),
        ({"batch_size": 2}, {"devices": 3}, "an image for every device, got batch_size 2 on 3 devices"),
        ({"sync_batch_norm": True}, {"devices": 2}, "sync_batch_norm needs GPUs, got CPU cores"),
        (
            {"sync_batch_norm": True, "batch_size": 9},
            {"devices": 2, "device_type": "cuda"},
            "needs a batch_size that is a multiple of the number of devices, got 9 on 2 devices",
        ),
    ],
)
def test_incompatible_settings_are_refused_before_training(
    changes: dict[str, Any], recipe_changes: dict[str, Any], message: str
) -> None:
    node = {**conf("trainer/plain_pytorch"), **changes}
    with pytest.raises(ConfigError, match=message):
        preflight([digits_spec(ProxyTask(), trainer=node, **recipe_changes)])


@pytest.mark.parametrize("name", ["image_classifier", "plain_pytorch"])
def test_a_setting_out_of_range_is_refused_before_training(name: str) -> None:
    node = conf(f"trainer/{name}")
    preflight([digits_spec(ProxyTask(), trainer=node)])
    with pytest.raises(ConfigError, match=r"trainer.decay_rate must be in \(0, 1\], got 2"):
        preflight([digits_spec(ProxyTask(), trainer={**node, "decay_rate": 2.0})])
    with pytest.raises(ConfigError, match=r"trainer\.flip must be bool, got 'yes'"):
        preflight([digits_spec(ProxyTask(), trainer={**node, "flip": "yes"})])
    with pytest.raises(ConfigError, match=r"arguments of timm's adamw, got {'epsilon': 1}"):
        preflight([digits_spec(ProxyTask(), trainer={**node, "optimizer_options": {"epsilon": 1}})])


@pytest.mark.parametrize(
    ("changes", "is_felt"), [({}, False), ({"flip": True}, False), ({"shift_px": 2}, True), ({"mixup": 0.2}, True)]
)
def test_an_augmentation_strength_without_effect_gives_a_warning(changes: dict[str, Any], is_felt: bool) -> None:
    node = {**conf("trainer/plain_pytorch"), **changes}
    assert preflight([digits_spec(ProxyTask(), trainer=node)]) == []
    notes = preflight([digits_spec(ProxyTask(augmentation=0.5), trainer=node)])
    assert is_felt or "proxy.augmentation has no effect" in notes[0]
    assert len(notes) == (not is_felt)


@pytest.mark.parametrize("name", ["image_classifier", "plain_pytorch"])
def test_the_configuration_names_every_setting_at_its_default(name: str) -> None:
    node = get_trainer_arguments(conf(f"trainer/{name}"))
    needed = ("batch_size", "optimizer", "learning_rate", "weight_decay", "momentum", "schedule")
    assert optimization.ClassifierSettings(**node) == optimization.ClassifierSettings(
        **{key: node[key] for key in needed}
    )
    assert set(node) == {field.name for field in fields(optimization.ClassifierSettings)}


def test_a_batch_has_accuracy_and_loss_and_both_are_nan_if_logits_are_not_finite() -> None:
    batch = (4 * torch.eye(4), torch.tensor([0, 1, 2, 0]))
    metrics = optimization.read_totals(2 * optimization.measure_batch(nn.Identity(), batch))
    assert metrics == {"accuracy": 0.75, "loss": pytest.approx(float(nn.functional.cross_entropy(*batch)))}
    worst = optimization.measure_batch(nn.Identity(), (batch[0] * torch.nan, batch[1]))
    assert torch.isnan(worst).tolist() == [True, True, False]
