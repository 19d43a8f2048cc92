"""Replays from the command line, as described in docs/replay.md."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import cli
from nasproxy.testing import curves

KINDS = {"fast": "steady", "never": "hopeless"}
COSTS = {"fast": 0.2, "never": 0.4}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("replay") / "curves.csv"
    noise = curves.Noise(early=0.5, late=0.02)
    curves.write_table(path, curves.generate_rows(architectures=60, checks=12, proxies=KINDS, costs=COSTS, noise=noise))
    return path


def replay(table: Path, folder: Path, *overrides: str) -> tuple[int, str]:
    small = ("references.max=0", "criterion=first_crossing")
    flags = [override for override in overrides if override.startswith("-")]  # Hydra requires them before all overrides
    others = [override for override in overrides if override not in flags]
    return cli.run(*flags, "backend=replay", f"backend.table={table}", *small, *others, folder=folder)


def decided(folder: Path, name: str) -> dict[str, Any]:
    """Read the state of each proxy task."""
    tasks = (folder / name / "proxy_search" / "tasks").glob("*.json")
    return {path.stem: json.loads(path.read_text()) for path in sorted(tasks)}


def test_a_replayed_study_writes_a_report_and_decides_the_same_when_repeated(table: Path, tmp_path: Path) -> None:
    status, output = replay(table, tmp_path, "study=one")
    assert status == 0, output
    assert "Accepted: fast" in output
    assert (tmp_path / "one" / "report" / "index.html").exists()
    first = decided(tmp_path, "one")
    status, output = replay(table, tmp_path, "study=one")
    assert status == 0, output
    assert decided(tmp_path, "one") == first


def test_a_larger_grid_extends_a_study(table: Path, tmp_path: Path) -> None:
    assert replay(table, tmp_path, "study=one", "backend.proxies=[fast]")[0] == 0
    first = decided(tmp_path, "one")["fast"]
    status, output = replay(table, tmp_path, "study=one", "backend.proxies=[fast,never]")
    assert status == 0, output
    both = decided(tmp_path, "one")
    assert (both["fast"], set(both)) == (first, {"fast", "never"})


def test_the_proxies_of_a_table_are_swept(table: Path, tmp_path: Path) -> None:
    status, output = replay(table, tmp_path, "-m", "study=swept", "backend.proxies=[fast],[never]")
    assert status == 0, output
    assert set(decided(tmp_path, "swept")) == {"fast", "never"}


def test_a_study_refuses_another_table(table: Path, tmp_path: Path) -> None:
    assert replay(table, tmp_path, "study=one")[0] == 0
    other = tmp_path / "curves.csv"
    other.write_text(table.read_text().replace("model000001", "another"))
    status, output = replay(other, tmp_path, "study=one")
    assert status == 2
    assert re.search("nasproxy: .*one", output)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("backend.table=nowhere.csv", "backend.table needs a file with a table of learning curves, got nowhere.csv"),
        ("backend.direction=min", "backend.direction is named metric.mode now: set metric.mode instead"),
        ("backend.proxies=[third]", "backend.proxies must list proxies of the table"),
        ("training.check_at=[1,2]", "training.check_at cannot be set with backend=replay"),
    ],
)
def test_invalid_replays_are_refused_without_a_traceback(
    table: Path, tmp_path: Path, override: str, message: str
) -> None:
    status, output = replay(table, tmp_path, override)
    assert status == 2, output
    assert message in output
    assert "Traceback" not in output


def test_the_script_in_the_docs_converts_logs_to_a_table(tmp_path: Path) -> None:
    script = re.search(r"```python\n(.*?)```", (cli.ROOT / "docs" / "replay.md").read_text(), re.DOTALL)
    assert script is not None
    random = np.random.default_rng(0)
    for model in range(30):
        for proxy, cost in (("full", 1.0), ("small", 0.25)):
            log = tmp_path / "logs" / f"model{model}" / proxy / "0.jsonl"
            log.parent.mkdir(parents=True)
            scores = (model * step / 300 + 0.05 * random.normal() for step in range(1, 9))
            checks = [{"step": i + 1, "accuracy": score, "seconds": cost * (i + 1)} for i, score in enumerate(scores)]
            log.write_text("".join(json.dumps(check) + "\n" for check in checks))
    subprocess.run([sys.executable, "-c", script[1]], cwd=tmp_path, check=True)
    status, output = replay(tmp_path / "curves.csv", tmp_path / "studies", "study=logs")
    assert status == 0, output
    assert "Accepted: small" in output
