"""The embedded study's networks."""

import pytest
import torch
from torch import nn

from nasproxy.errors import ConfigError, SpaceError
from nasproxy.models.small_cnn import build

ARCHITECTURE = {
    "activation": "relu",
    "pool": "avg",
    "stem.kernel": 3,
    "stage1.channels": 16,
    "stage1.repeats": 2,
    "stage1.dilation": 1,
    "stage2.channels": 32,
    "stage2.repeats": 2,
    "stage2.dilation": 2,
}


def network(*, width=1.0, depth=1.0, dropout=0.0, **changes):
    return build(
        {**ARCHITECTURE, **changes},
        width=width,
        depth=depth,
        num_classes=10,
        channels=1,
        image_size_px=16,
        dropout=dropout,
    )


def weights(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("pool", ["avg", "max"])
@pytest.mark.parametrize("size", [7, 8, 16, 20])
def test_images_of_any_size_give_logits(pool, size):
    model = network(pool=pool)
    images = torch.randn(2, 1, size, size)
    assert model(images).shape == (2, 10)
    assert model.forward_head(model.forward_features(images)).shape == (2, 10)


def test_it_has_the_interface_of_a_timm_model():
    model = network()
    features = model.forward_features(torch.randn(2, 1, 16, 16))
    assert features.shape == (2, model.num_features, 4, 4)
    assert model.forward_head(features, pre_logits=True).shape == (2, model.num_features)
    assert isinstance(model.get_classifier(), nn.Linear)
    assert model.num_classes == model.get_classifier().out_features == 10


def test_width_and_depth_shrink_the_network():
    assert weights(network(width=0.5)) < 0.4 * weights(network())
    assert network(width=0.5).num_features == 16
    assert len(network(depth=0.5).stages) == 2
    assert len(network().stages) == 4


@pytest.mark.parametrize(
    ("choice", "value"), [("stage1.repeats", 3), ("stage2.repeats", 3), ("stage2.channels", 64), ("stem.kernel", 5)]
)
def test_some_choices_add_weights(choice, value):
    assert weights(network(**{choice: value})) > weights(network())


@pytest.mark.parametrize(
    ("choice", "value"),
    [
        ("activation", "silu"),
        ("activation", "tanh"),
        ("pool", "max"),
        ("stage1.dilation", 2),
        ("stage2.dilation", 1),
    ],
)
def test_other_choices_change_the_network_at_equal_weights(choice, value):
    images = torch.randn(2, 1, 16, 16)
    logits = []
    for changes in ({}, {choice: value}):
        torch.manual_seed(5)
        model = network(**changes)
        assert weights(model) == weights(network())
        logits.append(model(images))
    assert not torch.allclose(*logits)


def test_equal_seeds_give_equal_weights():
    models = []
    for _ in range(2):
        torch.manual_seed(5)
        models.append(network())
    for one, other in zip(models[0].state_dict().values(), models[1].state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_dropout_acts_in_training_only():
    model = network(dropout=0.5)
    images = torch.randn(8, 1, 16, 16)
    model.eval()
    assert torch.equal(model(images), model(images))
    model.train()
    assert not torch.equal(model(images), model(images))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "gelu"}, r"activation must be one of \('relu', 'silu', 'tanh'\), got 'gelu'"),
        ({"pool": "min"}, r"pool must be one of \('avg', 'max'\), got 'min'"),
        ({"stage2.dilation": 3}, "stage2.dilation must be one of .* got 3"),
        ({"stage1.channels": 0}, "stage1.channels must be a whole number of at least 1, got 0"),
        ({"stage1.repeats": 1.5}, "stage1.repeats must be a whole number of at least 1, got 1.5"),
        ({"stage1.repeats": True}, "stage1.repeats must be a whole number of at least 1, got True"),
        ({"stage3.channels": 8}, "small_cnn takes the choices .*, got 'stage3.channels' too"),
    ],
)
def test_an_architecture_that_cannot_be_built_is_refused(change, message):
    with pytest.raises(SpaceError, match=message):
        network(**change)


def test_a_missing_choice_is_named():
    without = {name: value for name, value in ARCHITECTURE.items() if name != "stage2.dilation"}
    with pytest.raises(SpaceError, match=r"small_cnn needs the choice 'stage2.dilation'"):
        build(without, width=1.0, depth=1.0, num_classes=10, channels=1, image_size_px=16)


def test_a_width_of_zero_is_refused():
    with pytest.raises(ConfigError, match="width must be a finite number above 0"):
        network(width=0.0)
