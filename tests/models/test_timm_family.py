"""The search space over timm models."""

import pytest
import timm
import torch
from torch import nn

from helpers.networks import FULL, shapes, weights
from nasproxy.errors import ConfigError, SpaceError
from nasproxy.models.timm_family import build
from nasproxy.trainers.optimization import scale_dropout

SCALABLE = ["resnet18", "resnet26t", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224"]
"""One model for each scaling method of timm families; resnet26t has a stem of several convolutions."""


def network(name, *, fixed=None, keywords=None, **settings):
    return build({"model": name, **(keywords or {})}, **{**FULL, **settings}, fixed=fixed)


def blocks(model):
    """Count the residual blocks of any family by their names in timm."""
    named = ("BasicBlock", "Bottleneck", "InvertedResidual", "ConvNeXtBlock", "Block")
    return sum(type(module).__name__ in named for module in model.modules())


def test_a_model_equals_the_one_of_timm():
    torch.manual_seed(0)
    built = network("resnet18", channels=1)
    torch.manual_seed(0)
    made = timm.create_model("resnet18", num_classes=10, in_chans=1)
    assert all(torch.equal(one, other) for one, other in zip(built.parameters(), made.parameters(), strict=True))


def test_other_choices_and_fixed_keywords_are_passed_to_the_model():
    built = network("resnet10t", keywords={"act_layer": "silu"}, fixed={"drop_path_rate": 0.2})
    assert any(isinstance(module, nn.SiLU) for module in built.modules())
    rates = [module.drop_prob for module in built.modules() if type(module).__name__ == "DropPath"]
    assert max(rates) == pytest.approx(0.2)


def test_an_activation_can_be_given_by_name():
    assert network("edgenext_xx_small", keywords={"act_layer": "relu"})(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_a_model_of_fixed_input_size_is_built_for_the_data(name):
    assert network(name)(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224"])
def test_the_drop_rate_becomes_a_module_that_regularisation_scales(name):
    built = network(name, fixed={"drop_rate": 0.4})
    scale_dropout(built, 0.5)
    assert [module.p for module in built.modules() if isinstance(module, nn.Dropout) and module.p > 0] == [0.2]
    assert built(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("name", SCALABLE)
def test_width_scales_channels_and_depth_blocks(name):
    full, narrow, shallow = network(name), network(name, width=0.5), network(name, depth=0.5)
    assert weights(narrow) < 0.5 * weights(full)
    assert blocks(narrow) == blocks(full)
    assert blocks(shallow) < 0.8 * blocks(full)
    assert shallow.num_features == full.num_features
    for model in (narrow, shallow, network(name, width=0.5, depth=0.5)):
        assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_width_scales_the_multiplier_of_a_model():
    assert shapes(network("mobilenetv2_100", width=0.5)) == shapes(network("mobilenetv2_050"))


def test_scaling_a_model_does_not_change_timm():
    before = shapes(timm.create_model("mobilenetv2_050"))
    network("mobilenetv2_050", width=0.5, depth=0.5)
    assert shapes(timm.create_model("mobilenetv2_050")) == before


@pytest.mark.parametrize(
    ("name", "scale", "message"),
    [
        ("regnetx_002", {"width": 0.5}, "whose width timm can change .*, got regnetx_002: set proxy.width to 1"),
        ("regnetx_002", {"depth": 0.5}, "whose depth timm can change .*, got regnetx_002"),
        ("mnasnet_small", {"depth": 0.5}, "whose depth timm can change .*, got mnasnet_small: .* or remove the model"),
    ],
)
def test_a_model_that_cannot_be_scaled_is_refused_by_name(name, scale, message):
    with pytest.raises(ConfigError, match=message):
        network(name, **scale)


def test_an_unknown_model_is_refused_with_suggestions():
    with pytest.raises(SpaceError, match=r"model must be a name of timm .*, got 'resnet_18': did you mean .*resnet18"):
        network("resnet_18")
    with pytest.raises(SpaceError, match=r"model must be a name of timm .*, got 18: see timm.list_models\(\)"):
        network(18)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"act_layer": "rely"}, "act_layer must be an activation of timm, got 'rely'"),
        ({"widht": 2}, "timm must be able to build resnet10t with .*widht=2, .*unexpected keyword argument 'widht'"),
        ({"pretrained": True}, "timm_family must not be given pretrained"),
        ({"num_classes": 5}, "timm_family must not be given num_classes"),
        ({"drop_path_rate": 0.1}, "drop_path_rate must be either a choice or fixed, got both"),
    ],
)
def test_keywords_that_do_not_fit_are_refused(keywords, message):
    with pytest.raises(SpaceError, match=message):
        network("resnet10t", keywords=keywords, fixed={"drop_path_rate": 0.0})


def test_a_space_without_models_is_refused():
    with pytest.raises(SpaceError, match="timm_family needs the choice 'model', got act_layer"):
        build({"act_layer": "relu"}, **FULL)


def test_dropout_is_refused_without_a_single_last_layer():
    with pytest.raises(ConfigError, match="needs a single last layer, got VisionTransformerDistilled"):
        network("deit_tiny_distilled_patch16_224", fixed={"drop_rate": 0.1})
