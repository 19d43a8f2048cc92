"""Sweeps: jobs judge and the merge decides, one bad job leaves the others, and workers end with their parent."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import cli
from nasproxy.stages.confirmation.state import ConfirmationOutcome, read_confirmations
from nasproxy.stages.proxy_search.state import find_best_task, read_rules, read_tasks
from nasproxy.storage.study_stores import FolderStudyStore

QUICK = ("experiment=debug", "controller.poll_seconds=0.05", "cost.estimate_first=false", "variance.seeds=3")
DECIDING = (*QUICK, "job=search_proxy_task", "backend=inline")
"""What is tested is the decision; other tests here have jobs with workers."""
ADDING = (*DECIDING, "training.check_every_steps=10")
"""Two proxy tasks, data25 and data50, that add references: the first one to be judged used to win."""
SMALL = (
    *DECIDING,
    *("training.check_every_steps=20", "criterion=first_crossing"),
    *("references.initial=5", "references.max=0"),
)
MARKER = "NASPROXY_TEST_SWEEP"


def read_decision(study: Path) -> dict[str, Any]:
    """Read all that was decided on the proxy tasks of a study."""
    folder = FolderStudyStore(study)
    tasks = read_tasks(folder)
    best = find_best_task(tasks, read_rules(folder).judged_by, time_tolerance=0.05)
    return {"best": best and best.name, **tasks}


def wait_for(condition: Callable[[], bool], seconds: float = 180.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def read_until(process: "subprocess.Popen[str]", text: str) -> None:
    """Read the output of a process up to a line that contains a text."""
    assert process.stdout is not None
    read = []
    for line in process.stdout:
        read.append(line)
        if text in line:
            return
    raise AssertionError("".join(read))


@pytest.fixture(scope="module")
def as_one_job(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The decision of one job with all tasks of the sweeps below, in the order of the merge."""
    folder = tmp_path_factory.mktemp("one")
    code, output = cli.run(*ADDING, "proxy.data_fraction=[0.5,0.25]", "proxy.width=1.0", folder=folder)
    assert code == 0, output
    decision = read_decision(folder / "debug")
    assert decision["best"] is not None
    return decision


@pytest.mark.parametrize(
    ("launcher", "tasks"),
    [
        pytest.param("basic", "data25,data50", marks=pytest.mark.gate),
        pytest.param("joblib", "data50,data25", marks=pytest.mark.slow),
    ],
)
def test_a_sweep_decides_as_one_job_does_whatever_the_order_of_its_jobs(
    as_one_job: dict[str, Any], tmp_path: Path, launcher: str, tasks: str
) -> None:
    code, output = cli.run("-m", *ADDING, f"proxy={tasks}", f"hydra/launcher={launcher}", folder=tmp_path)
    assert code == 0, output
    assert read_decision(tmp_path / "debug") == as_one_job
    assert sorted(path.name for path in (tmp_path / ".sweep").iterdir()) == ["multirun.yaml"], "no record is left"


@pytest.mark.gate
def test_a_sweep_killed_in_its_merge_and_repeated_decides_as_if_undisturbed(
    as_one_job: dict[str, Any], tmp_path: Path
) -> None:
    sweep = ("-m", *ADDING, "proxy=data50,data25")
    process = cli.start(*sweep, folder=tmp_path)
    read_until(process, "deciding on the proxy tasks of debug")
    read_until(process, "references are added")
    process.kill()
    process.communicate()
    assert read_decision(tmp_path / "debug")["best"] is None, "it was killed before the decision"
    code, output = cli.run(*sweep, folder=tmp_path)
    assert code == 0, output
    assert read_decision(tmp_path / "debug") == as_one_job


@pytest.mark.gate
def test_the_merge_includes_earlier_tasks_and_runs_the_stages_after_the_search(tmp_path: Path) -> None:
    code, output = cli.run(*SMALL, "proxy=width50", folder=tmp_path)
    assert code == 0, output
    code, output = cli.run("-m", *SMALL, "job=confirm", "proxy=data25,full", folder=tmp_path)
    assert code == 0, output
    decision = read_decision(tmp_path / "debug")
    assert list(decision) == ["best", "full", "width50", "data25"], "the least reduced task comes first"
    confirmed = {state.task: state.outcome for state in read_confirmations(FolderStudyStore(tmp_path / "debug"))}
    assert confirmed == {decision["best"]: ConfirmationOutcome.STANDS}
    assert output.count(": confirmed") == 1


@pytest.mark.gate
def test_a_job_that_fails_leaves_the_others_and_the_exit_status_says_so(tmp_path: Path) -> None:
    fractions = ("proxy=data50", "proxy.data_fraction=0.5,7,0.75")
    code, output = cli.run("-m", *SMALL, *fractions, "backend=local", "hydra/launcher=joblib", folder=tmp_path)
    lines = [line for line in output.splitlines() if line.startswith("nasproxy: ")]
    assert code == 2, output
    assert len(lines) == 2, output
    assert lines[0].startswith("nasproxy: job 1 (experiment=debug ")
    assert lines[0].endswith(" proxy.data_fraction must lie in (0, 1], got 7: give a fraction, 0.07, not a percentage")
    assert lines[1] == "nasproxy: 1 of 3 jobs failed: job 1 (proxy.data_fraction=7)"
    assert "Traceback" not in output
    decision = read_decision(tmp_path / "debug")
    assert set(decision) == {"best", "data50", "data75"}
    assert all(decision[name].stopping_state is not None for name in ("data50", "data75"))


@pytest.mark.gate
def test_jobs_that_share_a_study_under_other_rules_are_refused_with_advice_that_works(tmp_path: Path) -> None:
    sweep = ("-m", *SMALL, "proxy=data50", "criterion.target=0.5,0.6")
    code, output = cli.run(*sweep, folder=tmp_path)
    advice = "'study=debug-${hydra:job.num}'"
    assert code == 2, output
    assert f"need the same rules, got criterion.target: 0.5 -> 0.6: name a study for each, such as {advice}" in output
    assert output.endswith("1 of 2 jobs failed: job 1 (criterion.target=0.6); no decision on study debug\n")
    assert read_decision(tmp_path / "debug") == {"best": None}
    # The first job fails, so that the merges, which Hydra numbers from 0, have other numbers than their studies' jobs.
    sweep = ("-m", *SMALL, "proxy=data50", "criterion.target=7,0.5,0.6", "search.trials=100${hydra:job.num}")
    code, output = cli.run(*sweep, advice.strip("'"), folder=tmp_path)
    assert code == 2, output
    assert output.endswith("1 of 3 jobs failed: job 0 (criterion.target=7)\n"), output
    assert all(read_decision(tmp_path / study)["best"] for study in ("debug-1", "debug-2"))
    assert "criterion.target=0.6 search.trials=1002 study=debug-" in output
    assert not (tmp_path / "debug-0" / "proxy_search").exists()


@pytest.mark.gate
def test_an_interrupt_ends_the_whole_sweep(tmp_path: Path) -> None:
    sweep = ("-m", *QUICK, "job=measure_variance", "seed=0,1", "study=seed${seed}", "trainer.check_seconds=0.3")
    process = cli.start(*sweep, folder=tmp_path)
    read_until(process, "variance: ")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert output.endswith("nasproxy: interrupted; the same command goes on from here\n")
    assert not (tmp_path / "seed1").exists()
    assert not any((tmp_path / ".sweep").glob("s*"))


def list_marked(marker: str) -> set[int]:
    """List the living processes that have inherited a marker in their environment."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if marker.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def is_worker_of_joblib(pid: int) -> bool:
    try:
        return b"LokyProcess" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False  # it has ended


@pytest.mark.gate
@pytest.mark.parametrize("killed", ["parent", "worker"])
def test_all_processes_of_a_joblib_sweep_end_with_its_parent_or_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: str
) -> None:
    monkeypatch.setenv(MARKER, str(tmp_path))
    slow = (*QUICK, "job=measure_variance", "trainer.check_seconds=0.5", "hydra/launcher=joblib")
    process = cli.start("-m", *slow, "hydra.launcher.n_jobs=2", "study=a,b", folder=tmp_path)
    try:
        wait_for(lambda: all(any(tmp_path.glob(f"{study}/trials/*/metrics.jsonl")) for study in ("a", "b")))
        processes = list_marked(f"{MARKER}={tmp_path}")
        assert len(processes) >= 7, "parent, two workers, their servers and trials"
        if killed == "worker":
            os.kill(next(filter(is_worker_of_joblib, processes)), signal.SIGKILL)
            process.wait(timeout=60)
    finally:
        process.kill()
    wait_for(lambda: not list_marked(f"{MARKER}={tmp_path}"), seconds=30.0)
    output, _ = process.communicate()
    if killed == "worker":
        assert process.returncode == 2, output
        assert output.splitlines()[-1].startswith("nasproxy: the worker processes of a sweep must live until it ends")
