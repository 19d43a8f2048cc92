"""A study whose controller and workers are killed at random has the results of an uninterrupted one."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from helpers import cli
from nasproxy.stages.confirmation.state import read_confirmations
from nasproxy.stages.proxy_search.state import find_best_task, read_rules, read_tasks
from nasproxy.stages.references.state import read_selection
from nasproxy.storage.locks import is_locked
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.storage.trial_folder import TrialFolder

SETTING = (
    *cli.SMALL,
    "job=confirm",
    "criterion.target=0.3",
    "study=crash",
    "trainer=plain_pytorch",
    "trainer._target_=helpers.counted_seconds.train",
)

FAULTY = (
    "experiment=debug",
    "job=confirm",
    "study=crash",
    "references.initial=8",
    "references.max=0",
    "criterion=first_crossing",
    "criterion.target=0.5",
    "proxy.data_fraction=[0.5]",
    "proxy.width=[0.5,1.0]",
    "search_space.choices.fault=[none,'oom>4','oom>8 nan>0.1']",
    "trainer.batch_size=16",
    "trainer.learning_rate=0.2",
    "trainer.check_seconds=0.01",
    "failures.on_nan=lower_rate",
)
"""Two of three models fail, and are retried as other trials."""


def decisions(folder: Path) -> dict[str, object]:
    """Read all decisions of the study."""
    lies = FolderStudyStore(folder / "crash")
    selected = read_selection(lies)
    assert selected is not None
    tasks = read_tasks(lies)
    best = find_best_task(tasks, read_rules(lies).judged_by, time_tolerance=0.05)
    return {
        "iterations": selected.iterations,
        "references": [(reference.key, reference.score) for reference in selected.references or ()],
        "tasks": {name: (task.stopping_state, task.final_step, task.checks) for name, task in tasks.items()},
        "best": best and best.name,
        "confirmations": read_confirmations(lies),
    }


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read the checks of every trial."""
    store = FolderStudyStore(folder / "crash").trials
    return {key: [(check.step, check.score) for check in store.read(key).checks] for key in store.keys()}


def living_workers(folder: Path) -> list[int]:
    """List the process ids of the running workers."""
    locks = [lock for lock in (folder / "crash" / "trials").glob("*/worker.lock") if is_locked(lock)]
    words = [lock.read_text().split() for lock in locks]
    return [int(parts[1]) for parts in words if len(parts) > 1]


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def strike(process: "subprocess.Popen[str]", folder: Path, chance: random.Random) -> str | None:
    """Kill the controller or a worker at a random time, or a worker that is writing a checkpoint.

    Returns:
        The kind of target, or None if the study ended first.
    """
    target = chance.choice(["controller", "worker", "checkpoint"])
    until = time.monotonic() + chance.uniform(0.0, 1.5)
    while process.poll() is None and (time.monotonic() < until or not living_workers(folder)):
        time.sleep(0.002)
    while process.poll() is None:
        if target == "controller":
            kill(process.pid)
            process.wait()
            return target
        writing = (folder / "crash" / "trials").glob("*/checkpoints/.*.tmp")
        pids = living_workers(folder) if target == "worker" else [writer(path) for path in writing]
        for pid in pids[:1]:
            kill(pid)
            return target
    return None


def writer(checkpoint: Path) -> int:
    """Read the process id of the worker that writes a checkpoint."""
    return int((checkpoint.parent.parent / "worker.lock").read_text().split()[1])


def empty_metrics(trial: TrialFolder) -> None:
    trial.metrics.write_bytes(b"")


def cut_status(trial: TrialFolder) -> None:
    trial.status.write_bytes(trial.status.read_bytes()[:20])


def spoil_checkpoints(trial: TrialFolder) -> None:
    for path in trial.checkpoints.iterdir():
        path.write_bytes(b"damaged")


def damage_trial(folder: Path, chance: random.Random) -> str | None:
    """Damage a file of a trial that no worker runs, and return the trial's folder; None if there is none."""
    trials = [TrialFolder(path.parent) for path in sorted((folder / "crash" / "trials").glob("*/status.json"))]
    idle = [trial for trial in trials if trial.metrics.exists() and not is_locked(trial.lock)]
    if not idle:
        return None
    trial, damage = chance.choice(idle), chance.choice([empty_metrics, cut_status, spoil_checkpoints])
    if damage is spoil_checkpoints and not trial.checkpoints.is_dir():
        return None
    damage(trial)
    return f"{damage.__name__} of {trial.path.name}"


def survive(
    folder: Path, strikes: int, chance: random.Random, setting: Sequence[str] = SETTING, *, is_damaged: bool = False
) -> list[str]:
    """Run the study to its end with at most `strikes` kills, and return their targets.

    Args:
        folder: Folder of the studies.
        strikes: Largest number of kills.
        chance: Source of their times and targets.
        setting: Arguments of the command.
        is_damaged: Whether files of trials are damaged after each kill of the controller.
    """
    done: list[str] = []
    while True:
        process = cli.start(*setting, folder=folder)
        while process.poll() is None and len(done) < strikes:
            target = strike(process, folder, chance)
            done += [target] if target else []
        output, _ = process.communicate(timeout=300)
        if process.returncode == 0:
            return done
        assert process.returncode == -signal.SIGKILL, output
        if is_damaged and (damaged := damage_trial(folder, chance)) is not None:
            print(damaged)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    code, output = cli.run(*SETTING, folder=folder)
    assert code == 0, output
    assert decisions(folder)["confirmations"], "the study must reach its confirmation"
    return folder


@pytest.mark.parametrize(
    ("strikes", "seed"), [pytest.param(5, 1, marks=pytest.mark.gate), pytest.param(50, 2, marks=pytest.mark.slow)]
)
def test_a_study_killed_and_damaged_at_random_times_has_the_same_decisions_and_trials(
    undisturbed: Path, tmp_path: Path, strikes: int, seed: int
) -> None:
    chance, killed = random.Random(seed), list[str]()
    while len(killed) < strikes:  # start another study if one ends too early
        folder = tmp_path / str(len(killed))
        now = survive(folder, strikes - len(killed), chance, is_damaged=True)
        assert now, "each study must be killed at least once"
        killed += now
        assert decisions(folder) == decisions(undisturbed), killed
        compare(curves(folder), curves(undisturbed))
    assert len(killed) == strikes


def compare(found: dict[str, list[tuple[int, float]]], expected: dict[str, list[tuple[int, float]]]) -> None:
    assert set(found) == set(expected), "the same trials"
    for key, curve in found.items():
        steps = [step for step, _ in curve]
        assert steps == sorted(set(steps)), "no check is repeated"
        both = min(len(curve), len(expected[key]))
        assert curve[:both] == expected[key][:both], "no check differs"


@pytest.mark.slow
def test_a_study_killed_during_retries_has_the_same_decisions_and_trials(tmp_path: Path) -> None:
    code, output = cli.run(*FAULTY, folder=tmp_path / "undisturbed")
    assert code == 0, output
    assert "retrying it as trial" in output
    assert survive(tmp_path / "killed", 6, random.Random(3), FAULTY)
    assert decisions(tmp_path / "killed") == decisions(tmp_path / "undisturbed")
    compare(curves(tmp_path / "killed"), curves(tmp_path / "undisturbed"))
