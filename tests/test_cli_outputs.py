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


def run(
    *arguments: str, stdout: int, stderr: int = subprocess.PIPE, unbuffered: str = ""
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "run.py", *arguments],
        cwd=cli.ROOT,
        env={**cli.environment(), "PYTHONUNBUFFERED": unbuffered},
        stdout=stdout,
        stderr=stderr,
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


@pytest.mark.parametrize("question", ["--version", "job=list_trials"])
def test_a_reader_that_leaves_ends_an_answer_without_a_message(full_study: Any, unread: int, question: str) -> None:
    ended = run(question, *name_study(full_study, question), stdout=unread)
    assert (ended.returncode, ended.stderr) == (141, ""), "status of a program that is ended by SIGPIPE"


def name_study(written: Any, question: str) -> list[str]:
    """Return the arguments that name a study, if the question is about one."""
    study = written.folder.path
    return [f"studies_dir={study.parent}", f"study={study.name}"] if "job" in question else []


def test_an_invalid_override_with_closed_outputs_exits_with_its_status(tmp_path: Path, unread: int) -> None:
    ended = run("experiment=debug", "seed=-1", f"studies_dir={tmp_path}", stdout=unread, stderr=unread)
    assert ended.returncode == 2


def test_closed_standard_streams_do_not_change_the_exit_status(full_study: Any) -> None:
    study = full_study.folder.path
    command = [sys.executable, "run.py", f"studies_dir={study.parent}", f"study={study.name}"]
    for job, status in (("job=list_trials", 0), ("job=nosuch", 2)):
        shell = ["sh", "-c", 'exec "$@" <&- 2>&-', "sh", *command, job]
        ended = subprocess.run(shell, cwd=cli.ROOT, env=cli.environment(), stdout=subprocess.PIPE, text=True)
        assert ended.returncode == status
        assert ended.stdout.startswith("trial\t") == (status == 0)


@pytest.mark.parametrize(
    ("question", "unbuffered"), [("--help", ""), ("--version", ""), ("job=list_trials", ""), ("job=list_trials", "1")]
)
def test_a_question_whose_answer_cannot_be_written_gives_one_line(
    full_study: Any, full: int, question: str, unbuffered: str
) -> None:
    ended = run(question, *name_study(full_study, question), stdout=full, unbuffered=unbuffered)
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
