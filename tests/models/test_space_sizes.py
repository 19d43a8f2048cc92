"""The shipped spaces of SpineNets and augmentation policies: sizes, baselines and networks."""

from math import comb, factorial, prod
from pathlib import Path

import pytest
import torch
import yaml

from nasproxy.models.complexity import measure_complexity
from nasproxy.models.fixed import spell_out
from nasproxy.space import SearchSpace
from nasproxy.targets import build_target
from nasproxy.trials.identity import list_arguments

FOLDER = Path(__file__).parents[2] / "conf" / "search_space"
SPINENETS = ("spinenet", "spinenet_v2", "spinenet_mbconv")
POLICIES = ("autoaugment", "randaugment")


def node(name):
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())


def space(name):
    content = node(name)
    return SearchSpace(name=content["name"], choices=content["choices"], baseline=content["baseline"])


def network(name, architecture, *, channels=3, width=1.0, depth=1.0):
    given = {"width": width, "depth": depth, "num_classes": 10, "channels": channels, "image_size_px": 32}
    return build_target("search_space.model", list_arguments(node(name)["model"]), architecture=architecture, **given)


def spinenet_points(levels, offsets, functions, blocks):
    inputs = [comb(min(4, 2 + i), 2) for i in range(blocks)] + [comb(2 + blocks + i, 2) for i in range(5)]
    return levels * factorial(5) * (offsets * functions) ** blocks * functions**5 * prod(inputs)


def orders(blocks, *copies):
    return factorial(blocks) // prod(factorial(number) for number in copies)


@pytest.mark.parametrize(
    ("name", "published", "decisions", "points", "size"),
    [
        (
            "spinenet",
            4.8e38,
            75,
            spinenet_points(factorial(11), 4, 2, 11),
            spinenet_points(orders(11, 1, 3, 5, 2), 4, 2, 11),
        ),
        (
            "spinenet_v2",
            7.6e29,
            70,
            spinenet_points(factorial(10), 3, 1, 10),
            spinenet_points(orders(10, 1, 3, 5, 1), 3, 1, 10),
        ),
        (
            "spinenet_mbconv",
            7.4e33,
            75,
            spinenet_points(factorial(11), 4, 1, 11),
            spinenet_points(orders(11, 1, 1, 5, 4), 4, 1, 11),
        ),
        ("spinenet_scaling", 432, 7, 432, 432),
        ("autoaugment", 9.3e31, 30, (13 * 11 * 11) ** 10, (1 + 10 * (12 * 11 + 1)) ** 10),
        ("randaugment", 20, 2, 20, 20),
    ],
)
def test_a_space_is_as_large_as_that_of_vertex_ai_nas(name, published, decisions, points, size):
    shipped = space(name)
    assert shipped.points == points
    assert float(f"{points:.1e}") == pytest.approx(published, rel=0.01)
    assert shipped.decisions == decisions
    assert shipped.size == size


@pytest.mark.parametrize("name", [*SPINENETS, "spinenet_scaling", *POLICIES])
def test_the_baseline_is_built_and_classifies(name):
    model = network(name, space(name).baseline, width=0.125)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.gate
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [*SPINENETS, "spinenet_scaling", *POLICIES])
def test_sampled_architectures_can_be_trained(name, channels):
    torch.manual_seed(0)
    for architecture in space(name).sample(10, seed=channels):
        model = network(name, architecture, channels=channels, width=0.125)
        model(torch.rand(2, channels, 32, 32)).square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_the_mobile_baseline_is_mobile_spinenet_49():
    with torch.device("meta"):
        model = network("spinenet_mbconv", space("spinenet_mbconv").baseline)
    levels = [block.level for block in model.blocks.values()]
    assert levels == [2, 2, 4, 3, 4, 6, 4, 5, 7, 5, 5, 4, 3, 5, 7, 6]


def test_the_scaled_graph_is_the_baseline_of_its_source_space():
    fixed = spell_out(node("spinenet_scaling")["model"]["fixed"])
    assert space("spinenet").canonical(fixed) == space("spinenet").baseline


@pytest.mark.parametrize("name", POLICIES)
def test_the_augmented_network_is_the_embedded_baseline(name):
    fixed = spell_out(node(name)["model"]["fixed"])
    assert fixed == spell_out(node("digits_cnn")["baseline"])


def test_policies_that_differ_without_effect_are_one_architecture():
    shipped = space("autoaugment")
    baseline = dict(shipped.baseline)
    assert set(baseline.values()) == {0.0}
    idle = {**baseline, "sub_policies.0.ops.0.op": "rotate", "sub_policies.0.ops.0.magnitude": 7}
    assert shipped.canonical(idle) == baseline
    plain = {**baseline, "sub_policies.0.ops.0.probability": 0.5, "sub_policies.0.ops.0.op": "autocontrast"}
    assert shipped.canonical({**plain, "sub_policies.0.ops.0.magnitude": 7}) == plain


def test_every_policy_of_a_space_has_one_zero_cost_score():
    policies = [space("randaugment").baseline, *space("randaugment").sample(3, seed=0)]
    scores = set()
    for architecture in policies:
        torch.manual_seed(0)
        scores.add(measure_complexity(network("randaugment", architecture, channels=1), (1, 12, 12)))
    assert len(scores) == 1
