import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasproxy.errors import ConfigError
from nasproxy.proxy import ProxyTask, from_mapping, grid, override


def test_a_scalar_is_one_setting_and_a_list_is_an_axis() -> None:
    assert list(grid({"data_fraction": 0.5})) == ["data50"]
    tasks = grid({"data_fraction": [0.25, 0.5], "width": [0.5, 1.0]})
    assert list(tasks) == ["data25_width50", "data25", "data50_width50", "data50"]
    assert tasks["data25_width50"] == ProxyTask(data_fraction=0.25, width=0.5)


def test_nothing_reduced_is_called_full() -> None:
    assert list(grid({"data_fraction": 1.0})) == ["full"]


@given(st.lists(st.integers(1, 100), min_size=1, max_size=6, unique=True))
def test_every_point_of_a_grid_has_a_name_of_its_own(percents: list[int]) -> None:
    tasks = grid({"data_fraction": [p / 100 for p in percents], "width": [0.5, 1]})
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
        ({"data_fraction": [0.5, 0.5]}, "a name of its own, got 'data50' twice"),
        ({"image_mode": "stretch"}, "image_mode must be one of"),
        ({"colour": 1}, "proxy has no 'colour'"),
        ({}, "at least one proxy task, got none"),
        ({"tasks": [{"name": "a", "width": 0.5}, {"name": "b", "width": 0.5}]}, "got 'a' and 'b' of one setting"),
        ({"tasks": []}, "at least one proxy task"),
        ({"tasks": [{"name": "a"}, {"name": "a", "width": 0.5}]}, "got 'a' twice"),
        ({"tasks": [{"name": "a"}], "width": 0.5}, "axes or a list of tasks, not both"),
        ({"tasks": [{"name": "../up"}]}, "must be 1 to 64 letters"),
        ({"tasks": [{"name": "a", "colour": 1}]}, "no dimension 'colour'"),
        ({"tasks": ["a"]}, "must be a mapping"),
        ({"tasks": {"a": 1}}, "must be a list"),
    ],
)
def test_a_wrong_grid_says_what_was_wanted(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        grid(settings)


def test_a_named_task_may_override_anything() -> None:
    name, task = from_mapping({"name": "small", "width": 0.5, "trainer.batch_size": 32, "training": {"total_steps": 9}})
    assert name == "small"
    assert task == ProxyTask(width=0.5, overrides={"trainer.batch_size": 32, "training.total_steps": 9})


def test_overrides_change_a_copy() -> None:
    tree = {"trainer": {"batch_size": 64, "schedule": {"name": "cosine"}}}
    assert override(tree, {"trainer.schedule.name": "step"})["trainer"]["schedule"]["name"] == "step"
    assert tree["trainer"]["schedule"] == {"name": "cosine"}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("trainer.batchsize", 1, "does not have"),
        ("trainer.batch_size", "big", "a value like 64 was needed"),
        ("trainer.batch_size", 0.5, "a value like 64 was needed"),
        ("trainer.batch_size", True, "a value like 64 was needed"),
    ],
)
def test_an_override_must_fit(path: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override({"trainer": {"batch_size": 64}}, {path: value})  # type: ignore[dict-item]
