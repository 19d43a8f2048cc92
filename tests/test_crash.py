"""A study that is killed at random, or whose files are damaged, has the results of an undisturbed one."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from helpers import cli
from helpers.counted_seconds import REPORTS
from helpers.damaged_files import CONTENTS, Damage, cut, empty, replace_by_folder, replace_by_link
from nasproxy.errors import CorruptFileError, CorruptTrialError
from nasproxy.stages.confirmation.state import read_confirmations
from nasproxy.stages.proxy_search.state import find_best_task, read_rules, read_tasks
from nasproxy.stages.references.state import read_selection
from nasproxy.stages.study_results import read_results
from nasproxy.stages.variance.state import read_variance
from nasproxy.storage.locks import FileLock, is_locked
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.trials.records import State, TrialRecord

SETTING = (
    *cli.SMALL,
    "job=confirm",
    "criterion.target=0.3",
    "study=crash",
    "trainer=plain_pytorch",
    "trainer._target_=helpers.counted_seconds.train",
    "failures.max_attempts=10",
)
"""With attempts for several kills in a row, and for the crashes after which a checkpoint is suspected."""

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
    results = read_results(FolderStudyStore(folder / "crash"), time_tolerance=0.05)
    checks = {key: trial.record.checks for key, trial in results.trials.items()}
    return {key: [(c.step, c.score) for c in checks.get(key, ())] for key in {**checks, **results.damaged}}


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
    locks = [lock for lock in (folder / "crash" / "trials").glob("*/worker.lock") if _is_held(lock)]
    return [pid for lock in locks if (pid := FileLock(lock).owner_pid()) is not None]


def _is_held(lock: Path) -> bool:
    try:
        return is_locked(lock)
    except CorruptFileError:
        return False  # damaged while nothing held it


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def writer(checkpoint: Path) -> int | None:
    """Read the process id of the worker that writes a checkpoint; None if it has not signed its lease yet."""
    return FileLock(checkpoint.parent.parent / "worker.lock").owner_pid()


def count_checks(folder: Path) -> int:
    """Count the checks of all trials, as far as their files are not damaged."""
    checks = 0
    for path in (folder / "crash" / "trials").glob("*/metrics.jsonl"):
        with suppress(OSError):  # it was set aside, or is a folder
            checks += path.read_bytes().count(b"\n")
    return checks


def strike(process: "subprocess.Popen[str]", folder: Path, chance: random.Random) -> str | None:
    """Kill the controller, a worker or all of them after some checks, or a worker that is writing a checkpoint.

    Returns:
        The kind of target, or None if the study ended first.
    """
    target = chance.choice(["controller", "worker", "group", "checkpoint"])
    until = count_checks(folder) + chance.randrange(16)
    while process.poll() is None and (count_checks(folder) < until or not living_workers(folder)):
        time.sleep(0.002)
    time.sleep(chance.uniform(0.0, 0.1))
    while process.poll() is None:
        if target in ("controller", "group"):
            workers = living_workers(folder) if target == "group" else []
            for pid in (process.pid, *workers):
                kill(pid)
            process.wait()
            return target
        writing = (folder / "crash" / "trials").glob("*/checkpoints/.*.tmp")
        pids = living_workers(folder) if target == "worker" else [writer(path) for path in writing]
        for pid in pids:
            if pid is not None:
                kill(pid)
                return target
    return None


FILES: dict[str, Callable[[TrialFolder], Path]] = {
    "status": lambda trial: trial.status,
    "metrics": lambda trial: trial.metrics,
    "config": lambda trial: trial.config,
    "request": lambda trial: trial.request,
    "checkpoint": lambda trial: trial.checkpoints / "last.pt",
    "lock": lambda trial: trial.lock,
    "lease": lambda trial: trial.lease,
}
WAYS: dict[str, Damage] = {"cut": cut, "empty": empty, **CONTENTS, "folder": replace_by_folder, "link": replace_by_link}


@dataclass
class Disturbances:
    """What is done to a study, and what it costs.

    Attributes:
        chance: Source of times, targets and damage.
        damage_share: Share of the strikes after which a file is damaged, too.
        kills: Targets of the kills, and the damage after them, in order.
        damaged: Names of the damaged files, by the key of their trial.
        finished: Records of the trials that had finished at a strike, without those that were damaged since.
    """

    chance: random.Random
    damage_share: float = 0.0
    kills: list[str] = field(default_factory=list)
    damaged: dict[str, list[str]] = field(default_factory=dict)
    finished: dict[str, TrialRecord] = field(default_factory=dict)

    def strike(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        """Kill what runs, unless the study ends before, and damage a file of a random trial, finished or not."""
        target = strike(process, folder, self.chance)
        if target is None:
            return
        self.kills.append(target)
        self.finished.update(read_finished(folder))
        if self.chance.random() < self.damage_share:
            kill(process.pid)
            process.wait()
            while living_workers(folder):  # they end at their next check
                time.sleep(0.02)
            self.finished.update(read_finished(folder))
            self._damage(folder)

    def _damage(self, folder: Path) -> None:
        trials = [TrialFolder(path.parent) for path in sorted((folder / "crash" / "trials").glob("*/config.yaml"))]
        files = [(t, name) for t in trials for name, find in FILES.items() if _is_file(find(t))]
        trial, name = self.chance.choice(files)
        way = self.chance.choice(sorted(WAYS))
        WAYS[way](FILES[name](trial))
        key = trial.path.name
        self.kills[-1] += f", then {name} of {key}: {way}"
        self.damaged.setdefault(key, []).append(name)
        self.finished.pop(key, None)

    def find_lost(self, folder: Path) -> list[str]:
        """Return the trials that had finished, were not damaged, and have other checks now."""
        now = read_finished(folder)
        return [key for key, record in self.finished.items() if key not in now or now[key].checks != record.checks]

    def find_trained_again(self, folder: Path) -> set[str]:
        """Return the damaged trials that were trained again.

        Each damage is worth one new beginning: of the whole trial, or from its start if a checkpoint was damaged.
        """
        beginnings = count_beginnings(folder)
        return {key for key in self.damaged if beginnings.get(key, 0) > 1}

    def find_trained_twice(self, folder: Path) -> list[str]:
        """Return the trials that were trained from their start more often than their damage explains."""
        allowed = {key: 1 + len(names) for key, names in self.damaged.items()}
        return [key for key, count in count_beginnings(folder).items() if count > allowed.get(key, 1)]


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def read_finished(folder: Path) -> dict[str, TrialRecord]:
    """Read the trials that have been trained to their end, without damaged ones."""
    store, finished = FolderStudyStore(folder / "crash").trials, dict[str, TrialRecord]()
    for key in store.keys():
        with suppress(CorruptTrialError):
            record = store.read(key)
            if record.status.state is State.DONE:
                finished[key] = record
    return finished


def count_beginnings(folder: Path) -> dict[str, int]:
    """Count how often each trial was trained from its start: a report of a step below an earlier one, or a new folder.

    A kill between a report and its checkpoint costs a repetition of the last step, which is none.
    """
    trials, beginnings = folder / "crash" / "trials", dict[str, int]()
    for path in (*trials.glob(f"*/{REPORTS}"), *trials.glob(f"damaged/*/{REPORTS}")):
        key, highest = path.parent.name.split("-")[0], 0
        beginnings[key] = beginnings.get(key, 0) + 1
        for step in map(int, path.read_text().split()):
            beginnings[key] += step < highest
            highest = step
    return beginnings


def survive(folder: Path, strikes: int, disturbances: Disturbances, setting: Sequence[str] = SETTING) -> None:
    """Run the study to its end, again after each kill of its controller.

    Args:
        folder: Folder of the studies.
        strikes: Largest number of kills, of all studies with these disturbances.
        disturbances: What is done to it.
        setting: Arguments of the command.
    """
    while True:
        process = cli.start(*setting, folder=folder)
        while process.poll() is None and len(disturbances.kills) < strikes:
            disturbances.strike(process, folder)
        output, _ = process.communicate(timeout=300)
        if process.returncode == 0:
            return
        assert process.returncode == -signal.SIGKILL, f"{disturbances.kills}\n{output}"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    code, output = cli.run(*SETTING, folder=folder)
    assert code == 0, output
    assert decisions(folder)["confirmations"], "the study must reach its confirmation"
    return folder


@pytest.mark.parametrize(
    ("strikes", "seed"),
    [
        pytest.param(4, 66, marks=pytest.mark.gate),
        pytest.param(50, 2, marks=[pytest.mark.slow, pytest.mark.timeout(2400)]),
    ],
)
def test_a_study_killed_and_damaged_at_random_has_the_same_decisions_and_trials(
    undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], strikes: int, seed: int
) -> None:
    chance, kills = random.Random(seed), 0
    studies = damaged = again = lost = trained_twice = wrong = 0
    while kills < strikes:  # start another study if one ends too early
        folder = tmp_path / str(studies)
        now = Disturbances(chance, damage_share=0.4)
        survive(folder, strikes - kills, now)
        assert now.kills, "each study must be killed at least once"
        studies, kills, damaged = studies + 1, kills + len(now.kills), damaged + sum(map(len, now.damaged.values()))
        again += len(now.find_trained_again(folder))
        lost += len(now.find_lost(folder))
        trained_twice += len(now.find_trained_twice(folder))
        wrong += decisions(folder) != decisions(undisturbed)
        counts = f"{lost} finished trials lost, {trained_twice} trained twice, {wrong} studies with other decisions"
        history = f"{counts}; seed {seed}, study {studies}: " + "; ".join(now.kills)
        assert (lost, trained_twice, wrong) == (0, 0, 0), history
        compare(folder, undisturbed, now.damaged, history)
    with capsys.disabled():
        print(f"\n{kills} kills, {damaged} damaged files: {counts}; {again} damaged trials trained again")
    assert kills == strikes


def compare(folder: Path, undisturbed: Path, damaged: Collection[str] = (), history: str = "") -> None:
    """Check that a study has the trials of an undisturbed one, with the same curves as far as decisions need them.

    Args:
        folder: Folder of the study.
        undisturbed: Folder of the undisturbed one.
        damaged: Trials that were damaged; what was decided on them before needs no checks any more.
        history: What was done to the study, for messages.
    """
    found, expected = read_curves(folder), read_curves(undisturbed)
    assert set(found) == set(expected), f"the same trials; {history}"
    needed = find_needed_steps(undisturbed)
    for key, curve in found.items():
        what = f"trial {key}; {history}"
        steps = [step for step, _ in curve]
        assert steps == sorted(set(steps)), f"no check is repeated: {what}"
        both = min(len(curve), len(expected[key]))
        assert curve[:both] == expected[key][:both], f"no check differs: {what}"
        if key not in damaged:
            reached = max((step for step, _ in expected[key]), default=0)  # a failed model ends earlier
            assert max(steps, default=0) >= min(needed.get(key, 0), reached), f"no needed check is missing: {what}"


@pytest.mark.slow
def test_a_study_whose_trials_are_damaged_has_the_same_decisions_and_repeats_what_it_needs(
    undisturbed: Path, tmp_path: Path
) -> None:
    study = FolderStudyStore(tmp_path / "crash")
    spoiled = interrupt_selection(tmp_path)
    for path in study.trials.folder(spoiled).checkpoints.iterdir():
        path.write_bytes(b"damaged")
    code, output = cli.run(*SETTING, "job=select_models", folder=tmp_path)
    assert code == 0, output
    assert study.trials.read(spoiled).step == study.trials.spec(spoiled).total_steps
    assert "training anew" in study.trials.folder(spoiled).log.read_text()

    selected, variance = read_selection(study), read_variance(study)
    assert selected is not None
    assert selected.references is not None
    assert variance is not None
    assert variance.result is not None
    decided = {selected.references[-1].key: cut, variance.result.keys[-1]: empty}
    assert len(decided) == 2
    undecided = dict(zip(interrupt_search(tmp_path), (empty, cut), strict=True))
    for key, damage in {**decided, **undecided}.items():
        trial = study.trials.folder(key)
        damage(trial.metrics if damage is empty else trial.status)
        with pytest.raises(CorruptTrialError, match="cannot be read"):
            study.trials.read(key)

    code, output = cli.run(*SETTING, folder=tmp_path)
    assert code == 0, output
    assert decisions(tmp_path) == decisions(undisturbed)
    compare(tmp_path, undisturbed, decided)
    for key in undecided:
        assert f"trial {key} begins again" in output
    assert count_beginnings(tmp_path) == dict.fromkeys(read_curves(undisturbed), 1) | dict.fromkeys(
        [spoiled, *undecided], 2
    ), "nothing else was trained again"
    code, output = cli.run(*SETTING, "job=list_trials", folder=tmp_path)
    assert code == 0, output
    for key in decided:
        assert not read_curves(tmp_path)[key]
        assert f"trial {key} is damaged and begins again when the study goes on" in output, "nothing needs it now"


def interrupt_selection(folder: Path) -> str:
    """Kill controller and workers during a training, and return a trial that must go on from its checkpoint."""
    process = cli.start(*SETTING, "job=select_models", folder=folder)
    study, begun = FolderStudyStore(folder / "crash"), list[str]()
    while process.poll() is None and not begun:
        begun = [key for key in study.trials.keys() if study.trials.read(key).step >= 20]
        time.sleep(0.002)
    for pid in (process.pid, *living_workers(folder)):
        kill(pid)
    process.communicate()
    assert study.trials.read(begun[0]).step < study.trials.spec(begun[0]).total_steps
    return begun[0]


def interrupt_search(folder: Path) -> list[str]:
    """Kill the controller in its proxy search, and return two trials that it has begun and decided nothing on."""
    process = cli.start(*SETTING, folder=folder)
    study = FolderStudyStore(folder / "crash")

    def begun() -> list[str]:
        paths = (folder / "crash" / "trials").glob("*/metrics.jsonl")
        keys = sorted(path.parent.name for path in paths if path.stat().st_size)
        return [key for key in keys if (purpose := study.trials.purposes()[key]) and purpose.stage == "proxy_search"]

    while process.poll() is None and len(begun()) < 2:
        time.sleep(0.002)
    kill(process.pid)
    output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, output
    while living_workers(folder):
        time.sleep(0.02)
    assert all(task.stopping_state is None for task in read_tasks(study).values())
    return begun()[:2]


@pytest.mark.slow
def test_a_study_killed_during_retries_has_the_same_decisions_and_trials(tmp_path: Path) -> None:
    code, output = cli.run(*FAULTY, folder=tmp_path / "undisturbed")
    assert code == 0, output
    assert "retrying it as trial" in output
    disturbances = Disturbances(random.Random(3))
    survive(tmp_path / "killed", 6, disturbances, FAULTY)
    assert disturbances.kills
    assert decisions(tmp_path / "killed") == decisions(tmp_path / "undisturbed")
    compare(tmp_path / "killed", tmp_path / "undisturbed", history=str(disturbances.kills))
