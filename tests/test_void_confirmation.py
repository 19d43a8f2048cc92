"""Confirmations of a program's trainings, from the command line: void, and confirmed once the cause is gone."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import nasproxy
from helpers import cli
from nasproxy.stages.confirmation.state import ConfirmationOutcome
from nasproxy.storage.study_stores import FolderStudyStore

Run = Callable[..., tuple[int, str]]
PROGRAM = cli.ROOT / "tests" / "helpers" / "formula_program.py"
GIVEN = ("quality", "seed", "total_steps", "check_steps")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the study of the program with further arguments of it, and further overrides."""

    def run(*arguments: str, overrides: tuple[str, ...] = ()) -> tuple[int, str]:
        filled = [f"--{name}={{{'architecture.quality' if name == 'quality' else name}}}" for name in GIVEN]
        experiment = {
            "defaults": [{f"override /{group}": choice} for group, choice in GROUPS.items()],
            "study": "program",
            "data": {"fingerprint": "formula"},
            "search_space": {"name": "formula", "model": {}, "choices": {"quality": list(range(5, 100, 6))}},
            "trainer": {"command": ["{python}", str(PROGRAM), *filled, *arguments]},
            "training": {"total_steps": 100, "check_every_steps": 20, "accelerator": "cpu"},
            "variance": {"seeds": 2, "min_seeds": 2, "on_failure": "warn"},
            "references": {"initial": 5, "max": 0},
            "cost": {"estimate_first": False},
            "controller": {"poll_seconds": 0.05},
        }
        path = tmp_path / "conf" / "experiment" / "program.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# @package _global_\n{yaml.safe_dump(experiment, sort_keys=False)}")
        return cli.run("--config-dir", str(path.parents[1]), "experiment=program", *overrides, folder=tmp_path)

    return run


GROUPS = {
    "search_space": None,
    "data": "none",
    "trainer": "command",
    "backend": "inline",
    "criterion": "first_crossing",
    "proxy": "data50",
    "tracking": "csv",
}


def list_keys(folder: Path) -> set[str]:
    return set(FolderStudyStore(folder / "program").trials.keys())


@pytest.mark.gate
def test_failed_runs_void_the_confirmation_until_their_cause_is_fixed(tmp_path: Path, run: Run) -> None:
    fixed = tmp_path / "fixed"
    arguments = ("--fails_at=40", f"--unless={fixed}")
    code, output = run(*arguments)
    assert code == 2, output
    reason = "0 of at least 5 models are left: 5 of 5 confirmation runs failed (5 crash), the first with "
    assert f"data50: confirmation void, {reason}" in output
    assert f"nasproxy: the confirmation of data50 needs runs that test its verdict, and is void: {reason}" in output
    assert "the program is broken. Fix the cause and run the command again: failed runs are retried." in output
    assert "data50: confirmed" not in output
    study = nasproxy.load_study(tmp_path / "program")
    assert study.verdict.headline == "Accepted, confirmation void: data50, grade weak, stopped after 40 of 100 steps"
    assert study.verdict.confirmation is ConfirmationOutcome.VOID
    assert study.decisions.decision.iloc[-1] == "reference models: void (failed trials)"
    page = (tmp_path / "program" / "report" / "index.html").read_text(encoding="utf-8")
    assert "Accepted, confirmation void: data50, grade weak" in page, "the report is written before the command ends"
    assert "void (failed trials)" in (tmp_path / "program" / "tracking" / "confirmations.csv").read_text()
    before = list_keys(tmp_path)
    fixed.touch()
    code, output = run(*arguments)
    assert code == 0, output
    assert "data50: confirmed, tau 1.00 on 5 models" in output
    assert nasproxy.load_study(tmp_path / "program").verdict.confirmation is ConfirmationOutcome.STANDS
    assert list_keys(tmp_path) == before


@pytest.mark.gate
def test_a_schedule_that_ignores_the_total_voids_the_confirmation_unless_it_is_declared(
    tmp_path: Path, run: Run
) -> None:
    code, output = run("--schedule_steps=100")
    assert code == 2, output
    assert "data50: confirmation void, the confirmation runs scored exactly as the proxy search after 40" in output
    assert "Pass the total to the trainer ({total_steps} in trainer.command, trial.total_steps in Python)" in output
    assert "The confirmation is void: identical scores." in output
    before = list_keys(tmp_path)
    code, output = run("--schedule_steps=100", overrides=("confirm.allow_identical=true",))
    assert code == 0, output
    assert "data50: confirmed" in output
    assert list_keys(tmp_path) == before, "it is judged again on the same runs"
