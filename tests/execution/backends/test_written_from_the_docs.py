"""The backend and the test of docs/backends.md, written to files outside the package, pass as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.cli import ROOT

FORKS = """
from types import SimpleNamespace

import popen_backend
import pytest
import torch
from helpers.forked_worker import ForkedWorker


@pytest.fixture(autouse=True)
def fork_workers(request, monkeypatch):
    if "process_is_killed" not in request.node.name:
        monkeypatch.setattr(popen_backend, "subprocess", SimpleNamespace(Popen=ForkedWorker, DEVNULL=None))
"""
"""A conftest with which only the workers of one test are new interpreters; each takes seconds to start."""


@pytest.mark.parametrize(
    "conftest",
    [
        pytest.param(FORKS, id="forked", marks=pytest.mark.gate),
        pytest.param("", id="as_it_stands", marks=pytest.mark.slow),
    ],
)
def test_the_backend_of_the_docs_passes_the_contract_suite(tmp_path: Path, conftest: str) -> None:
    page = (ROOT / "docs" / "backends.md").read_text()
    backend, suite = (
        code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if code.startswith(("import", "from"))
    )
    (tmp_path / "popen_backend.py").write_text(backend)
    (tmp_path / "test_popen.py").write_text(suite)
    (tmp_path / "conftest.py").write_text(conftest)
    path = os.pathsep.join([str(tmp_path), str(ROOT), str(ROOT / "tests")])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", "test_popen.py"]
    ended = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout
    assert "10 passed" in ended.stdout
