"""Networks of the EfficientNetV2 search space: every choice has an effect."""

import itertools

import pytest
from timm.models._efficientnet_blocks import ConvBnAct, EdgeResidual, InvertedResidual, SqueezeExcite
from torch import nn

from helpers.networks import EFFICIENTNET_V2_B0, FULL
from nasproxy.errors import SpaceError
from nasproxy.models.efficientnet_v2 import build, list_stages
from nasproxy.models.network_stages import Scale

CHOICES = {
    "op": ("mbconv", "fused_mbconv"),
    "expand": (1, 2, 4, 6),
    "kernel": (3, 5),
    "se": (0, 0.25),
    "activation": ("swish", "relu"),
    "repeats": (-1, 0, 1),
    "filters": (0.75, 1, 1.25),
}


def changed(block, **choices):
    return {**EFFICIENTNET_V2_B0, **{f"blocks.{block}.{name}": value for name, value in choices.items()}}


def definitions(architecture, **scale):
    return [stage.definition for stage in list_stages(architecture, Scale(**{"divisor": 4, **scale}))]


def test_the_reference_has_timms_block_definitions():
    assert definitions(EFFICIENTNET_V2_B0) == [
        "cn_r1_k3_s1_c16_nsw_skip",
        "er_r2_k3_s2_e4_c32_nsw",
        "er_r2_k3_s2_e4_c48_nsw",
        "ir_r3_k3_s2_e4_c96_se0.25_nsw",
        "ir_r5_k3_s1_e6_c112_se0.25_nsw",
        "ir_r8_k3_s2_e6_c192_se0.25_nsw",
    ]


@pytest.mark.parametrize("block", range(6))
def test_all_points_of_a_block_give_different_networks(block):
    offsets = (0, 1) if block == 0 else CHOICES["repeats"]
    points = list(itertools.product(*{**CHOICES, "repeats": offsets}.values()))
    written = {definitions(changed(block, **dict(zip(CHOICES, point, strict=True))))[block] for point in points}
    assert len(written) == len(points)


def test_blocks_follow_the_choices():
    architecture = changed(0, se=0.25) | {"blocks.1.op": "mbconv", "blocks.2.expand": 1}
    built = build(architecture, **FULL).blocks
    assert isinstance(built[0][0], EdgeResidual)
    assert isinstance(built[0][0].se, SqueezeExcite)
    assert all(isinstance(block, InvertedResidual) for block in built[1])
    assert all(isinstance(block, ConvBnAct) for block in built[2])
    assert [block.has_skip for block in built[2]] == [False, True]


def test_each_block_has_its_own_activation():
    built = build(changed(1, activation="relu"), **FULL)
    assert isinstance(built.blocks[1][0].bn1.act, nn.ReLU)
    assert isinstance(built.blocks[2][0].bn1.act, nn.SiLU)
    assert isinstance(built.bn1.act, nn.SiLU)
    assert isinstance(build(EFFICIENTNET_V2_B0, **FULL, activation="relu").bn1.act, nn.ReLU)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"op": "conv"}, "blocks.3.op must be one of .* got 'conv'"),
        ({"activation": "gelu"}, "blocks.3.activation must be one of .* got 'gelu'"),
        ({"stride": 1}, "efficientnet_v2 takes the choices .*, got 'blocks.3.stride' too"),
    ],
)
def test_an_architecture_that_cannot_be_built_is_refused(choices, message):
    with pytest.raises(SpaceError, match=message):
        build(changed(3, **choices), **FULL)
