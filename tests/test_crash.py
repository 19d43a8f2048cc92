"""A study that is killed at random, or whose files are damaged, has the results of an undisturbed one."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

from helpers import cli
from nasproxy.errors import CorruptTrialError
from nasproxy.stages.confirmation.state import read_confirmations
from nasproxy.stages.proxy_search.state import find_best_task, read_rules, read_tasks
from nasproxy.stages.references.state import read_selection
from nasproxy.stages.study_results import read_results
from nasproxy.stages.variance.state import read_variance
from nasproxy.storage.locks import FileLock, is_locked
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


def read_curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read the checks of every trial; a damaged one has none."""
    trials = read_results(FolderStudyStore(folder / "crash"), time_tolerance=0.05).trials
    return {key: [(check.step, check.score) for check in trial.record.checks] for key, trial in trials.items()}


def find_needed_steps(folder: Path) -> dict[str, int]:
    """Return the step that the decisions of the study need of each trial."""
    study = FolderStudyStore(folder / "crash")
    selected, variance = read_selection(study), read_variance(study)
    assert selected is not None
    assert variance is not None
    assert variance.result is not None
    whole = [*variance.result.keys, *(model.key for model in selected.references or ())]
    needed = {key: study.trials.spec(key).total_steps for key in whole}
    for task in read_tasks(study).values():
        for key in task.keys:
            needed[key] = max(needed.get(key, 0), task.final_step or 0)
    return needed


def living_workers(folder: Path) -> list[int]:
    """List the process ids of the running workers."""
    locks = [lock for lock in (folder / "crash" / "trials").glob("*/worker.lock") if is_locked(lock)]
    return [pid for lock in locks if (pid := FileLock(lock).owner_pid()) is not None]


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
        for pid in pids:
            if pid is not None:
                kill(pid)
                return target
    return None


def writer(checkpoint: Path) -> int | None:
    """Read the process id of the worker that writes a checkpoint; None if it has not signed its lease yet."""
    return FileLock(checkpoint.parent.parent / "worker.lock").owner_pid()


def empty_metrics(trial: TrialFolder) -> None:
    trial.metrics.write_bytes(b"")


def cut_status(trial: TrialFolder) -> None:
    trial.status.write_bytes(trial.status.read_bytes()[:20])


def spoil_checkpoints(trial: TrialFolder) -> None:
    for path in trial.checkpoints.iterdir():
        path.write_bytes(b"damaged")


def survive(folder: Path, strikes: int, chance: random.Random, setting: Sequence[str] = SETTING) -> list[str]:
    """Run the study to its end with at most `strikes` kills, and return their targets.

    Args:
        folder: Folder of the studies.
        strikes: Largest number of kills.
        chance: Source of their times and targets.
        setting: Arguments of the command.
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
def test_a_study_killed_at_random_times_has_the_same_decisions_and_trials(
    undisturbed: Path, tmp_path: Path, strikes: int, seed: int
) -> None:
    chance, killed = random.Random(seed), list[str]()
    while len(killed) < strikes:  # start another study if one ends too early
        folder = tmp_path / str(len(killed))
        now = survive(folder, strikes - len(killed), chance)
        assert now, "each study must be killed at least once"
        killed += now
        assert decisions(folder) == decisions(undisturbed), killed
        compare(folder, undisturbed)
    assert len(killed) == strikes


def compare(folder: Path, undisturbed: Path, damaged: Collection[str] = ()) -> None:
    """Check that a study has the trials of an undisturbed one, with the same curves as far as decisions need them.

    Args:
        folder: Folder of the study.
        undisturbed: Folder of the undisturbed one.
        damaged: Trials that are damaged, on which everything is decided.
    """
    found, expected = read_curves(folder), read_curves(undisturbed)
    assert set(found) == set(expected), "the same trials"
    needed = find_needed_steps(undisturbed)
    for key, curve in found.items():
        if key in damaged:
            assert not curve
            continue
        steps = [step for step, _ in curve]
        assert steps == sorted(set(steps)), "no check is repeated"
        both = min(len(curve), len(expected[key]))
        assert curve[:both] == expected[key][:both], "no check differs"
        reached = max((step for step, _ in expected[key]), default=0)  # a failed model ends earlier
        assert max(steps, default=0) >= min(needed.get(key, 0), reached), "no check that a decision needs is missing"


@pytest.mark.gate
def test_a_study_whose_trials_are_damaged_has_the_same_decisions_and_repeats_what_it_needs(
    undisturbed: Path, tmp_path: Path
) -> None:
    code, output = cli.run(*SETTING, "job=select_models", folder=tmp_path)
    assert code == 0, output
    study = FolderStudyStore(tmp_path / "crash")
    selected, variance = read_selection(study), read_variance(study)
    assert selected is not None
    assert selected.references is not None
    assert variance is not None
    assert variance.result is not None
    decided = {selected.references[-1].key: cut_status, variance.result.keys[-1]: empty_metrics}
    assert len(decided) == 2
    undecided = dict(zip(interrupt_search(tmp_path), (empty_metrics, cut_status, spoil_checkpoints), strict=True))
    step_before = study.trials.read(list(undecided)[2]).step
    for key, damage in {**decided, **undecided}.items():
        damage(study.trials.folder(key))
    for key in [*decided, *list(undecided)[:2]]:
        with pytest.raises(CorruptTrialError, match="cannot be read"):
            study.trials.read(key)

    code, output = cli.run(*SETTING, folder=tmp_path)
    assert code == 0, output
    assert decisions(tmp_path) == decisions(undisturbed)
    compare(tmp_path, undisturbed, decided)
    for key in list(undecided)[:2]:
        assert f"trial {key} begins again" in output
    spoiled = list(undecided)[2]
    has_trained_on = study.trials.read(spoiled).step > step_before
    assert ("training anew" in study.trials.folder(spoiled).log.read_text()) == has_trained_on
    code, output = cli.run(*SETTING, "job=list_trials", folder=tmp_path)
    assert code == 0, output
    for key in decided:
        assert f"trial {key} is damaged and begins again when the study goes on" in output, "nothing needs it now"


def interrupt_search(folder: Path) -> list[str]:
    """Kill the controller in its proxy search, and return three trials that it has begun and decided nothing on."""
    process = cli.start(*SETTING, "backend.slots=1", folder=folder)
    study = FolderStudyStore(folder / "crash")

    def begun() -> list[str]:
        paths = (folder / "crash" / "trials").glob("*/metrics.jsonl")
        keys = sorted(path.parent.name for path in paths if path.stat().st_size)
        return [key for key in keys if (purpose := study.trials.purposes()[key]) and purpose.stage == "proxy_search"]

    while process.poll() is None and len(begun()) < 3:
        time.sleep(0.002)
    kill(process.pid)
    output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, output
    while living_workers(folder):
        time.sleep(0.02)
    assert all(task.stopping_state is None for task in read_tasks(study).values())
    return begun()[:3]


@pytest.mark.slow
def test_a_study_killed_during_retries_has_the_same_decisions_and_trials(tmp_path: Path) -> None:
    code, output = cli.run(*FAULTY, folder=tmp_path / "undisturbed")
    assert code == 0, output
    assert "retrying it as trial" in output
    assert survive(tmp_path / "killed", 6, random.Random(3), FAULTY)
    assert decisions(tmp_path / "killed") == decisions(tmp_path / "undisturbed")
    compare(tmp_path / "killed", tmp_path / "undisturbed")
