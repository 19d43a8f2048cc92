import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.cli import digits_spec
from nasproxy.errors import ConfigError
from nasproxy.execution.backends.local import LocalBackend
from nasproxy.storage.locks import FileLock, is_locked
from nasproxy.storage.trial_stores import FolderTrialStore
from nasproxy.testing.backend_contract import ProcessBackendContract, make_spec
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Cause, Request, State, Status
from nasproxy.trials.spec import TrialSpec


class TestLocalBackend(ProcessBackendContract):
    @pytest.fixture
    def make_backend(self) -> Iterator[Callable[..., LocalBackend]]:
        made: list[LocalBackend] = []

        def make(store: FolderTrialStore, **settings: Any) -> LocalBackend:
            made.append(LocalBackend(store, **settings))
            return made[-1]

        yield make
        for backend in made:
            backend.close()


def abandon_worker(
    store: FolderTrialStore, spec: TrialSpec, *, after_step: int = 1
) -> "multiprocessing.process.BaseProcess":
    """Start a worker from a controller, kill the controller after a check and return it."""
    context = multiprocessing.get_context("spawn")
    controller = context.Process(target=_run_controller, args=(store.root, spec))
    controller.start()
    while not is_locked(store.folder(spec.key).lock) or store.read(spec.key).step < after_step:
        time.sleep(0.02)
    time.sleep(0.2)  # until the worker has read its request and trains on
    controller.kill()
    controller.join()
    return controller


def _run_controller(root: Path, spec: TrialSpec) -> None:
    store = FolderTrialStore(root)
    lease = FileLock(root.parent / "controller.lock")
    lease.acquire()
    store.request(spec.key, Request(lease=str(lease.path)))
    backend = LocalBackend(store, slots=1)
    backend.submit(spec.key, store.create(spec))
    while True:
        backend.wait(1.0)


def test_a_worker_whose_controller_is_killed_stops_at_its_next_check(tmp_path: Path) -> None:
    store, spec = FolderTrialStore(tmp_path / "trials"), make_spec(check_seconds=0.3)
    abandon_worker(store, spec)
    deadline = time.monotonic() + 20
    while is_locked(store.folder(spec.key).lock):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert store.read(spec.key).status.state is State.PAUSED


def test_a_hung_worker_of_a_dead_controller_is_killed_and_its_trial_counts_as_lost(tmp_path: Path) -> None:
    store, spec = FolderTrialStore(tmp_path / "trials"), make_spec(fault="hang")
    abandon_worker(store, spec, after_step=40)  # it hangs before the next check
    backend = LocalBackend(store, slots=1, hang_seconds=1.0, max_attempts=1)
    backend.submit(spec.key, store.create(spec))
    assert backend.live() == {spec.key}, "the running worker is adopted"
    deadline = time.monotonic() + 30
    while backend.live():
        assert time.monotonic() < deadline
        backend.wait(0.1)
    status = store.read(spec.key).status
    assert status.cause is Cause.LOST
    assert "raise backend.hang_seconds" in str(status.message)


def test_zero_cost_scores_are_measured_in_worker_processes(tmp_path: Path) -> None:
    full = digits_spec(ProxyTask())
    narrow, small = digits_spec(ProxyTask(width=0.5)), digits_spec(ProxyTask(image_size=0.5))
    broken = replace(full, architecture={**full.architecture, "stage1.repeats": 0})
    backend = LocalBackend(FolderTrialStore(tmp_path / "trials"), slots=1)
    scores = backend.zero_costs([full, narrow, small, broken])
    assert scores[3] is None, "a model that cannot be built has no scores"
    whole, thin, tiny = (score for score in scores[:3] if score is not None)
    assert whole.parameters == tiny.parameters > thin.parameters
    assert whole.flops is not None
    assert tiny.flops is not None
    assert whole.flops > 3 * tiny.flops
    assert whole.synflow is not None


def test_a_model_that_kills_the_scoring_process_has_no_scores_and_the_others_do(tmp_path: Path) -> None:
    full = digits_spec(ProxyTask())
    mortal = replace(full, recipe=replace(full.recipe, model={"_target_": "helpers.user_code.mortal"}))
    scores = LocalBackend(FolderTrialStore(tmp_path / "trials"), slots=1).zero_costs([full, mortal, full])
    assert scores[1] is None
    assert scores[0] is not None
    assert scores[0] == scores[2]


def run_to_end(backend: LocalBackend, store: FolderTrialStore, spec: TrialSpec) -> Status:
    """Run a trial until its worker has ended and return its status."""
    backend.submit(spec.key, store.create(spec))
    while backend.live():
        backend.wait(0.1)
    return store.read(spec.key).status


def test_the_message_of_a_killed_worker_names_the_likely_cause(tmp_path: Path) -> None:
    store = FolderTrialStore(tmp_path / "trials")
    status = run_to_end(LocalBackend(store, slots=1, max_attempts=1), store, make_spec(fault="die"))
    assert status.cause is Cause.LOST
    assert "often by the kernel because memory ran out: set backend.memory_gib" in str(status.message)


def test_the_message_of_a_hung_worker_does_not_blame_memory(tmp_path: Path) -> None:
    store = FolderTrialStore(tmp_path / "trials")
    status = run_to_end(LocalBackend(store, slots=1, max_attempts=1, hang_seconds=1.0), store, make_spec(fault="hang"))
    assert status.cause is Cause.LOST
    assert str(status.message).startswith("its worker was killed after 1 s without a heartbeat: ")
    assert "raise backend.hang_seconds" in str(status.message)


@pytest.mark.parametrize("sign", ["alive", "output"])
def test_a_worker_with_output_or_heartbeat_is_not_hung(tmp_path: Path, sign: str) -> None:
    trainer = {"_target_": "helpers.user_code.long_cycle", "version": 1, "seconds": 3.0, "sign": sign}
    spec = make_spec()
    spec = replace(spec, recipe=replace(spec.recipe, trainer=trainer, check_every_steps=None))
    store = FolderTrialStore(tmp_path / "trials")
    backend = LocalBackend(store, slots=1, max_attempts=1, hang_seconds=1.5, trusted_modules=("helpers",))
    assert run_to_end(backend, store, spec).state is State.DONE


@pytest.mark.parametrize(
    ("settings", "devices", "processes"),
    [
        ({"gpus_per_trial": 2}, 1, 1),
        ({"gpus_per_trial": 2}, 2, 2),
        ({"gpus_per_trial": 1}, 1, 2),
        ({"gpus_per_trial": 1}, 2, 2),
        ({"gpus_per_trial": 1, "slots": 1}, 2, 2),
        ({"gpus_per_trial": 0.5}, 2, 2),
    ],
)
def test_threads_of_all_processes_add_up_to_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], devices: int, processes: int
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    store, spec = FolderTrialStore(tmp_path / "trials"), make_spec()
    spec = replace(spec, recipe=replace(spec.recipe, devices=devices))
    status = run_to_end(LocalBackend(store, device_type="cuda", **settings), store, spec)
    assert (status.state, status.threads) == (State.DONE, max(1, len(os.sched_getaffinity(0)) // processes))


def test_trials_on_several_devices_start_in_order(tmp_path: Path) -> None:
    store = FolderTrialStore(tmp_path / "trials")
    backend = LocalBackend(store, slots=2)
    specs = [make_spec(seed, check_seconds=0.02) for seed in range(4)]
    specs[1] = replace(specs[1], recipe=replace(specs[1].recipe, devices=2))
    for spec in specs:
        backend.submit(spec.key, store.create(spec))
    seen: list[set[int]] = []
    while backend.live():
        running = {number for number, spec in enumerate(specs) if spec.key in backend.running()}
        seen += [running] if running not in seen else []
        backend.wait(0.02)
    assert seen[:3] == [{0}, {1}, {2, 3}]


def test_a_memory_limit_of_zero_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"backend.memory_gib must be above 0, got 0: use null"):
        LocalBackend(FolderTrialStore(tmp_path / "trials"), memory_gib=0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hang_seconds": 0.0}, "backend.hang_seconds must be above 0, got 0: use null to wait for ever"),
        ({"hang_seconds": -1.0}, "backend.hang_seconds must be above 0, got -1"),
        ({"hang_seconds": math.nan}, "backend.hang_seconds must be above 0, got nan"),
        ({"max_attempts": 0}, "backend.max_attempts must be at least 1, got 0"),
        ({"gpus": 0}, "backend needs gpus of at least 1 and gpus_per_trial above 0, got 0 and 1"),
        ({"gpus_per_trial": 0.0}, "backend needs gpus of at least 1 and gpus_per_trial above 0, got None and 0"),
        ({"memory_gib": 1e26}, "backend.memory_gib must be above 0"),
    ],
)
def test_options_that_cannot_be_kept_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LocalBackend(FolderTrialStore(tmp_path / "trials"), **options)


def test_a_memory_limit_below_that_of_a_worker_is_refused_by_the_preflight(tmp_path: Path) -> None:
    backend = LocalBackend(FolderTrialStore(tmp_path / "trials"), memory_gib=0.01)
    with pytest.raises(ConfigError, match=r"must exceed the memory of a worker before training, 0\.\d\d GiB, got 0.01"):
        backend.preflight([make_spec()])
