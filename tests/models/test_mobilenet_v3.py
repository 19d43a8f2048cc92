"""Networks of the Once-for-all search space: each block has its own kernel and expansion."""

import pytest
from timm.models._efficientnet_blocks import InvertedResidual, SqueezeExcite
from torch import nn

from helpers.networks import FULL, MOBILENET_V3_LARGE
from nasproxy.errors import SpaceError
from nasproxy.models.mobilenet_v3 import build, list_stages
from nasproxy.models.network_stages import Scale


def definitions(architecture, **scale):
    return [[block.definition for block in stage] for stage in list_stages(architecture, Scale(**scale))]


DEEPER = {**MOBILENET_V3_LARGE, "stages.1.depth": 4, "stages.1.kernel4": 7, "stages.1.expand4": 6}


def test_the_reference_is_written_block_by_block():
    assert definitions(MOBILENET_V3_LARGE)[:3] == [
        ["ds_r1_k3_s1_c16_nre"],
        ["ir_r1_k3_s2_e4_c24_nre", "ir_r1_k3_s1_e3_c24_nre"],
        ["ir_r1_k5_s2_e3_c40_se0.25_nre", "ir_r1_k5_s1_e3_c40_se0.25_nre", "ir_r1_k5_s1_e3_c40_se0.25_nre"],
    ]
    assert definitions(MOBILENET_V3_LARGE)[-1] == ["cn_r1_k1_s1_c960_skip"]


def test_depth_adds_a_block_with_its_own_kernel_and_expansion():
    stage = build(DEEPER, **FULL).blocks[2]
    assert len(stage) == 4
    assert all(isinstance(block, InvertedResidual) for block in stage)
    assert [block.conv_dw.kernel_size[0] for block in stage] == [5, 5, 5, 7]
    assert [block.conv_pw.out_channels for block in stage] == [72, 120, 120, 240]


def test_squeeze_and_activation_are_those_of_the_reference():
    built = build(DEEPER, **FULL).blocks
    assert [isinstance(stage[0].se, SqueezeExcite) for stage in built[1:6]] == [False, True, False, True, True]
    names = [type(stage[0].bn1.act).__name__ for stage in built[1:6]]
    assert names == ["ReLU"] * 2 + [type(built[6][0].bn1.act).__name__] * 3
    assert not isinstance(built[6][0].bn1.act, nn.ReLU)


def test_depth_below_1_removes_the_last_blocks_and_above_1_repeats_the_last_one():
    assert definitions(DEEPER, depth=0.5)[2] == definitions(DEEPER)[2][:2]
    assert definitions(DEEPER, depth=1.5)[2][-1] == "ir_r3_k7_s1_e6_c40_se0.25_nre"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages.0.depth": 5}, r"stages.0.depth must be one of \(1, 2, 3, 4\), got 5"),
        ({"stages.0.kernel3": 3}, "mobilenet_v3 takes the choices .*, got 'stages.0.kernel3' too"),
        ({"stages.0.depth": 3}, "mobilenet_v3 needs the choice 'stages.0.kernel3'"),
        ({"stages.0.kernel1": 6}, "stages.0.kernel1 must be an odd whole number above 0, got 6"),
    ],
)
def test_an_architecture_that_cannot_be_built_is_refused(change, message):
    with pytest.raises(SpaceError, match=message):
        build({**MOBILENET_V3_LARGE, **change}, **FULL)
