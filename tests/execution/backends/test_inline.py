"""The inline backend: trials in the controller's process, where a debugger works."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.cli import ROOT, environment
from nasproxy.errors import ConfigError
from nasproxy.execution.backends.backend import BackendContext
from nasproxy.execution.backends.inline import InlineBackend
from nasproxy.execution.orders import run_preflight
from nasproxy.execution.work_order import OrderTemplate
from nasproxy.storage.trial_stores import FolderTrialStore, MemoryTrialStore
from nasproxy.testing.backend_contract import BackendContract, MakeBackend, make_spec
from nasproxy.testing.backend_driver import BackendDriver
from nasproxy.trials.records import Cause, State
from nasproxy.trials.spec import TrialSpec

DEBUG = (
    "experiment=debug",
    "backend=inline",
    "job=measure_variance",
    "variance.seeds=2",
    "variance.min_seeds=2",
    "variance.on_failure=warn",
    "cost.estimate_first=false",
)


class TestInlineBackend(BackendContract):
    @pytest.fixture
    def make_backend(self) -> MakeBackend:
        return lambda store: InlineBackend(context=BackendContext(store, store.root.parent))


def drive(folder: Path) -> BackendDriver:
    store = FolderTrialStore(folder / "trials")
    backend = InlineBackend(context=BackendContext(store, folder))
    return BackendDriver(backend, store, OrderTemplate(folder, ("nasproxy", "helpers"), max_attempts=1))


def with_trainer(name: str, devices: int = 1) -> TrialSpec:
    spec = make_spec()
    trainer = {"_target_": f"helpers.user_code.{name}", "version": 1}
    return replace(spec, recipe=replace(spec.recipe, trainer=trainer, devices=devices))


def test_a_trial_trains_in_this_process(tmp_path: Path) -> None:
    driver, spec = drive(tmp_path), with_trainer("note_process")
    assert driver.run(spec).status.state is State.DONE
    assert (tmp_path / "trials" / spec.key / "process").read_text() == str(os.getpid())


def test_an_exit_of_the_trainers_code_is_a_crash_of_its_trial(tmp_path: Path) -> None:
    status = drive(tmp_path).run(with_trainer("exit_at_once")).status
    assert (status.state, status.cause) == (State.FAILED, Cause.CRASH)


def test_quitting_the_debugger_interrupts_the_study_and_costs_no_attempt(tmp_path: Path) -> None:
    driver, quit_one, waiting = drive(tmp_path), with_trainer("quit_debugger"), make_spec()
    driver.submit(quit_one, waiting)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        driver.poll(1.0)
    (ended,) = driver.poll(1.0)
    assert (ended.key, ended.is_cancelled) == (quit_one.key, True), "the other trial has not begun"
    status = driver.store.read(quit_one.key).status
    assert (status.state, status.failures) == (State.PENDING, 0)


def test_a_trainer_that_runs_as_ranks_is_refused_on_several_devices(tmp_path: Path) -> None:
    driver, spec = drive(tmp_path), with_trainer("ranked", devices=2)
    sentence = "backend=inline trains in one process, got a trainer that runs as 2 .*: use one device, or backend=local"
    with pytest.raises(ConfigError, match=sentence):
        run_preflight(driver.backend, driver.orders, [spec])
    assert driver.run(spec).status.cause is Cause.SETUP


def test_trials_in_memory_are_refused() -> None:
    with pytest.raises(ConfigError, match="backend=inline trains in the study's folder"):
        InlineBackend(context=BackendContext(MemoryTrialStore()))


@pytest.mark.gate
def test_a_breakpoint_in_a_trainer_opens_the_debugger_and_the_study_goes_on(tmp_path: Path) -> None:
    target = "trainer._target_=helpers.user_code.stop_in_debugger"
    command = [sys.executable, "run.py", *DEBUG, target, f"studies_dir={tmp_path}"]
    ended = subprocess.run(
        command, cwd=ROOT, env=environment(), input="p 6 * 7\nc\n" * 20, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "(Pdb) 42" in ended.stdout
    assert list(tmp_path.glob("*/variance/state.json"))
