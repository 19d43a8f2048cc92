import math
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st

from helpers.cli import ROOT
from nasproxy.config import schema
from nasproxy.config.builder import StudyBuilder
from nasproxy.errors import ConfigError
from nasproxy.trials.grid import follow_strength, read_task, scale_compound, span_grid
from nasproxy.trials.overrides import apply_overrides
from nasproxy.trials.proxy_task import ProxyTask


def test_a_scalar_is_one_value_and_a_list_is_an_axis() -> None:
    assert list(span_grid({"data_fraction": 0.5})) == ["data50"]
    tasks = span_grid({"data_fraction": [0.25, 0.5], "width": [0.5, 1.0]})
    assert list(tasks) == ["data25_width50", "data25", "data50_width50", "data50"]
    assert tasks["data25_width50"] == ProxyTask(data_fraction=0.25, width=0.5)


def test_a_task_that_reduces_nothing_is_named_full() -> None:
    assert list(span_grid({"data_fraction": 1.0})) == ["full"]


@given(st.lists(st.integers(1, 100), min_size=1, max_size=6, unique=True))
def test_every_point_of_a_grid_has_a_unique_name(percents: list[int]) -> None:
    tasks = span_grid({"data_fraction": [p / 100 for p in percents], "width": [0.5, 1]})
    assert len(tasks) == 2 * len(percents)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data_fraction": 50}, r"must lie in \(0, 1\], got 50: give a fraction, 0.5, not a percentage"),
        ({"data_fraction": 0.0}, r"must lie in \(0, 1\], got 0"),
        ({"data_fraction": "half"}, "must be a number, got 'half'"),
        ({"width": True}, "must be a number, got True"),
        ({"width": 50}, r"multiplier in \(0, 10\], got 50: give a fraction, 0.5"),
        ({"data_fraction": []}, "at least one value, got an empty list"),
        ({"data_fraction": [0.5, 0.5]}, "must be unique, got 'data50' twice"),
        ({"image_mode": "stretch"}, "image_mode must be one of"),
        ({"colour": 1}, "proxy has no 'colour'"),
        ({"compound": "small"}, "proxy.compound must be a number, got 'small'"),
        ({"compound": math.nan}, "proxy.compound must be a number, got nan"),
        ({"compound": [-1, 1]}, "must be at most 0, got 1: images cannot be larger than full training's"),
        ({"compound": -1, "depth": 0.5}, "sets width, depth and image_size together, got depth as well"),
        ({"tasks": [{"compound": -1, "width": [0.5]}]}, "sets width, depth and image_size together, got width"),
        ({"compound": [-1, -1]}, "must be unique, got 'compound-1' twice"),
        ({"augmentation": "strong"}, "proxy.augmentation must be a number, got 'strong'"),
        ({"width": "follow"}, "proxy.width must be a number, got 'follow'"),
        ({"width": 0.5, "augmentation": ["follow", "follow"]}, "must be unique, got 'width50_augment50' twice"),
        ({}, "at least one proxy task, got none"),
        ({"tasks": [{"name": "a", "width": 0.5}, {"name": "b", "width": 0.5}]}, "got 'a' and 'b' with equal settings"),
        ({"tasks": []}, "at least one proxy task"),
        ({"compound": "small", "width": 0.5}, "proxy.compound must be a number, got 'small'"),
        ({"tasks": [{"name": "a"}, {"name": "a", "width": 0.5}]}, "got 'a' twice"),
        ({"tasks": [{"name": "a"}], "width": 0.5}, "axes or a list of tasks, not both"),
        ({"tasks": [{"name": "../up"}]}, "must be 1 to 64 letters"),
        ({"tasks": [{"name": "a", "colour": 1}]}, "no dimension 'colour'"),
        ({"tasks": ["a"]}, "must be a mapping"),
        ({"tasks": {"a": 1}}, "must be a list"),
    ],
)
def test_an_invalid_grid_is_refused_with_what_is_needed(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        span_grid(settings)


def test_a_listed_task_may_override_any_value() -> None:
    name, task = read_task({"name": "small", "width": 0.5, "trainer.batch_size": 32, "training": {"total_steps": 9}})
    assert name == "small"
    assert task == ProxyTask(width=0.5, overrides={"trainer.batch_size": 32, "training.total_steps": 9})


def test_any_value_may_be_null_and_empty_mappings_take_new_keys() -> None:
    tree = {"trainer": {"clip_norm": 1.0, "optimizer_options": {}}}
    changed = apply_overrides(tree, {"trainer.clip_norm": None, "trainer.optimizer_options.eps": 0.001})
    assert changed == {"trainer": {"clip_norm": None, "optimizer_options": {"eps": 0.001}}}


def test_images_that_are_cropped_have_a_name_of_their_own() -> None:
    grid = {"data_fraction": [0.5, 1.0], "image_size": [0.75, 1.0], "image_mode": "crop"}
    assert list(span_grid(grid)) == ["data50_image75_crop", "data50", "image75_crop", "full"]
    assert list(span_grid({"compound": -1, "image_mode": "crop"})) == ["compound-1_crop"]


@pytest.mark.parametrize("name", [5, True, 1.5, ["a"], {}])
def test_a_name_that_is_not_text_is_refused(name: object) -> None:
    with pytest.raises(ConfigError, match=r"a proxy task's name must be text, got .*: quote it"):
        span_grid({"tasks": [{"name": name, "width": 0.5}]})


@pytest.mark.parametrize("dimension", ["data_fraction", "image_size", "width", "depth", "batch_size"])
def test_a_share_of_almost_nothing_is_refused(dimension: str) -> None:
    with pytest.raises(ConfigError, match=rf"proxy.{dimension} must be at least 0.0001, got 1e-300"):
        span_grid({dimension: 1e-300})


def test_image_mode_does_not_distinguish_tasks_at_full_image_size() -> None:
    with pytest.raises(ConfigError, match="with equal settings"):
        span_grid({"tasks": [{"name": "a", "width": 0.5}, {"name": "b", "width": 0.5, "image_mode": "crop"}]})


def test_overrides_change_a_copy() -> None:
    tree = {"trainer": {"batch_size": 64, "schedule": {"name": "cosine"}}}
    assert apply_overrides(tree, {"trainer.schedule.name": "step"})["trainer"]["schedule"]["name"] == "step"
    assert tree["trainer"]["schedule"] == {"name": "cosine"}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("trainer.batchsize", 1, "does not have"),
        ("trainer.batch_size", "big", "must be a value like 64, got"),
        ("trainer.batch_size", 0.5, "must be a value like 64, got"),
        ("trainer.batch_size", True, "must be a value like 64, got"),
    ],
)
def test_an_override_of_an_unknown_path_or_another_type_is_refused(path: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        apply_overrides({"trainer": {"batch_size": 64}}, {path: value})  # type: ignore[dict-item]


def test_compound_scaling_follows_efficientnet() -> None:
    assert scale_compound(0) == {"width": 1.0, "depth": 1.0, "image_size": 1.0}
    task = span_grid({"compound": -1})["compound-1"]
    assert task == ProxyTask(width=0.9091, depth=0.8333, image_size=0.8696)
    for phi in (-1, -2, -3):
        scaled = scale_compound(phi)
        work = scaled["width"] ** 2 * scaled["depth"] * scaled["image_size"] ** 2
        assert work == pytest.approx((1.1**2 * 1.2 * 1.15**2) ** phi, rel=1e-3)


def test_compound_scaling_is_one_axis_with_one_name() -> None:
    tasks = span_grid({"data_fraction": [0.5, 1.0], "compound": [-2, -0.5, 0], "batch_size": 0.5})
    assert list(tasks) == [
        "data50_compound-2_batch50",
        "data50_compound-0.5_batch50",
        "data50_batch50",
        "compound-2_batch50",
        "compound-0.5_batch50",
        "batch50",
    ]
    assert tasks["compound-2_batch50"] == ProxyTask(width=0.8264, depth=0.6944, image_size=0.7561, batch_size=0.5)


def test_a_listed_task_may_use_compound_scaling() -> None:
    listed = [{"name": "b-1", "compound": -1, "image_mode": "crop"}, {"compound": -2, "trainer.batch_size": 8}]
    tasks = span_grid({"tasks": listed})
    assert tasks["b-1"] == ProxyTask(**scale_compound(-1), image_mode="crop")
    assert tasks["compound-2_batch_size-8"] == ProxyTask(**scale_compound(-2), overrides={"trainer.batch_size": 8})


def test_equal_settings_under_two_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="got 'a' and 'b' with equal settings"):
        span_grid({"tasks": [{"name": "a", "compound": -1}, {"name": "b", **scale_compound(-1)}]})


@pytest.mark.parametrize(
    ("scale", "strength"),
    [
        ({}, 1.0),
        ({"width": 0.5}, 0.5),  # a quarter of the work
        ({"depth": 0.5}, 0.75),
        ({"image_size": 0.5}, 0.5),
        ({"image_size": 0.75}, 0.7925),
        ({"width": 0.25, "image_size": 0.5}, 0.0),
        ({"width": 2.0}, 1.0),
        ({"compound": -1}, 0.7647),
    ],
)
def test_a_following_strength_depends_on_the_computation_of_a_step(scale: dict[str, float], strength: float) -> None:
    ((_, task),) = span_grid({**scale, "regularisation": "follow", "augmentation": "follow"}).items()
    assert task.regularisation == task.augmentation == pytest.approx(strength, abs=1e-3)
    assert read_task({**scale, "regularisation": "follow"})[1].regularisation == task.regularisation


def test_following_strengths_agree_with_published_efficientnet_settings() -> None:
    largest_image = follow_strength(1.0, 1.0, 1.0)
    smallest_image = follow_strength(1.0, 1.0, 128 / 300)
    assert 15 * smallest_image / largest_image == pytest.approx(5, abs=1), "EfficientNetV2-S: RandAugment from 5 to 15"
    assert 0.3 * smallest_image == pytest.approx(0.1, abs=0.02), "and dropout from 0.1 to 0.3"
    doublings = math.log2(37 / 0.39)  # FLOPs of B7 against those of B0
    assert (0.5 - 0.2) / 0.2 / doublings == pytest.approx(0.25, abs=0.03), (
        "B0 to B7: a quarter of B0's with each doubling"
    )


def test_follow_may_be_one_value_of_an_axis() -> None:
    tasks = span_grid({"width": [0.5, 1.0], "regularisation": ["follow", 1.0]})
    assert {name: task.regularisation for name, task in tasks.items()} == {
        "width50_regular50": 0.5,
        "width50": 1.0,
        "full": 1.0,
    }, "at full width the following strength equals 1.0, so one point is left"


def compose_tasks(*overrides: str) -> dict[str, ProxyTask]:
    schema.register_schema()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return StudyBuilder(schema.read_config(compose("config", list(overrides)))).tasks


FILES = sorted(path.stem for path in Path(ROOT, "conf", "proxy").glob("*.yaml"))


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("custom", "generator", "table")])
def test_every_proxy_file_spans_a_grid_and_begins_with_a_comment(name: str) -> None:
    tasks = compose_tasks(f"proxy={name}")
    assert Path(ROOT, "conf", "proxy", f"{name}.yaml").read_text().startswith("# ")
    is_axis = name in (
        "augmentation",
        "batch",
        "compound",
        "data",
        "depth",
        "devices",
        "image",
        "regularisation",
        "width",
    )
    assert (len(tasks) > 1) == is_axis
    if not is_axis and name != "follow":
        assert list(tasks) == [name.replace("_minus", "-")], "the name that its values give"


def test_proxy_files_combine() -> None:
    both = ProxyTask(data_fraction=0.5, width=0.5)
    for order in ("[data50,width50]", "[width50,data50]"):
        assert compose_tasks(f"proxy={order}") == {"data50_width50": both}
    assert list(compose_tasks("proxy=[data50,compound_minus1,follow]")) == [
        "data50_compound-1_augment76.47_regular76.47"
    ]
    assert list(compose_tasks("proxy=[image75,follow]", "proxy.augmentation=null")) == ["image75_regular79.25"]
    assert list(compose_tasks("proxy=data50", "proxy.compound=-1.5")) == ["data50_compound-1.5"]
