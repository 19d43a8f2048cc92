"""A kill of the warm server at any time changes no result of a trial or preflight."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nasproxy.errors import WorkerStartError
from nasproxy.execution import fork_server
from nasproxy.execution.backends.local import LocalBackend
from nasproxy.execution.fork_server import ForkServer
from nasproxy.storage.locks import is_locked
from nasproxy.storage.trial_stores import FolderTrialStore
from nasproxy.testing.backend_contract import make_spec
from nasproxy.trials.records import Request, State
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
def dead_server() -> None:
    """Kill the server that other tests have started."""
    ForkServer().preflight([])
    pid = fork_server._server_pid()
    assert pid is not None
    kill_server()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@pytest.mark.usefixtures("dead_server")
def test_a_server_that_is_killed_while_it_imports_is_started_again() -> None:
    killer = kill_new_servers(1)
    ForkServer().preflight([])
    killer.join(10)
    assert not killer.is_alive(), "one server is killed"


@pytest.mark.usefixtures("dead_server")
def test_a_server_that_is_killed_three_times_raises_an_error_with_advice() -> None:
    killer = kill_new_servers(3)
    with pytest.raises(WorkerStartError, match="got one that ended three times while it did: free memory"):
        ForkServer().preflight([])
    killer.join(10)
    ForkServer().preflight([])


@pytest.fixture
def store(tmp_path: Path) -> FolderTrialStore:
    return FolderTrialStore(tmp_path / "trials")


@pytest.fixture
def backend(store: FolderTrialStore) -> Iterator[LocalBackend]:
    backend = LocalBackend(store, slots=1)
    yield backend
    backend.close()


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def train(store: FolderTrialStore, backend: LocalBackend, spec: TrialSpec) -> None:
    store.request(spec.key, Request())
    backend.submit(spec.key, store.create(spec))
    wait_until(lambda: bool(backend.wait(0.1)) or not backend.live())


def test_a_server_that_is_killed_between_two_trials_is_started_again(
    store: FolderTrialStore, backend: LocalBackend
) -> None:
    for spec in (make_spec(), make_spec(seed=1)):
        train(store, backend, spec)
        assert store.read(spec.key).status.state is State.DONE
        kill_server()


def test_a_trial_outlives_the_server_and_is_not_trained_twice(store: FolderTrialStore, backend: LocalBackend) -> None:
    spec = make_spec(check_seconds=0.2)
    store.request(spec.key, Request())
    backend.submit(spec.key, store.create(spec))
    wait_until(lambda: store.read(spec.key).step > 0)
    kill_server()
    assert backend.wait(5.0) == {spec.key}, "the end of a trial cannot be distinguished from that of the server"
    assert is_locked(store.folder(spec.key).lock)
    backend.submit(spec.key, store.create(spec))
    wait_until(lambda: bool(backend.wait(0.1)))
    status = store.read(spec.key).status
    assert (status.state, status.failures) == (State.DONE, 0)


def test_a_preflight_outlives_the_server() -> None:
    spec = make_spec()
    trainer = {**spec.recipe.trainer, "_target_": "helpers.user_code.careful"}
    slow = replace(spec, recipe=replace(spec.recipe, trainer=trainer))
    server = ForkServer()
    server.preflight([])
    threading.Timer(1.0, kill_server).start()
    assert server.preflight([slow]) == ["checked"]
