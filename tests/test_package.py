"""The installed wheel, without access to the clone."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from helpers.cli import ROOT

pytestmark = pytest.mark.gate

FEW = (
    *("criterion=first_crossing", "references.initial=5", "references.max=0", "variance.seeds=3"),
    *("cost.estimate_first=false", "controller.poll_seconds=0.05"),
)
"""A study that runs through all stages: what is tested is where the installed package finds its files."""


def execute(command: Sequence[str | Path], cwd: Path, *, expected: int = 0) -> str:
    """Run a command without this checkout on its path, and return its output."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ended = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == expected, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def content(wheel: Path) -> set[str]:
    """List the files of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Build the wheel directly and from the sdist."""
    direct, by_sdist = tmp_path_factory.mktemp("direct"), tmp_path_factory.mktemp("by_sdist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir"]
    execute([*build, direct, "--wheel", ROOT], cwd=direct)
    execute([*build, by_sdist, ROOT], cwd=by_sdist)
    (first,), (second,) = direct.glob("*.whl"), by_sdist.glob("*.whl")
    return first, second


@pytest.fixture(scope="module")
def command(wheels: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel in an environment that uses this one's packages, but not this checkout."""
    folder = tmp_path_factory.mktemp("environment")
    execute([sys.executable, "-m", "venv", "--without-pip", folder], cwd=folder)
    (site,) = (folder / "lib").glob("python*/site-packages")
    installer = [sys.executable, "-m", "pip", f"--python={folder / 'bin' / 'python'}"]
    execute([*installer, "install", "--quiet", "--no-deps", "--no-index", wheels[0]], cwd=folder)
    # .pth files in a folder that a .pth file adds are not read, so the editable install has no effect.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "nasproxy"


def test_both_wheels_have_equal_files_including_conf_and_trainers(wheels: tuple[Path, Path]) -> None:
    direct, by_sdist = map(content, wheels)
    assert direct == by_sdist
    assert {name.split("/")[0] for name in direct if ".dist-info/" not in name} == {"nasproxy"}
    assert {"nasproxy/conf/config.yaml", "nasproxy/trainers/command.py", "nasproxy/report/page.html.jinja"} <= direct
    assert not {name for name in direct if name.endswith(".pth")}


def test_the_wheel_adds_only_the_package_to_site_packages(command: Path) -> None:
    (site,) = (command.parent.parent / "lib").glob("python*/site-packages")
    names = {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")}
    assert names == {"nasproxy", "borrowed.pth"}
    assert "site-packages/nasproxy" in execute(
        [command.with_name("python"), "-c", "import nasproxy; print(nasproxy)"], site
    )


def test_the_command_runs_from_an_empty_folder(command: Path, tmp_path: Path) -> None:
    output = execute([command, "experiment=debug", "proxy=data50", *FEW], tmp_path)
    assert "report: " in output
    assert (tmp_path / "studies" / "debug" / "report" / "index.html").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"studies"}
    program = "import nasproxy; print(len(nasproxy.load_study('studies/debug').trials), 'trials')"
    trials = len(list((tmp_path / "studies" / "debug" / "trials").glob("*/config.yaml")))
    assert execute([command.with_name("python"), "-c", program], tmp_path) == f"{trials} trials\n"


def test_the_command_prints_its_version(command: Path, tmp_path: Path) -> None:
    assert execute([command, "--version"], tmp_path) == "nasproxy 0.1.0\n"
    assert execute([command.with_name("python"), "-m", "nasproxy", "--version"], tmp_path) == "nasproxy 0.1.0\n"


def test_the_command_completes_names_in_a_shell(command: Path, tmp_path: Path) -> None:
    assert "complete -o nospace" in execute([command, "-sc", "install=bash"], tmp_path)
    program = (
        f'eval "$({command} -sc install=bash)"; COMP_LINE="{command} experiment=deb"; COMP_POINT=${{#COMP_LINE}}; '
        f"{command} -sc query=bash"
    )
    assert "experiment=debug" in execute(["bash", "-c", f"export COMP_LINE COMP_POINT; {program}"], tmp_path)


@pytest.mark.parametrize("sweep", [[], ["-m"]])
def test_controller_and_workers_find_modules_in_the_working_directory_and_next_to_a_config_folder(
    command: Path, tmp_path: Path, sweep: list[str]
) -> None:
    work, elsewhere = tmp_path / "work", tmp_path / "elsewhere"
    (elsewhere / "my_conf" / "trainer").mkdir(parents=True)
    work.mkdir()
    (elsewhere / "my_trainer.py").write_text("from nasproxy.testing.synthetic import train\n")
    (elsewhere / "my_conf" / "trainer" / "mine.yaml").write_text(
        "_target_: my_trainer.train\nversion: 1\nnoise: 0.01\n"
    )
    (work / "my_tasks.py").write_text("def tasks():\n    return [{'name': 'half', 'width': 0.5}]\n")
    overrides = ["trainer=mine", "proxy=generator", "proxy.generator._target_=my_tasks.tasks", "confirm.enabled=false"]
    arguments = [
        *sweep,
        "--config-dir",
        elsewhere / "my_conf",
        "experiment=debug",
        *overrides,
        *FEW,
    ]
    output = execute([command, *arguments], work)
    assert "Accepted: half" in output
