"""Ctrl-C at any time: a one-line message, exit status 130, and no remaining process."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers import cli

INTERRUPTED = "nasproxy: interrupted; the same command goes on from here"
DEBUG = ("experiment=debug", "references.initial=8", "references.max=0", "cost.estimate_first=false")
IMPORT = "import time:"
"""Start of the line that Python writes after each import, with `-X importtime`."""


class Program:
    """The program in its own process group, as started by a shell, with its output read line by line."""

    def __init__(self, *overrides: str, options: Sequence[str] = (), ignores: bool = False) -> None:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN if ignores else signal.default_int_handler)
        self.process = subprocess.Popen(
            [sys.executable, *options, "run.py", *overrides],
            cwd=cli.ROOT,
            env=cli.environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        signal.signal(signal.SIGINT, before)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, text: str, seconds: float = 60.0) -> None:
        """Wait until a line ends with some text."""
        deadline = time.monotonic() + seconds
        while not any(line.endswith(text) for line in self.lines):
            assert self._reader.is_alive(), self.lines
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.001)

    def interrupt(self) -> None:
        """Interrupt the whole process group, as Ctrl-C does."""
        os.killpg(self.process.pid, signal.SIGINT)

    def finish(self, seconds: float = 60.0) -> list[str]:
        """Wait until all its processes have ended, and return its output without lines of imports."""
        self._reader.join(seconds)
        assert not self._reader.is_alive(), "a process still holds the output open"
        self.process.wait(seconds)
        return [line for line in self.lines if IMPORT not in line]

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))


@contextmanager
def program(*overrides: str, options: Sequence[str] = (), ignores: bool = False) -> Iterator[Program]:
    started = Program(*overrides, options=options, ignores=ignores)
    try:
        yield started
    finally:
        started.process.kill()


MODULES = ("nasproxy.cli", "omegaconf", "nasproxy.jobs.job", "antlr4.LL1Analyzer")
"""Imported first, before Hydra starts, after it has, and during composition."""


@pytest.mark.parametrize("module", MODULES)
def test_an_interrupt_after_any_import_ends_the_program_with_one_line(tmp_path: Path, module: str) -> None:
    with program(*DEBUG, f"studies_dir={tmp_path}", options=["-X", "importtime"]) as started:
        started.wait_for(f" {module}")
        started.interrupt()
        assert started.finish() == [INTERRUPTED]
    assert started.process.returncode == 130
    assert not list(tmp_path.iterdir()), "no study is created"


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [1.0, 2.0, 3.0])
def test_an_interrupt_in_the_first_seconds_ends_the_program_with_one_line(tmp_path: Path, seconds: float) -> None:
    with program(*DEBUG, f"studies_dir={tmp_path}", options=["-X", "importtime"]) as started:
        started.wait_for(" nasproxy.cli")
        time.sleep(seconds)
        started.interrupt()
        lines = started.finish()
    assert started.process.returncode == 130
    assert lines[-1] == INTERRUPTED
    assert lines.count(INTERRUPTED) == 1
    assert not [line for line in lines if "Traceback" in line or "KeyboardInterrupt" in line]


def test_an_interrupt_while_the_worker_server_starts_ends_the_server_too(tmp_path: Path) -> None:
    trainer = "trainer._target_=helpers.module_that_takes_long_in_the_server.train"
    with program(*DEBUG, trainer, f"studies_dir={tmp_path}") as started:
        started.wait_for("takes long")
        started.interrupt()
        *progress, last = started.finish()  # a live server would hold the output open for minutes
    assert (started.process.returncode, last) == (130, INTERRUPTED)
    assert [line.partition(":")[0] for line in progress] == ["warming up", "takes long"]


def test_an_interrupt_during_an_import_is_not_reported_as_an_error_of_the_module(tmp_path: Path) -> None:
    criterion = "criterion={_target_:helpers.module_that_takes_long.Criterion}"
    with program(*DEBUG, criterion, f"studies_dir={tmp_path}") as started:
        started.wait_for("takes long")
        started.interrupt()
        assert started.finish() == ["takes long", INTERRUPTED]
    assert started.process.returncode == 130


def test_interrupts_are_ignored_if_the_parent_process_ignores_them(tmp_path: Path) -> None:
    with program("--version", options=["-X", "importtime"], ignores=True) as started:
        started.wait_for(" nasproxy.cli")
        started.interrupt()
        lines = started.finish()
    assert (started.process.returncode, len(lines)) == (0, 1)
    assert lines[0].startswith("nasproxy ")
