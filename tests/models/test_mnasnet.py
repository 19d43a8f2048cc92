"""Networks of the MnasNet search space: the effect of each choice."""

import itertools

import pytest
import torch
from timm.layers import BatchNormAct2d
from timm.models._efficientnet_blocks import ConvBnAct, DepthwiseSeparableConv, InvertedResidual, SqueezeExcite
from torch import nn

from helpers.networks import CONV, FULL, MBCONV, MOBILENET_V2, blocks
from nasproxy.errors import SpaceError
from nasproxy.models.mnasnet import build, list_stages
from nasproxy.models.network_stages import Scale


def definitions(architecture, *, reference="mobilenet_v2", **scale):
    return [stage.definition for stage in list_stages(architecture, reference, Scale(**{"divisor": 4, **scale}))]


def network(architecture, **settings):
    return build(architecture, **{**FULL, **settings})


def changed(**choices):
    """Build MobileNetV2 with other choices for its third block."""
    return {**MOBILENET_V2, **{f"blocks.2.{name}": value for name, value in choices.items()}}


def test_the_reference_has_timms_block_definitions():
    assert definitions(MOBILENET_V2) == [
        "ds_r1_k3_s1_c16",
        "ir_r2_k3_s2_e6_c24",
        "ir_r3_k3_s2_e6_c32",
        "ir_r4_k3_s2_e6_c64",
        "ir_r3_k3_s1_e6_c96",
        "ir_r3_k3_s2_e6_c160",
        "ir_r1_k3_s1_e6_c320",
    ]


def test_the_network_of_an_architecture_depends_on_the_reference():
    assert definitions(MOBILENET_V2, reference="mnasnet_a1")[4] == "ir_r2_k3_s1_e6_c112"


@pytest.mark.parametrize(
    ("choices", "definition"),
    [
        ({"kernel": 5}, "ir_r3_k5_s2_e6_c32"),
        ({"expand": 3}, "ir_r3_k3_s2_e3_c32"),
        ({"expand": 1}, "ds_r3_k3_s2_c32"),
        ({"se": 0.25}, "ir_r3_k3_s2_e6_c32_se0.25"),
        ({"expand": 1, "se": 0.25}, "ds_r3_k3_s2_c32_se0.25"),
        ({"repeats": -1}, "ir_r2_k3_s2_e6_c32"),
        ({"repeats": 1}, "ir_r4_k3_s2_e6_c32"),
        ({"filters": 0.75}, "ir_r3_k3_s2_e6_c24"),
        ({"filters": 1.25}, "ir_r3_k3_s2_e6_c40"),
    ],
)
def test_each_choice_changes_its_stage_definition(choices, definition):
    written = definitions(changed(**choices))
    assert written[2] == definition
    assert written[:2] + written[3:] == definitions(MOBILENET_V2)[:2] + definitions(MOBILENET_V2)[3:]


def test_a_conv_has_neither_expansion_nor_squeeze():
    plain = blocks(*[CONV] * 7)
    assert definitions(plain)[2] == "cn_r3_k3_s2_c32_skip"
    with pytest.raises(
        SpaceError, match=r"takes the choices .*, got 'blocks.2.expand' too: remove it, or add a `when` condition"
    ):
        list_stages({**plain, "blocks.2.expand": 6}, "mobilenet_v2", Scale())


@pytest.mark.parametrize("reference", ["mobilenet_v2", "mnasnet_a1"])
def test_filters_have_an_effect_in_every_block(reference):
    for block in range(7):
        widths = {
            definitions({**MOBILENET_V2, f"blocks.{block}.filters": filters}, reference=reference)[block]
            for filters in (0.75, 1, 1.25)
        }
        assert len(widths) == 3


def test_a_divisor_of_8_makes_filters_of_the_first_blocks_equal():
    fewer = {**MOBILENET_V2, "blocks.0.filters": 0.75}
    assert definitions(fewer, divisor=8) == definitions(MOBILENET_V2, divisor=8)
    assert definitions(fewer, divisor=4) != definitions(MOBILENET_V2, divisor=4)


def test_width_and_filters_are_rounded_once():
    assert definitions(changed(filters=1.25), width=0.5)[2] == "ir_r3_k3_s2_e6_c20"
    assert definitions(changed(filters=1.25), width=0.5, divisor=8)[2] == "ir_r3_k3_s2_e6_c24"


def test_depth_rounds_repeats_up():
    assert definitions(MOBILENET_V2, depth=0.5)[2:4] == ["ir_r2_k3_s2_e6_c32", "ir_r2_k3_s2_e6_c64"]
    assert definitions(MOBILENET_V2, depth=0.5)[0] == "ds_r1_k3_s1_c16"


def test_modules_follow_the_choices():
    architecture = blocks(
        {**MBCONV, "expand": 1},
        {**MBCONV, "kernel": 5, "se": 0.25},
        {**CONV, "kernel": 5},
        *[MBCONV] * 4,
    )
    built = network(architecture).blocks
    assert isinstance(built[0][0], DepthwiseSeparableConv)
    assert all(isinstance(block, InvertedResidual) for block in built[1])
    assert all(isinstance(block, ConvBnAct) for block in built[2])
    assert [block.conv_dw.kernel_size for block in built[1]] == [(5, 5)] * 2
    assert [block.conv.kernel_size for block in built[2]] == [(5, 5)] * 3
    assert [isinstance(block.se, SqueezeExcite) for block in (*built[1], *built[3])] == [True] * 2 + [False] * 4


def test_repeats_of_a_conv_add_to_their_input():
    stage = network(blocks(*[CONV] * 7)).blocks[2]
    assert [block.has_skip for block in stage] == [False, True, True]
    nn.init.zeros_(stage[1].conv.weight)
    stage.eval()
    features = torch.rand(1, 32, 4, 4)
    assert torch.equal(stage[1](features), features)


@pytest.mark.parametrize(("activation", "layer"), [("relu", nn.ReLU), ("swish", nn.SiLU), ("hard_swish", nn.Hardswish)])
def test_the_activation_applies_to_all_layers(activation, layer):
    built = network(MOBILENET_V2, activation=activation, width=0.25, depth=0.5)
    layers = {type(module.act) for module in built.modules() if isinstance(module, BatchNormAct2d)}
    assert layers == {layer, nn.Identity}  # projections have no activation


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"op": "fused_mbconv"}, r"blocks.2.op must be one of \('conv', 'mbconv'\), got 'fused_mbconv'"),
        ({"kernel": 4}, "blocks.2.kernel must be an odd whole number above 0, got 4"),
        ({"kernel": True}, "blocks.2.kernel must be an odd whole number above 0, got True"),
        ({"expand": 0.5}, "blocks.2.expand must be a number from 1 to 20, got 0.5"),
        ({"expand": "6"}, "blocks.2.expand must be a number from 1 to 20, got '6'"),
        ({"se": 2}, "blocks.2.se must be a number from 0 to 1, got 2"),
        ({"repeats": -3}, "blocks.2.repeats must be at least -2, got -3"),
        ({"repeats": 0.5}, "blocks.2.repeats must be a whole number, got 0.5"),
        ({"filters": 0}, "blocks.2.filters must be a number from 0.05 to 20, got 0"),
        ({"stride": 2}, "mnasnet takes the choices .*, got 'blocks.2.stride' too"),
    ],
)
def test_an_architecture_that_cannot_be_built_is_refused(choices, message):
    with pytest.raises(SpaceError, match=message):
        network(changed(**choices))


def test_a_missing_choice_is_named():
    without = {name: value for name, value in MOBILENET_V2.items() if name != "blocks.6.se"}
    with pytest.raises(
        SpaceError, match=r"mnasnet needs the choice 'blocks.6.se', .* add it to the search space, with a single value"
    ):
        network(without)


@pytest.mark.parametrize("reference", ["mobilenet_v2", "mnasnet_a1"])
@pytest.mark.parametrize(("block", "count"), [(0, 84), (1, 126), (2, 126), (3, 126), (4, 126), (5, 126), (6, 84)])
def test_all_architectures_of_a_block_give_different_networks(reference, block, count):
    rest = {name: value for name, value in MOBILENET_V2.items() if not name.startswith(f"blocks.{block}.")}
    offsets = (0, 1) if block in (0, 6) else (-1, 0, 1)
    convs = itertools.product(["conv"], (3, 5), offsets, (0.75, 1, 1.25))
    mbconvs = itertools.product(["mbconv"], (3, 5), offsets, (0.75, 1, 1.25), (1, 3, 6), (0, 0.25))
    names = ("op", "kernel", "repeats", "filters", "expand", "se")
    written = [
        definitions(
            {**rest, **{f"blocks.{block}.{name}": value for name, value in zip(names, point, strict=False)}},
            reference=reference,
        )[block]
        for point in (*convs, *mbconvs)
    ]
    assert len(written) == len(set(written)) == count
