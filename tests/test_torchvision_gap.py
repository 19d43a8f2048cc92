import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
import torch

from nasproxy import torchvision_gap
from nasproxy.execution.host.fork_server import FRAMEWORKS
from nasproxy.torchvision_gap import GapFinder, close_gap, install, loads


def run(program: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *options, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", timeout=120)


def cannot_load(path: str) -> None:
    raise OSError(f"could not load {path}")


@pytest.fixture
def library(tmp_path: Path) -> str:
    """Provide a folder with an extension module."""
    (tmp_path / f"_C{EXTENSION_SUFFIXES[-1]}").touch()
    return str(tmp_path)


@pytest.mark.parametrize("package", ["nasproxy.models", "nasproxy.cli.hydra_app"])
def test_a_process_that_imports_one_of_our_packages_first_can_import_timm(package: str) -> None:
    ended = run(f"import {package}, timm; print(timm.create_model('test_resnet').__class__.__name__)")
    assert (ended.stdout.strip(), ended.returncode) == ("ResNet", 0), ended.stderr


def test_the_warm_server_imports_it_before_anything_else() -> None:
    assert FRAMEWORKS[0] == torchvision_gap.__name__


def test_other_programs_of_the_environment_are_not_affected() -> None:
    installed = run("import sys; print(any('GapFinder' in str(finder) for finder in sys.meta_path))")
    assert installed.stdout.strip() == "False", installed.stderr


def test_a_torchvision_whose_extension_module_loads_is_not_changed(library: str) -> None:
    loaded: list[str] = []
    assert not close_gap([library], loaded.append)
    assert loaded == [str(next(Path(library).iterdir()))]


def test_operators_are_declared_if_the_extension_module_is_missing_or_does_not_load(
    library: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert not loads([library], cannot_load)
    assert not loads([str(tmp_path_factory.mktemp("empty"))], print)
    assert close_gap([library], cannot_load)
    for name in torchvision_gap.MISSING_OPERATORS:
        schema = str(getattr(torch.ops.torchvision, name).default._schema)
        assert schema == f"torchvision::{name}{torchvision_gap.SCHEMA}"


def test_torchvision_keeps_its_original_loader() -> None:
    import torchvision

    assert type(torchvision.__spec__.loader).__module__ != torchvision_gap.__name__
    assert torchvision.__loader__ is torchvision.__spec__.loader


def test_the_finder_finds_torchvision_only() -> None:
    finder = GapFinder()
    assert finder.find_spec("torch") is None
    assert finder.find_spec("torchvision.ops") is None
    spec = finder.find_spec("torchvision")
    assert spec is not None
    assert spec.name == "torchvision"


def test_installing_twice_installs_once() -> None:
    before = list(sys.meta_path)
    install()
    install()
    assert sum(isinstance(finder, GapFinder) for finder in sys.meta_path) <= 1
    sys.meta_path[:] = before
