"""The README's worked examples, run unchanged."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from helpers import cli
from nasproxy.config.compose import compose_config
from nasproxy.stages.proxy_search.state import read_tasks
from nasproxy.storage.study_stores import FolderStudyStore

README = (cli.ROOT / "README.md").read_text()
SHORT = (
    "training.total_steps=40",
    "training.check_every_steps=10",
    "variance.seeds=2",
    "variance.min_seeds=2",
    "variance.on_failure=warn",
    "references.initial=5",
    "references.max=0",
    "proxy=width50",
    "criterion=first_crossing",
    "criterion.target=0.1",
    "cost.estimate_first=false",
)


def section(title: str) -> str:
    """Return the text between a heading and the next."""
    found = re.search(rf"### {title}\n(.*?)\n##", README, flags=re.DOTALL)
    assert found, title
    return found.group(1)


def blocks(text: str) -> dict[str, str]:
    """Return code blocks by the file name in their first line; the block without one is the command."""
    found = re.findall(r"```\w*\n(.*?)```", text, flags=re.DOTALL)
    named = {}
    for block in found:
        first = re.match(r"# (\S+)\n", block)
        named[first.group(1) if first else "command"] = block
    return named


@pytest.mark.gate
@pytest.mark.parametrize("title", ["Your own model", "Your own data", "Your own trainer"])
def test_a_worked_example_designs_a_proxy_task(tmp_path: Path, title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    example = blocks(section(title))
    words = shlex.split(example.pop("command"), comments=True)
    assert words[:2] == ["python", "run.py"]
    for name, text in example.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    code, output = cli.run("--config-dir", str(tmp_path / "conf"), *words[2:], *SHORT, folder=tmp_path / "studies")
    assert code == 0, output
    (folder,) = (tmp_path / "studies").iterdir()
    assert set(read_tasks(FolderStudyStore(folder))) == {"width50"}
    assert (folder / "report" / "index.html").exists()


def test_every_override_that_the_readme_shows_composes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    Path("curves.csv").write_text("architecture,proxy,seed,step,score,train_seconds\na,full,0,1,0.5,1\n")
    commands = [
        shlex.split(line, comments=True)[2:]
        for line in section_use().splitlines()
        if line.startswith("python run.py") and "--help" not in line
    ]
    assert len(commands) > 8
    for overrides in commands:
        if overrides[:1] == ["-m"]:
            overrides = [override.replace("data25,data50,data75", "data25") for override in overrides[1:]]
        compose_config(overrides)


def section_use() -> str:
    found = re.search(r"## Use\n(.*?)\n## ", README, flags=re.DOTALL)
    assert found
    return found.group(1)
