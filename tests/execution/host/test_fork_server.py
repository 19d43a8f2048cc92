"""A kill of the warm server at any time changes no result of a trial or preflight."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nasproxy.errors import WorkerStartError
from nasproxy.execution.backends.backend import BackendContext
from nasproxy.execution.backends.local import LocalBackend
from nasproxy.execution.host import fork_server
from nasproxy.execution.orders import run_preflight
from nasproxy.execution.work_order import OrderTemplate
from nasproxy.storage.trial_stores import FolderTrialStore
from nasproxy.testing.backend_contract import make_spec
from nasproxy.testing.backend_driver import BackendDriver
from nasproxy.trials.records import State
from nasproxy.trials.spec import TrialSpec


def kill_server() -> None:
    pid = fork_server._server_pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def kill_new_servers(count: int) -> threading.Thread:
    """Kill the next `count` servers, each soon after its start."""

    def kill() -> None:
        killed: set[int | None] = {fork_server._server_pid(), None}
        while len(killed) < count + 2:
            pid = fork_server._server_pid()
            if pid not in killed:
                time.sleep(0.2)  # kill it while it imports
                killed.add(pid)
                kill_server()
            time.sleep(0.001)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[BackendDriver]:
    store = FolderTrialStore(tmp_path / "trials")
    backend = LocalBackend(context=BackendContext(store, tmp_path), slots=1)
    yield BackendDriver(backend, store, OrderTemplate(tmp_path, ("nasproxy", "helpers")))
    backend.close()


def preflight(driver: BackendDriver, *specs: TrialSpec) -> tuple[str, ...]:
    return run_preflight(driver.backend, driver.orders, specs)


@pytest.fixture
def dead_server(driver: BackendDriver) -> None:
    """Kill the server that other tests have started."""
    preflight(driver)
    pid = fork_server._server_pid()
    assert pid is not None
    kill_server()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@pytest.mark.usefixtures("dead_server")
def test_a_server_that_is_killed_while_it_imports_is_started_again(driver: BackendDriver) -> None:
    killer = kill_new_servers(1)
    preflight(driver)
    killer.join(10)
    assert not killer.is_alive(), "one server is killed"


@pytest.mark.usefixtures("dead_server")
def test_a_server_that_is_killed_three_times_raises_an_error_with_advice(driver: BackendDriver) -> None:
    killer = kill_new_servers(3)
    with pytest.raises(WorkerStartError, match="got one that ended three times while it did: free memory"):
        preflight(driver)
    killer.join(10)
    preflight(driver)


def test_a_server_that_is_killed_between_two_trials_is_started_again(driver: BackendDriver) -> None:
    for spec in (make_spec(), make_spec(seed=1)):
        assert driver.run(spec).status.state is State.DONE
        kill_server()


def test_a_trial_outlives_the_server_and_is_not_trained_twice(driver: BackendDriver) -> None:
    spec = make_spec(check_seconds=0.2)
    driver.submit(spec)
    driver.poll_until_checked(spec)
    kill_server()
    driver.finish()
    status = driver.store.read(spec.key).status
    assert (status.state, status.failures) == (State.DONE, 0)


def test_a_preflight_outlives_the_server(driver: BackendDriver) -> None:
    spec = make_spec()
    trainer = {**spec.recipe.trainer, "_target_": "helpers.user_code.careful"}
    slow = replace(spec, recipe=replace(spec.recipe, trainer=trainer))
    preflight(driver)
    threading.Timer(1.0, kill_server).start()
    assert preflight(driver, slow) == ("checked",)
