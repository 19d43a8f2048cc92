"""Common behaviour of the builders with timm blocks: published networks, scaling, dropout, initial weights."""

import pytest
import timm
import torch
from torch import nn

from helpers.networks import FULL, REFERENCES, shapes, weights
from nasproxy.errors import ConfigError
from nasproxy.models.complexity import count_flops, measure_complexity
from nasproxy.trainers.optimization import scale_dropout


@pytest.fixture(params=list(REFERENCES))
def build(request):
    builder, architecture, settings = REFERENCES[request.param]

    def network(**changes):
        return builder(architecture, **{**FULL, **settings, **changes})

    return network


@pytest.mark.parametrize("name", list(REFERENCES))
def test_the_space_contains_the_published_network(name):
    builder, architecture, settings = REFERENCES[name]
    built = builder(architecture, **{**FULL, "num_classes": 1000, **settings})
    published = timm.create_model(name)
    assert shapes(built) == shapes(published)
    assert count_flops(built, (3, 224, 224)) == count_flops(published, (3, 224, 224))


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (1, 31), (3, 32)])
def test_images_of_any_size_give_logits(build, channels, side):
    model = build(channels=channels, image_size_px=side, width=0.25, depth=0.5)
    assert model(torch.randn(2, channels, side, side)).shape == (2, 10)


def test_width_halves_the_channels_and_keeps_the_blocks(build):
    full, half = build(), build(width=0.5)
    assert half.num_features <= 0.51 * full.num_features
    assert half.conv_stem.out_channels == full.conv_stem.out_channels / 2
    assert [len(stage) for stage in half.blocks] == [len(stage) for stage in full.blocks]
    assert weights(half) < 0.45 * weights(full)


def test_depth_halves_the_blocks_and_keeps_the_channels(build):
    full, half = build(), build(depth=0.5)
    assert [len(stage) for stage in half.blocks] == [-(-len(stage) // 2) for stage in full.blocks]
    assert half.num_features == full.num_features
    double = build(depth=2.0)
    assert [len(stage) for stage in double.blocks][1:-1] == [2 * len(stage) for stage in full.blocks][1:-1]


def test_weights_are_equal_for_equal_seeds_only(build):
    states = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        states.append(build(width=0.25).state_dict())
    assert all(torch.equal(one, other) for one, other in zip(states[0].values(), states[1].values(), strict=True))
    assert not torch.equal(states[0]["conv_stem.weight"], states[2]["conv_stem.weight"])


def test_regularisation_scales_dropout_and_drop_path(build):
    model = build(width=0.25, dropout=0.2, drop_path=0.1)
    paths = [module.drop_prob for module in model.modules() if type(module).__name__ == "DropPath"]
    assert paths == sorted(paths)
    assert 0 < paths[0] < paths[-1] < 0.1
    scale_dropout(model, 0.5)
    assert [module.p for module in model.modules() if isinstance(module, nn.Dropout)] == [0.1]
    halved = [module.drop_prob for module in model.modules() if type(module).__name__ == "DropPath"]
    assert halved == pytest.approx([path / 2 for path in paths])


def test_dropout_acts_in_training_only(build):
    model, images = build(width=0.25, depth=0.5, dropout=0.5), torch.randn(4, 3, 16, 16)
    model.eval()
    assert torch.equal(model(images), model(images))
    model.classifier.train()
    assert not torch.equal(model(images), model(images))


def test_zero_cost_scores_are_counted(build):
    cost = measure_complexity(build(width=0.25, depth=0.5), (3, 32, 32))
    assert cost.flops > 0
    assert cost.synflow > 0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        ({"drop_path": -0.1}, r"drop_path must lie in \[0, 1\), got -0.1"),
        ({"width": 0.0}, "width must be a finite number above 0"),
        ({"depth": 0.0}, "depth must be a finite number above 0"),
        ({"divisor": 0}, "divisor must be a finite number above 0"),
    ],
)
def test_a_setting_out_of_range_is_refused(build, setting, message):
    with pytest.raises(ConfigError, match=message):
        build(**setting)
