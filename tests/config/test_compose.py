"""Composition in a program that may itself be a Hydra application."""

import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from nasproxy.config.compose import compose_config
from nasproxy.errors import ConfigError


@pytest.fixture(autouse=True)
def own_search_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_repeated_compositions_are_independent_and_do_not_change_hydra() -> None:
    assert compose_config(["proxy=data50", "seed=3"]).seed == 3
    assert compose_config(["proxy=data50"]).seed == 0
    with pytest.raises(ConfigError, match="the configuration has no sed: did you mean seed"):
        compose_config(["sed=3"])
    assert compose_config().study == "digits"
    assert not GlobalHydra.instance().is_initialized()


def test_a_hydra_application_keeps_its_own_configuration(tmp_path: Path) -> None:
    write(tmp_path / "config.yaml", "mine: 1")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        assert compose_config(["seed=3"]).seed == 3
        assert compose("config") == {"mine": 1}


def test_a_config_folder_adds_choices_and_its_parent_is_searched_for_modules(tmp_path: Path) -> None:
    folder = tmp_path / "with, 'marks' and \"spaces\"" / "conf"
    write(folder / "proxy" / "mine.yaml", "# @package proxy\nwidth: 0.3")
    assert compose_config(["proxy=mine"], config_dir=folder).proxy.tasks == [{"name": "mine", "width": 0.3}]
    assert sys.path[:2] == [str(Path.cwd()), str(folder.parent)]
    with pytest.raises(ConfigError, match="proxy has no choice 'mine'"):
        compose_config(["proxy=mine"])


def test_a_missing_config_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"config_dir must be a folder of configuration files, got {tmp_path}/conf"):
        compose_config(config_dir=tmp_path / "conf")
