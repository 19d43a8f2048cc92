"""Messages and exit statuses for faulty user code, missing packages, invalid folders and closed outputs."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import cli
from helpers.written_studies import NewStudy
from nasproxy.storage.json_records import SCHEMA
from nasproxy.storage.study import RECORD

DEBUG = ("experiment=debug", "references.initial=8", "references.max=0", "cost.estimate_first=false")


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["proxy=generator", "proxy.generator._target_=sys.exit"], "proxy.generator (sys.exit) must not end the"),
        (["proxy=generator", "proxy.generator._target_=helpers.user_code.leave"], "user_code.py, line"),
        (["proxy=generator", "proxy.generator._target_=helpers.script_without_main.x"], "must be importable, got"),
        (["data.loader={_target_:helpers.user_code.leave}"], "data.loader (helpers.user_code.leave) must not end"),
        (["selection={_target_:helpers.user_code.leave}"], "selection (helpers.user_code.leave) must not end"),
        (["criterion={_target_:helpers.user_code.leave}"], "criterion (helpers.user_code.leave) must not end"),
        (["tracking={_target_:helpers.user_code.leave}"], "tracking (helpers.user_code.leave) must not end"),
        (["backend={_target_:helpers.user_code.leave}"], "backend (helpers.user_code.leave) must not end"),
        (["trainer._target_=helpers.user_code.hurried"], "the trainer's check must not end the program, and raised"),
        (["trainer._target_=helpers.script_without_main.train"], "trainer._target_ must be importable, got"),
        (
            ["search_space=digits_cnn", "data=digits", "search_space.model._target_=helpers.user_code.leave"],
            "search_space.model (helpers.user_code.leave) must not end",
        ),
        (["criterion={_target_:helpers.user_code.ImpatientJudge}"], "code that the configuration names must not end"),
    ],
)
def test_user_code_that_ends_the_program_gives_an_error(tmp_path: Path, overrides: list[str], sentence: str) -> None:
    refusal = cli.find_refusal(*DEBUG, *overrides, f"studies_dir={tmp_path}")
    assert sentence in refusal
    assert "Traceback" not in refusal


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["proxy=generator", "proxy.generator._target_=sys.exit"], "proxy.generator (sys.exit) must not end the"),
        (["trainer._target_=helpers.module_that_ends_its_process.train"], "got exit status 0: remove the exit from"),
    ],
)
def test_user_code_that_ends_the_process_exits_with_a_status_of_its_own(
    tmp_path: Path, overrides: list[str], sentence: str
) -> None:
    code, output = cli.run(*DEBUG, *overrides, folder=tmp_path)
    assert code == 2, output
    assert sentence in output.splitlines()[-1]
    assert output.splitlines()[-1].startswith("nasproxy: ")
    assert "Traceback" not in output


def test_a_trainer_that_ends_its_worker_gives_an_error(tmp_path: Path) -> None:
    refusal = cli.find_refusal(*DEBUG, "trainer={_target_:helpers.user_code.leave}", f"studies_dir={tmp_path}")
    assert "SystemExit: 0" in refusal.splitlines()[-1]


ODD_NAMES = ("../../outside", "..", ".", "a/b", "/absolute", "/", "'é'", "'a b'", ".sweep", "-m", "x" * 65)


@pytest.mark.parametrize("flags", [[], ["-m"], ["dry_run=true"]])
def test_a_study_name_cannot_leave_the_folder_of_studies(tmp_path: Path, flags: list[str]) -> None:
    folder = tmp_path / "work" / "studies"
    for name in ODD_NAMES[:1] if "-m" in flags else ODD_NAMES:
        if "-m" in flags:
            code, output = cli.run(*flags, "experiment=debug", f"study={name}", folder=folder)
            assert code == 2, output
            refusal = output
        else:
            refusal = cli.find_refusal(*flags, "experiment=debug", f"study={name}", f"studies_dir={folder}")
        assert "study must be a name of 1 to 64 letters" in refusal
    assert {path.relative_to(folder).parts[0] for path in folder.rglob("*")} <= {".sweep"}
    assert set(tmp_path.iterdir()) <= {tmp_path / "work"}
    assert set((tmp_path / "work").glob("*")) <= {folder}


def test_a_sweep_refuses_a_folder_that_it_cannot_write_to() -> None:
    output, code = finish(cli.start_plain("-m", "experiment=debug", "studies_dir=/etc/hostname/below"))
    assert code == 2, output
    assert output.splitlines()[-1].startswith("nasproxy: studies_dir must be a folder that can be written to, got ")


def finish(process: "subprocess.Popen[str]") -> tuple[str, int]:
    output, _ = process.communicate(timeout=120)
    return output, process.returncode


class Environment:
    """The packages of the test environment, without some of them."""

    def __init__(self, folder: Path, *without: str) -> None:
        self._folder = folder
        for entry in Path(sysconfig.get_path("purelib")).iterdir():
            if entry.name not in without:
                (folder / entry.name).symlink_to(entry)

    def run(self, *arguments: str) -> tuple[int, str]:
        path = os.pathsep.join([str(self._folder), str(cli.ROOT), str(cli.ROOT / "tests")])
        command = [sys.executable, "-S", "run.py", *arguments]
        ended = subprocess.run(
            command, cwd=cli.ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=120
        )
        return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("overrides", "advice"),
    [
        (["-m", "hydra/launcher=joblib"], "pip install 'nasproxy[joblib]', or in a clone pip install -e '.[joblib]'"),
        (["-m", "hydra/launcher=submitit_slurm"], "pip install hydra-submitit-launcher"),
        (["tracking=wandb"], "pip install 'nasproxy[wandb]', or in a clone pip install -e '.[wandb]'"),
        (["experiment=replay", "backend.table=curves.parquet"], "pip install 'nasproxy[parquet]', or in a clone"),
    ],
)
def test_a_missing_package_is_reported_with_the_command_that_installs_it(
    tmp_path: Path, overrides: list[str], advice: str
) -> None:
    (tmp_path / "site").mkdir()
    environment = Environment(tmp_path / "site", "hydra_plugins", "wandb", "pyarrow")
    (tmp_path / "curves.parquet").touch()
    table = [override.replace("curves", str(tmp_path / "curves")) for override in overrides]
    experiment = [] if "experiment=replay" in overrides else [*DEBUG]
    code, output = environment.run(*table, *experiment, f"studies_dir={tmp_path / 'studies'}")
    assert code == 2, output
    assert "not installed" in output.splitlines()[-1]
    assert advice in output.splitlines()[-1]
    assert "Traceback" not in output


@pytest.mark.parametrize(("schema", "which"), [(SCHEMA - 1, "an earlier"), (SCHEMA + 1, "a later")])
def test_every_job_refuses_a_study_of_another_version(new_study: NewStudy, schema: int, which: str) -> None:
    study = new_study(3).folder
    record = study.path / f"{RECORD}.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "schema": schema}))
    before = {path: path.stat().st_mtime_ns for path in study.path.rglob("*")}
    for job in (["job=report"], ["job=list_trials"], ["job=design"], ["-m", "proxy=data50"], ["dry_run=true"]):
        command = [*job, "experiment=debug", f"study={study.path.name}"]
        if "-m" in job:
            code, output = cli.run(*command, folder=study.path.parent)
            assert code == 2, output
            refusal = output.splitlines()[-2]  # the last line counts the failed jobs
        else:
            refusal = cli.find_refusal(*command, f"studies_dir={study.path.parent}")
        assert f"study {study.path.name} was written by {which} version of nasproxy" in refusal
    assert {path: path.stat().st_mtime_ns for path in study.path.rglob("*")} == before


DIGITS = ("references.initial=8", "references.max=0", "cost.estimate_first=false", "training.check_every_steps=10")
"""A study of the embedded models, as far as its preflight or its first trials."""


@pytest.mark.gate
def test_a_study_stops_at_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    for part, name in [(part, name) for part in ("train", "val") for name in "ab"]:
        folder = tmp_path / "images" / part / name
        folder.mkdir(parents=True)
        for number in range(8):
            Image.fromarray(pixels).save(folder / f"{number}.png")
    for path in tmp_path.glob("images/train/*/*.png"):
        path.write_bytes(path.read_bytes()[:200])
    loader = ["data=image_folder", f"data.loader.root={tmp_path}/images", "data.loader.image_size_px=16"]
    code, output = cli.run(*DIGITS, *loader, "data.loader.num_workers=0", folder=tmp_path / "studies", seconds=600)
    assert code == 2, output
    last = output.splitlines()[-1]
    assert last.startswith("nasproxy: a trial of any model would fail, so the study stops: ")
    assert "must be a readable image" in last
    assert "Traceback" not in output
    statuses = [json.loads(path.read_text()) for path in tmp_path.glob("studies/*/trials/*/status.json")]
    assert [(status["state"], status["cause"], status["failures"]) for status in statuses] == [("failed", "setup", 1)]


@pytest.mark.gate
@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["search_space.model={_target_:helpers.user_code.normalizing}", "trainer.batch_size=1"],
            "got one image in a forward pass (full training, the smallest of ",
        ),
        (["search_space.model={_target_:helpers.user_code.three_outputs}"], "got (images, 3) in training mode (full"),
    ],
)
def test_a_study_is_refused_before_its_first_trial(tmp_path: Path, overrides: list[str], sentence: str) -> None:
    refusal = cli.find_refusal(*DIGITS, *overrides, f"studies_dir={tmp_path}")
    assert sentence in refusal
    assert "Traceback" not in refusal
    assert not list(tmp_path.glob("*/trials/*")), "nothing was trained"


@pytest.mark.gate
def test_a_program_that_ignores_its_total_is_refused_before_its_first_trial(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text('for step in range(80, 4000, 80): print(f\'{{"step": {step}, "accuracy": 0.5}}\', flush=True)')
    command = [f"trainer.command=['{{python}}',{script}]", "cost.estimate_first=false"]
    code, output = cli.run("experiment=example_perl", *command, folder=tmp_path / "studies", seconds=600)
    assert code == 2, output
    assert "must end after step 80, got a report of step 160: pass it {total_steps}" in output.splitlines()[-1]
    assert '{"step"' not in output, "its output is kept from the terminal"
    assert not list(tmp_path.glob("studies/*/trials/*"))
