"""All search spaces of conf/search_space: architectures can be built and trained, sizes are as published."""

from functools import cache

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch.nn.functional import cross_entropy

from helpers.cli import ROOT
from helpers.networks import weights
from nasproxy.config import schema
from nasproxy.models.complexity import count_flops
from nasproxy.space import SearchSpace
from nasproxy.targets import build_target
from nasproxy.trials.identity import list_arguments

CLASSES, CHANNELS, SIDE, IMAGES = 10, 3, 32, 8
SPACES = sorted(path.stem for path in (ROOT / "conf" / "search_space").glob("*.yaml"))
WITHOUT_MODEL = ["synthetic", "table"]
"""Spaces without a model builder."""
WITH_MODEL = [name for name in SPACES if name not in WITHOUT_MODEL]


@cache
def config(name, *, resolve=True):
    """Load a file of conf/search_space."""
    schema.register_schema()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return OmegaConf.to_container(compose("config", [f"search_space={name}"]).search_space, resolve=resolve)


def space(name):
    node = config(name)
    return SearchSpace(name=node["name"], choices=node["choices"], baseline=node["baseline"])


def network(name, architecture, *, width=1.0, depth=1.0):
    return build_target(
        "search_space.model",
        list_arguments(config(name)["model"]),
        architecture=dict(architecture),
        width=width,
        depth=depth,
        num_classes=CLASSES,
        channels=CHANNELS,
        image_size_px=SIDE,
    )


def train_and_count(name, architecture):
    """Build an architecture, run it forward and backward, count its FLOPs, and return the number of weights."""
    torch.manual_seed(0)
    model = network(name, architecture)
    # With few images and features of one pixel, batch-norm variances are near 0 and gradients overflow.
    scores = model(torch.randn(IMAGES, CHANNELS, SIDE, SIDE))
    assert scores.shape == (IMAGES, CLASSES), architecture
    cross_entropy(scores, torch.arange(IMAGES) % CLASSES).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{parameter_name} takes no part in {architecture}"
        assert torch.isfinite(parameter.grad).all(), f"{parameter_name} has no finite gradient in {architecture}"
    with torch.device("meta"):
        shapes = network(name, architecture).eval()
    assert weights(shapes) == weights(model)
    assert count_flops(shapes, (CHANNELS, SIDE, SIDE)) > 0, architecture
    return weights(model)


@pytest.mark.parametrize("name", WITHOUT_MODEL)
def test_spaces_without_models_have_no_builder(name):
    assert "_target_" not in config(name, resolve=False)["model"]


@pytest.mark.gate
@pytest.mark.parametrize("name", WITH_MODEL)
def test_the_baseline_and_some_samples_train(name):
    examined = space(name)
    for architecture in (examined.baseline, *examined.sample(1, seed=0)):
        assert train_and_count(name, architecture) > 0


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("name", WITH_MODEL)
def test_two_hundred_samples_train(name, part):
    """Test four parts separately to keep each test short; test smaller spaces completely."""
    examined = space(name)
    for architecture in examined.sample(min(200, examined.size), seed=1)[part::4]:
        assert train_and_count(name, architecture) > 0


@pytest.mark.parametrize("name", WITH_MODEL)
def test_proxy_tasks_make_the_baseline_smaller(name):
    baseline = space(name).baseline
    full, narrow, shallow = (network(name, baseline, **scale) for scale in ({}, {"width": 0.5}, {"depth": 0.5}))
    assert weights(narrow) < 0.6 * weights(full)
    assert weights(shallow) <= weights(full)


@pytest.mark.parametrize(
    ("name", "points", "size"),
    [
        ("mnasnet", 9_749_755_840_167_936, 224_084_231_917_056),
        ("mnasnet_a1", 9_749_755_840_167_936, 224_084_231_917_056),
        ("efficientnet_v2", 24_346_898_290_704_384, 24_346_898_290_704_384),
    ],
)
def test_sizes_are_those_of_vertex_ai_nas(name, points, size):
    """Count 216 or 144 points per block, of which 126 or 84 differ, to the power of the blocks; 576 or 384."""
    assert space(name).points == points
    assert space(name).size == size
    assert space(name).decisions == 42


def test_mobilenet_v3_has_the_size_of_once_for_all():
    assert space("mobilenet_v3").size == sum((3 * 3) ** depth for depth in (2, 3, 4)) ** 5
    assert space("mobilenet_v3").decisions == 5 * (1 + 2 * 4)
