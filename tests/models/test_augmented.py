"""A fixed model behind a searched policy."""

from functools import partial

import pytest
import torch
from torch import nn

from nasproxy.errors import ConfigError, SpaceError
from nasproxy.models import augmented, small_cnn
from nasproxy.models.complexity import measure_complexity
from nasproxy.models.fixed import spell_out

FIXED = {
    "activation": "relu",
    "pool": "avg",
    "stem": {"kernel": 3},
    "stage1": {"channels": 16, "repeats": 1, "dilation": 1},
    "stage2": {"channels": 32, "repeats": 1, "dilation": 1},
}
SETTINGS = {
    "model": partial(small_cnn.build, dropout=0.0),
    "fixed": FIXED,
    "low": 0.0,
    "high": 1.0,
    "fill": 0.0,
    "width": 1.0,
    "depth": 1.0,
    "num_classes": 10,
    "channels": 1,
    "image_size_px": 16,
}
OPS = ["rotate", "invert", "cutout"]


def sub_policies(*policies):
    """Make an architecture of sub-policies, each of steps (op, probability, magnitude)."""
    architecture = {}
    for i, steps in enumerate(policies):
        for j, (op, probability, magnitude) in enumerate(steps):
            values = {"probability": probability, "op": op, "magnitude": magnitude}
            present = {name: value for name, value in values.items() if value is not None}
            architecture |= {f"sub_policies.{i}.ops.{j}.{name}": value for name, value in present.items()}
    return architecture


STRONG = sub_policies([("invert", 1.0, None), ("rotate", 0.5, 8)], [("cutout", 1.0, 10), (None, 0.0, None)])
NONE = sub_policies(*[[(None, 0.0, None)] * 2] * 5)


def network(architecture=STRONG, **changes):
    torch.manual_seed(0)
    return augmented.build(architecture, **{**SETTINGS, **changes})


def images(n=8):
    return torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(1))


def plain():
    torch.manual_seed(0)
    given = {name: SETTINGS[name] for name in ("width", "depth", "num_classes", "channels", "image_size_px")}
    return small_cnn.build(spell_out(FIXED), **given)


def test_the_policy_acts_in_training_mode_only():
    model, reference = network().eval(), plain().eval()
    assert torch.equal(model(images()), reference(images()))
    assert not torch.allclose(model.train()(images()), reference.train()(images()))


def test_a_policy_with_probability_0_does_not_augment():
    assert torch.equal(network(NONE)(images()), plain()(images()))


def test_equal_seeds_give_equal_bits():
    model = network()
    results = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        results.append(model(images()))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_a_resumed_training_is_bit_equal_to_an_uninterrupted_one():
    def train(model, steps):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in steps:
            torch.manual_seed(step)  # as a trainer seeds each step
            optimizer.zero_grad()
            model(images()).square().sum().backward()
            optimizer.step()
        return model

    whole, paused, resumed = train(network(), range(4)), train(network(), range(2)), network()
    resumed.load_state_dict(paused.state_dict())
    train(resumed, range(2, 4))
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_the_policy_has_no_weights_and_no_state():
    model, inner = network(), plain()
    assert list(model.state_dict()) == [f"model.{name}" for name in inner.state_dict()]
    for name, value in inner.state_dict().items():
        assert torch.equal(model.state_dict()[f"model.{name}"], value), "equal seeds give equal weights"
    assert not list(model.policy.parameters())
    model.load_state_dict(network(NONE).state_dict())


def test_attributes_of_the_model_are_forwarded():
    model = network().eval()
    features = model.forward_features(images())
    assert torch.equal(model.forward_head(features), model(images()))
    assert isinstance(model.get_classifier(), nn.Linear)
    assert model.num_classes == 10
    with pytest.raises(AttributeError, match="no_such_thing"):
        model.no_such_thing  # noqa: B018


def test_features_are_those_of_augmented_images_in_training():
    model = network()
    torch.manual_seed(5)
    features = model.forward_features(images())
    torch.manual_seed(5)
    assert torch.equal(model.forward_head(features), model(images()))


def test_width_and_depth_reach_the_model():
    assert network(width=0.5).num_features == 16
    assert len(network(depth=2.0).stages) == 4


def test_every_policy_has_the_zero_cost_scores_of_its_model():
    assert measure_complexity(network(), (1, 16, 16)) == measure_complexity(plain(), (1, 16, 16))


def test_gradients_flow_to_all_weights():
    model = network()
    model(images()).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_randaugment_draws_num_ops_operations():
    for times in (1, 2):
        model = augmented.build({"num_ops": times, "magnitude": 9}, ops=["invert"], **SETTINGS)
        changed = model.policy(images())
        assert torch.allclose(changed, 1 - images() if times == 1 else images(), atol=1e-6)


def test_randaugment_applies_one_magnitude_to_all_operations():
    weak, strong = (
        augmented.build({"num_ops": 1, "magnitude": magnitude}, ops=["brightness"], **SETTINGS) for magnitude in (1, 10)
    )
    change = [(model.policy(images()) - images()).abs().mean() for model in (weak, strong)]
    assert change[0] < 0.3 * change[1]


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({}, "autoaugment needs sub_policies.I.ops.J.* counted from 0, got none"),
        ({"sub_policies.1.ops.0.op": "rotate"}, "counted from 0, got none"),
        ({"sub_policies.0.ops.0.op": "rotate"}, "needs the choice 'sub_policies.0.ops.0.probability'"),
        ({"sub_policies.0.ops.0.probability": 0.5}, "needs the choice 'sub_policies.0.ops.0.op'"),
        (sub_policies([("rotate", 0.5, None)]), "needs the choice 'sub_policies.0.ops.0.magnitude'"),
        (
            sub_policies([("invert", 0.5, 3)]),
            "autoaugment takes the choices .*, got 'sub_policies.0.ops.0.magnitude' too",
        ),
        (sub_policies([("blur", 0.5, 3)]), "op must be one of"),
        (sub_policies([("rotate", "often", 3)]), "probability must be a number from 0 to 1, got 'often'"),
        ({**NONE, "policy": 1}, "autoaugment takes the choices .*, got 'policy' too"),
    ],
)
def test_an_architecture_that_is_not_a_policy_is_refused(architecture, message):
    with pytest.raises(SpaceError, match=message):
        network(architecture)


@pytest.mark.parametrize(
    ("architecture", "ops", "message"),
    [
        ({"num_ops": 1}, OPS, "randaugment needs the choice 'magnitude', got num_ops: add it"),
        ({"num_ops": 0, "magnitude": 3}, OPS, "num_ops must be a whole number of at least 1, got 0"),
        ({"num_ops": 1, "magnitude": 3}, [], "randaugment needs at least 1 op, got none: list ops"),
        ({"num_ops": 1, "magnitude": 30}, OPS, "magnitude must be a number from 0 to 10, got 30"),
        ({"num_ops": 1, "magnitude": 3}, ["blur"], "op must be one of"),
    ],
)
def test_a_randaugment_that_cannot_be_built_is_refused(architecture, ops, message):
    with pytest.raises(SpaceError, match=message):
        augmented.build(architecture, ops=ops, **SETTINGS)


def test_images_that_are_neither_grey_nor_colour_are_refused():
    with pytest.raises(ConfigError, match=r"needs images of 1 channel \(grey\) or 3 \(colour\), got 2 channels"):
        network(channels=2)
