"""Run the command line in a subprocess, or its job in this process, on studies that are small enough for tests."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

import nasproxy
from nasproxy.data.loading import load_dataset
from nasproxy.errors import NasproxyError
from nasproxy.trials.overrides import flatten
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.spec import Recipe, Split, TrialSpec

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "data.loader.train_size=200",
    "training.total_steps=60",
    "training.check_every_steps=10",
    "variance.seeds=2",
    "variance.min_seeds=2",
    "variance.on_failure=warn",
    "references.initial=5",
    "references.max=0",
    "criterion=first_crossing",
    "proxy.data_fraction=[0.5,1.0]",
    "proxy.width=[0.5]",
    "proxy.image_size=1.0",
    "controller.grace_seconds=5",
    "cost.estimate_first=false",
)
"""Overrides for real data, models and trainings of a few tenths of a second."""


def environment() -> dict[str, str]:
    """Return environment variables with which modules of the tests can be used as targets."""
    path = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}


def start(*overrides: str, folder: Path) -> "subprocess.Popen[str]":
    """Start `python run.py` with overrides, on studies in `folder`."""
    return start_plain(*overrides, f"studies_dir={folder}")


def start_plain(*arguments: str) -> "subprocess.Popen[str]":
    """Start `python run.py` with these arguments only."""
    command = [sys.executable, "run.py", *arguments]
    # Background jobs of a shell ignore SIGINT, which child processes of the tests would inherit.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            command, cwd=ROOT, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    finally:
        signal.signal(signal.SIGINT, before)


def python(*arguments: str) -> int:
    """Run the Python interpreter and return its exit status."""
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment(), check=False).returncode


def run(*overrides: str, folder: Path, seconds: float = 300.0) -> tuple[int, str]:
    """Run a process to its end and return exit status and output."""
    process = start(*overrides, folder=folder)
    output, _ = process.communicate(timeout=seconds)
    return process.returncode, output


def find_refusal(*overrides: str) -> str:
    """Run a job in this process and return the message of the error that refuses it.

    The command prints this message after `nasproxy: ` and exits with 2 (`tests/test_cli.py` runs some commands); a
    process of its own would take seconds to start.
    """
    path = [*sys.path]
    try:
        nasproxy.run(overrides)
    except NasproxyError as error:
        return str(error)
    finally:
        sys.path[:] = path
    raise AssertionError(f"not refused: {' '.join(overrides)}")


def conf(name: str) -> Any:
    """Load a config file, merged with the files of its group in its defaults list."""
    content = yaml.safe_load((ROOT / "conf" / f"{name}.yaml").read_text())
    group, _, _ = name.rpartition("/")
    below = [entry for entry in content.pop("defaults", []) if isinstance(entry, str) and entry != "_self_" and group]
    return {key: value for entry in below for key, value in conf(f"{group}/{entry}").items()} | content


def digits_spec(task: ProxyTask, **recipe: Any) -> TrialSpec:
    """Make a short trial of the embedded study's baseline model."""
    space, data = conf("search_space/digits_cnn"), conf("data/digits")
    trainer = conf("trainer/plain_pytorch")
    settings = {
        "model": space["model"],
        "trainer": trainer,
        "data": data,
        "data_fingerprint": load_dataset(data).fingerprint,
        "total_steps": 20,
        "check_every_steps": 10,
        **recipe,
    }
    return TrialSpec(flatten(space["baseline"]), task, Split.SEARCH, 0, Recipe(**settings))
