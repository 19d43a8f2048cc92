"""Outputs that cannot be written: they stop no trial, and the exit status and one line say what is missing."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers import cli
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.tracking.events import Event, JobEnded, TrackerFailed, read_events

DEBUG = (
    *("experiment=debug", "job=measure_variance", "variance.seeds=3", "cost.estimate_first=false"),
    "controller.poll_seconds=0.05",
)
FULL = "nasproxy: standard output needs a place that can be written to, got an error (No space left on device): "


@pytest.fixture
def full() -> Iterator[int]:
    """Return a descriptor to which nothing can be written, as to a file on a full disk."""
    descriptor = os.open("/dev/full", os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def unread() -> Iterator[int]:
    """Return the writing end of a pipe whose reading end is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def run(*arguments: str, stdout: int, unbuffered: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "run.py", *arguments],
        cwd=cli.ROOT,
        env={**cli.environment(), "PYTHONUNBUFFERED": unbuffered},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=300,
        check=False,
    )


def read(study: Path, kind: type[Event]) -> list[Any]:
    return [event for event in read_events(FolderStudyStore(study)) if isinstance(event, kind)]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_of_the_output_stops_no_trial(tmp_path: Path, full: int, unbuffered: str) -> None:
    ended = run(*DEBUG, f"studies_dir={tmp_path}", stdout=full, unbuffered=unbuffered)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith(FULL)
    assert len(ended.stderr.splitlines()) == 1
    assert [event.error for event in read(tmp_path / "debug", JobEnded)] == [None]
    (failed,) = read(tmp_path / "debug", TrackerFailed)
    assert (failed.tracker, "No space left on device" in failed.message) == ("console", True)


def test_a_reader_that_leaves_stops_no_trial(tmp_path: Path, unread: int) -> None:
    ended = run(*DEBUG, f"studies_dir={tmp_path}", stdout=unread)
    assert (ended.returncode, ended.stderr) == (141, "")
    assert [event.error for event in read(tmp_path / "debug", JobEnded)] == [None]


@pytest.mark.parametrize(
    ("question", "unbuffered"), [("--help", ""), ("--version", ""), ("job=list_trials", ""), ("job=list_trials", "1")]
)
def test_a_question_whose_answer_cannot_be_written_gives_one_line(
    full_study: Any, full: int, question: str, unbuffered: str
) -> None:
    study = full_study.folder.path
    of_study = [f"studies_dir={study.parent}", f"study={study.name}"] if "job" in question else []
    ended = run(question, *of_study, stdout=full, unbuffered=unbuffered)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith(FULL)
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.gate
def test_the_jobs_of_a_sweep_and_its_merge_go_on_without_an_output(tmp_path: Path, unread: int) -> None:
    judging = ("experiment=debug", "job=search_proxy_task", "criterion=first_crossing", "references.initial=5")
    fast = ("references.max=0", "variance.seeds=3", "cost.estimate_first=false", "controller.poll_seconds=0.05")
    ended = run("-m", *judging, *fast, "proxy=data50,data25", f"studies_dir={tmp_path}", stdout=unread)
    assert ended.returncode == 141, ended.stderr
    assert [event.error for event in read(tmp_path / "debug", JobEnded)] == [None] * 3
