"""A proxy task keeps the name that its user typed."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import open_dict

from nasproxy.config import schema
from nasproxy.config.builder import StudyBuilder
from nasproxy.config.typed_task import keep_typed_name

CONF = Path(__file__).resolve().parents[2] / "conf"


@pytest.fixture
def own(tmp_path: Path) -> str:
    """Write a folder with a user's own choices; return the override that adds it."""
    (tmp_path / "proxy" / "mine").mkdir(parents=True)
    (tmp_path / "experiment").mkdir()
    (tmp_path / "proxy" / "tiny.yaml").write_text("data_fraction: 0.25\nwidth: 0.5\n")
    (tmp_path / "proxy" / "merged.yaml").write_text("defaults: [data50, width50]\n")
    (tmp_path / "proxy" / "listed.yaml").write_text("width: [0.25]\naugmentation: follow\n")
    (tmp_path / "proxy" / "mine" / "sub.yaml").write_text("# @package proxy\nwidth: 0.3\n")
    (tmp_path / "experiment" / "wide.yaml").write_text(
        "# @package _global_\ndefaults: [override /proxy: tiny]\nproxy: {width: 0.75}\n"
    )
    return f"hydra.searchpath=[{tmp_path}]"


def name_tasks(*overrides: str) -> list[str]:
    schema.register_schema()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", ["experiment=debug", *overrides], return_hydra_config=True)
        hydra = config.hydra
        with open_dict(config):
            del config["hydra"]
        return list(StudyBuilder(keep_typed_name(schema.read_config(config), hydra)).tasks)


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("compound_minus1", "compound_minus1"),
        ("image75_crop", "image75_crop"),
        ("data50", "data50"),
        ("tiny", "tiny"),
        ("merged", "merged"),
        ("listed", "listed"),
        ("mine/sub", "mine-sub"),
    ],
)
def test_a_single_file_names_its_task(own: str, typed: str, name: str) -> None:
    assert name_tasks(own, f"proxy={typed}") == [name]


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["proxy=tiny", "proxy.width=0.75"], ["data25_width75"]),
        (["proxy=tiny", "+proxy.devices=2"], ["data25_width50_devices2"]),
        (["proxy=image75", "proxy.image_mode=crop"], ["image75_crop"]),
        (["proxy=image75_crop", "proxy.image_mode=resize"], ["image75"]),
        (["proxy=[data50,image75_crop]"], ["data50_image75_crop"]),
        (["proxy=[tiny]"], ["data25_width50"]),
        (["proxy=width"], ["width50", "full"]),
        (["proxy=full", "proxy.compound=-1", "proxy.image_mode=crop"], ["compound-1_crop"]),
        (["experiment=wide"], ["data25_width75"]),
        (["proxy=custom", "proxy.tasks=[{name: typed, width: 0.5}]"], ["typed"]),
    ],
)
def test_any_other_setting_is_named_by_its_values(own: str, overrides: list[str], names: list[str]) -> None:
    assert name_tasks(own, *overrides) == names
