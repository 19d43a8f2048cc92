"""The debug study, run once for all tests that look at it or continue a copy of it."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers import cli
from nasproxy.storage.locks import FileLock


@dataclass(frozen=True)
class DebugStudy:
    """The study of `experiment=debug`, which no test may change.

    Attributes:
        folder: Folder of the studies.
        output: Output of the command.
    """

    folder: Path
    output: str

    def copy_to(self, folder: Path) -> Path:
        """Copy the study to another folder of studies, and return the copy's folder."""
        return Path(shutil.copytree(self.folder / "debug", folder / "debug"))


@pytest.fixture(scope="session")
def debug_study(tmp_path_factory: pytest.TempPathFactory) -> DebugStudy:
    """Run all stages of `experiment=debug`, once for all workers of pytest."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "debug-study"
    with FileLock(folder / "pytest.lock").hold("the debug study", wait_seconds=None):
        kept = folder / "output.txt"
        if not kept.exists():
            code, output = cli.run("experiment=debug", folder=folder)
            assert code == 0, output
            kept.write_text(output, encoding="utf-8")
    return DebugStudy(folder, kept.read_text(encoding="utf-8"))
