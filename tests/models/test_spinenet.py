"""SpineNets: scale-permuted graphs for images of any size."""

import random

import pytest
import torch
from torch import nn

from nasproxy.errors import ConfigError, SpaceError
from nasproxy.models import spinenet, spinenet_scaling
from nasproxy.models.complexity import measure_complexity
from nasproxy.models.spine_graph import read_graph

SPINENET_49 = [
    (2, "bottleneck", (0, 1)),
    (4, "residual", (0, 1)),
    (3, "bottleneck", (2, 3)),
    (4, "bottleneck", (2, 4)),
    (6, "residual", (3, 5)),
    (4, "bottleneck", (3, 5)),
    (5, "residual", (6, 7)),
    (7, "residual", (6, 8)),
    (5, "bottleneck", (8, 9)),
    (5, "bottleneck", (8, 10)),
    (4, "bottleneck", (5, 10)),
    (3, "bottleneck", (4, 10)),
    (5, "bottleneck", (7, 12)),
    (7, "bottleneck", (5, 14)),
    (6, "bottleneck", (12, 14)),
]
"""The published graph: level, block function and inputs of each block; the last five are outputs."""
NARROW = 0.125


def described(blocks):
    """Convert a graph to an architecture without level offsets."""
    architecture = {}
    count = len(blocks) - 5
    for position, (level, function, inputs) in enumerate(blocks):
        is_output = position >= count
        i = position - count if is_output else position
        name = f"outputs.{i}" if is_output else f"blocks.{i}"
        architecture[f"output_levels.{i}" if is_output else f"levels.{i}"] = level
        if not is_output:
            architecture[f"{name}.level_offset"] = 0
        architecture |= {f"{name}.block_fn": function, f"{name}.inputs.0": inputs[0], f"{name}.inputs.1": inputs[1]}
    return architecture


def drawn(seed, functions=("residual", "bottleneck")):
    """Draw an architecture of 11 blocks, as in the space `spinenet`."""
    generator = random.Random(seed)
    bases = [2, 3, 3, 3, 4, 4, 4, 4, 4, 5, 5]
    generator.shuffle(bases)
    blocks = [
        (base + generator.choice((-1, 0, 1, 2)), generator.choice(functions), sample(generator, max(0, i - 2), i + 2))
        for i, base in enumerate(bases)
    ]
    outputs = [
        (level, generator.choice(functions), sample(generator, 0, 13 + i))
        for i, level in enumerate(generator.sample(range(3, 8), 5))
    ]
    return described(blocks + outputs)


def sample(generator, first, end):
    return tuple(sorted(generator.sample(range(first, end), 2)))


def network(architecture=None, *, width=NARROW, depth=1.0, num_classes=10, channels=3, **settings):
    return spinenet.build(
        described(SPINENET_49) if architecture is None else architecture,
        width=width,
        depth=depth,
        num_classes=num_classes,
        channels=channels,
        image_size_px=32,
        **settings,
    )


def weights(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("settings", "millions"),
    [
        ({}, 22.1),
        ({"block_repeats": 2}, 36.5),
        ({"block_repeats": 3, "resample_alpha": 1.0}, 60.5),
    ],
)
def test_the_published_networks_have_the_published_numbers_of_weights(settings, millions):
    with torch.device("meta"):
        model = network(width=1.0, num_classes=1000, **settings)
    assert weights(model) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.gate
@pytest.mark.parametrize("family", ["spinenet", "mobile"])
@pytest.mark.parametrize("seed", range(10))
def test_random_graphs_are_built_and_every_weight_gets_a_gradient(family, seed):
    torch.manual_seed(seed)
    functions = ("mbconv",) if family == "mobile" else ("residual", "bottleneck")
    model = network(drawn(seed, functions), family=family)
    for side in (32, 64):
        model.zero_grad()
        logits = model(torch.randn(4, 3, side, side))
        assert logits.shape == (4, 10)
        logits.square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_every_needed_block_changes_the_logits():
    torch.manual_seed(0)
    model = network()
    logits = model(torch.randn(4, 3, 128, 128))
    logits.square().sum().backward()
    assert len(model.blocks) == 15
    for block in model.blocks.values():
        first_layer = block.layers[0].conv1.weight
        assert first_layer.grad.abs().max() > 0
        for resample in block.resamples:
            assert resample.layers[0][0].weight.grad.abs().max() > 0, "both inputs have an effect"


def test_a_block_that_no_output_depends_on_is_not_built():
    outputs = [(level, "residual", (0, 1)) for level in (3, 4, 5, 6, 7)]
    graph = [(4, "residual", (0, 1)), (2, "residual", (0, 1)), *outputs]
    model = network(described(graph))
    assert list(model.blocks) == ["2", "4", "5", "6", "7", "8"], "all but the block of level 2"
    assert [block.is_needed for block in read_graph(described(graph), ["residual"])][:2] == [True, False]


def test_an_unused_feature_is_added_to_the_output_of_its_shape():
    outputs = [(level, "residual", (0, 1)) for level in (3, 4, 5, 6, 7)]
    loose = [(4, "residual", (0, 1)), (4, "bottleneck", (0, 1)), (6, "residual", (0, 2))]
    graph = read_graph(described([*loose, *outputs]), ["residual", "bottleneck"])
    extra = {block.level: block.extra for block in graph if block.is_output}
    assert extra == {3: (), 4: (), 5: (), 6: (4,), 7: ()}, "4 uses 2, and 3 has another width"


@pytest.mark.parametrize("side", [1, 7, 12, 20, 33, 100])
@pytest.mark.parametrize("family", ["spinenet", "mobile"])
def test_images_of_any_size_give_logits(side, family):
    functions = ("mbconv",) if family == "mobile" else ("residual", "bottleneck")
    model = network(drawn(1, functions), family=family, channels=1)
    assert model(torch.randn(2, 1, side, side + 3)).shape == (2, 10)


def test_a_network_has_the_same_weights_for_images_of_any_size():
    assert (
        measure_complexity(network(), (3, 32, 32)).parameters == measure_complexity(network(), (3, 64, 64)).parameters
    )


def test_each_level_halves_the_side():
    sides = {}
    model = network()
    for name, block in model.blocks.items():
        block.register_forward_hook(lambda _, __, output, name=name: sides.update({name: output.shape[2]}))
    model(torch.randn(2, 3, 256, 256))
    assert list(sides.values()) == [256 // 2**level for level, _, _ in SPINENET_49]


def test_another_order_of_levels_gives_another_network():
    swapped = dict(described(SPINENET_49))
    swapped["levels.0"], swapped["levels.4"] = swapped["levels.4"], swapped["levels.0"]
    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 64)
    one, other = network(), network(swapped)
    assert [b.resamples[0].layers[0][0].weight.shape for b in one.blocks.values()] != [
        b.resamples[0].layers[0][0].weight.shape for b in other.blocks.values()
    ]
    assert not torch.equal(one(images), other(images))


@pytest.mark.parametrize(
    ("choice", "value"),
    [
        ("blocks.3.level_offset", 1),
        ("blocks.3.block_fn", "residual"),
        ("blocks.3.inputs.0", 3),
        ("outputs.2.block_fn", "residual"),
        ("outputs.2.inputs.1", 8),
    ],
)
def test_each_choice_changes_the_network(choice, value):
    def describe(model):
        return {name: weight.shape for name, weight in model.state_dict().items()} | {
            f"{name}.inputs": block.inputs for name, block in model.blocks.items()
        }

    assert describe(network({**described(SPINENET_49), choice: value})) != describe(network())


def test_it_has_the_interface_of_a_timm_model():
    model = network().eval()
    images = torch.randn(2, 3, 64, 64)
    features = model.forward_features(images)
    assert features.shape == (2, model.num_features, 2, 2)
    assert torch.equal(model.forward_head(features), model(images))
    assert model.forward_head(features, pre_logits=True).shape == (2, model.num_features)
    assert isinstance(model.get_classifier(), nn.Linear)
    assert model.num_classes == model.get_classifier().out_features == 10


def test_width_and_depth_scale_the_network():
    assert weights(network(width=0.25)) > 2.5 * weights(network(width=0.125))
    assert weights(network(depth=2.0)) == weights(network(block_repeats=2)) > 1.2 * weights(network())


@pytest.mark.parametrize(
    "settings",
    [
        {"filter_scale": 2.0},
        {"resample_alpha": 1.0},
        {"block_repeats": 2},
        {"endpoint_filters": 512},
        {"head_convs": 1},
    ],
)
def test_each_setting_enlarges_the_network(settings):
    assert weights(network(**settings)) > weights(network())


def test_images_are_resized_to_the_chosen_share():
    torch.manual_seed(0)
    model = network(image_size=0.5).eval()
    images = torch.randn(2, 3, 128, 128)
    half = nn.functional.interpolate(images, (64, 64), mode="bilinear", antialias=True)
    model.image_size = 1.0
    expected = model(half)
    model.image_size = 0.5
    assert torch.equal(model(images), expected)


def test_equal_seeds_give_equal_weights():
    models = []
    for _ in range(2):
        torch.manual_seed(5)
        models.append(network())
    for one, other in zip(models[0].state_dict().values(), models[1].state_dict().values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("family", ["spinenet", "mobile"])
def test_it_has_all_zero_cost_scores(family):
    scores = measure_complexity(network(family=family, channels=1), (1, 32, 32))
    assert scores.parameters > 0
    assert scores.flops > 0
    assert scores.synflow > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levels.0": 9}, "blocks.0 must have a level from 1 to 7, got 9: change levels.0"),
        ({"levels.0": 2.5}, "levels.0 must be a whole number, got 2.5"),
        ({"blocks.1.block_fn": "conv"}, "blocks.1.block_fn must be one of .*, got 'conv'"),
        ({"blocks.1.inputs.1": 3}, "blocks.1.inputs must be two different features from 0 to 2, got 0 and 3"),
        ({"outputs.1.inputs.1": 4}, "outputs.1.inputs must be two different features from 0 to 12, got 4 and 4"),
        ({"output_levels.1": 4}, r"output_levels must contain each of \(3, 4, 5, 6, 7\) once, got \[4, 4, 5, 6, 7\]"),
        ({"stem.kernel": 3}, r"spinenet takes the choices levels.0, .* and \d+ more, got 'stem.kernel' too: remove it"),
    ],
)
def test_an_architecture_that_cannot_be_built_is_refused(change, message):
    with pytest.raises(SpaceError, match=message):
        network({**described(SPINENET_49), **change})


def test_a_missing_choice_is_named():
    without = {name: value for name, value in described(SPINENET_49).items() if name != "blocks.3.inputs.1"}
    with pytest.raises(SpaceError, match=r"spinenet needs the choice 'blocks.3.inputs.1', got .* and 61 more: add it"):
        network(without)


def test_an_unknown_family_and_a_width_of_zero_are_refused():
    with pytest.raises(SpaceError, match=r"family spinenet or mobile .* got 'resnet' and 'silu'"):
        network(family="resnet")
    with pytest.raises(ConfigError, match="width must be a finite number above 0"):
        network(width=0.0)


SIZES = {
    "image_size": 0.8,
    "endpoint_filters": 192,
    "filter_scale": 0.8,
    "resample_alpha": 0.75,
    "block_repeats": 2,
    "head_convs": 4,
    "head_filters": 192,
}


def scaled(**changes):
    given = {"width": NARROW, "depth": 1.0, "num_classes": 10, "channels": 1, "image_size_px": 32}
    return spinenet_scaling.build({**SIZES, **changes}, fixed=described(SPINENET_49), **given)


@pytest.mark.parametrize(
    ("choice", "value"),
    [
        ("endpoint_filters", 256),
        ("filter_scale", 1.2),
        ("resample_alpha", 1.25),
        ("block_repeats", 3),
        ("head_convs", 5),
        ("head_filters", 256),
    ],
)
def test_each_size_enlarges_the_fixed_graph(choice, value):
    assert weights(scaled(**{choice: value})) > weights(scaled())


def test_the_fixed_graph_gives_logits_at_chosen_sizes():
    model = scaled()
    assert model.image_size == 0.8
    assert len(model.head) == 4
    logits = model(torch.randn(2, 1, 32, 32))
    logits.sum().backward()
    assert logits.shape == (2, 10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 1.5}, "image_size must be a number from 0.05 to 1, got 1.5"),
        ({"block_repeats": 1.5}, "block_repeats must be a whole number of at least 1, got 1.5"),
        ({"filter_scale": "wide"}, "filter_scale must be a number from 0.05 to 20, got 'wide'"),
        ({"dropout": 0.5}, "spinenet_scaling takes the choices .*, got 'dropout' too"),
    ],
)
def test_a_size_that_cannot_be_built_is_refused(change, message):
    with pytest.raises(SpaceError, match=message):
        scaled(**change)
