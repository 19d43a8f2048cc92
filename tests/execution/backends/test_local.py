import math
import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.cli import digits_spec
from nasproxy.errors import ConfigError
from nasproxy.execution.backends.backend import BackendContext
from nasproxy.execution.backends.local import LocalBackend
from nasproxy.execution.host.cores import count_cores
from nasproxy.execution.orders import measure_models, run_preflight
from nasproxy.execution.work_order import OrderTemplate
from nasproxy.storage.locks import FileLock, is_locked
from nasproxy.storage.trial_stores import FolderTrialStore
from nasproxy.testing.backend_contract import MakeBackend, ProcessBackendContract, make_spec
from nasproxy.testing.backend_driver import BackendDriver
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Cause, Request, State
from nasproxy.trials.spec import TrialSpec


def open_backend(store: FolderTrialStore, *, device_type: str = "cpu", **options: Any) -> LocalBackend:
    return LocalBackend(context=BackendContext(store, store.root.parent, device_type), **options)


def drive(
    store: FolderTrialStore, max_attempts: int = 3, trusted_modules: tuple[str, ...] = ("nasproxy",), **options: Any
) -> BackendDriver:
    orders = OrderTemplate(store.root.parent, trusted_modules, max_attempts=max_attempts)
    return BackendDriver(open_backend(store, **options), store, orders)


class TestLocalBackend(ProcessBackendContract):
    @pytest.fixture
    def make_backend(self) -> Iterator[MakeBackend]:
        made: list[LocalBackend] = []

        def make(store: FolderTrialStore) -> LocalBackend:
            made.append(open_backend(store, slots=2))
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
    driver = drive(store, slots=1)
    driver.submit(spec)
    while True:
        driver.poll(1.0)


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
    status = drive(store, slots=1, hang_seconds=1.0, max_attempts=1).run(spec).status
    assert (status.state, status.failures) == (State.FAILED, 1), "the running worker is adopted"
    assert status.cause is Cause.LOST
    assert "raise backend.hang_seconds" in str(status.message)


def test_zero_cost_scores_are_measured_in_worker_processes(tmp_path: Path) -> None:
    full = digits_spec(ProxyTask())
    narrow, small = digits_spec(ProxyTask(width=0.5)), digits_spec(ProxyTask(image_size=0.5))
    broken = replace(full, architecture={**full.architecture, "stage1.repeats": 0})
    backend = open_backend(FolderTrialStore(tmp_path / "trials"), slots=1)
    scores = measure_models(backend, OrderTemplate(tmp_path), [full, narrow, small, broken])
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
    backend = open_backend(FolderTrialStore(tmp_path / "trials"), slots=1)
    scores = measure_models(backend, OrderTemplate(tmp_path), [full, mortal, full])
    assert scores[1] is None
    assert scores[0] is not None
    assert scores[0] == scores[2]


def test_the_message_of_a_killed_worker_names_the_likely_cause(tmp_path: Path) -> None:
    store = FolderTrialStore(tmp_path / "trials")
    status = drive(store, slots=1, max_attempts=1).run(make_spec(fault="die")).status
    assert status.cause is Cause.LOST
    assert "often by the kernel because memory ran out: set backend.memory_gib" in str(status.message)


def test_the_message_of_a_hung_worker_does_not_blame_memory(tmp_path: Path) -> None:
    store = FolderTrialStore(tmp_path / "trials")
    status = drive(store, slots=1, max_attempts=1, hang_seconds=1.0).run(make_spec(fault="hang")).status
    assert status.cause is Cause.LOST
    assert str(status.message).startswith("its worker was killed after 1 s without a heartbeat: ")
    assert "raise backend.hang_seconds" in str(status.message)


@pytest.mark.parametrize("sign", ["alive", "output"])
def test_a_worker_with_output_or_heartbeat_is_not_hung(tmp_path: Path, sign: str) -> None:
    trainer = {"_target_": "helpers.user_code.long_cycle", "version": 1, "seconds": 3.0, "sign": sign}
    spec = make_spec()
    spec = replace(spec, recipe=replace(spec.recipe, trainer=trainer, check_every_steps=None))
    store = FolderTrialStore(tmp_path / "trials")
    driver = drive(store, slots=1, max_attempts=1, hang_seconds=1.5, trusted_modules=("helpers",))
    assert driver.run(spec).status.state is State.DONE


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
    status = drive(store, device_type="cuda", **settings).run(spec).status
    assert (status.state, status.threads) == (State.DONE, max(1, count_cores() // processes))


def test_trials_on_several_devices_start_in_order(tmp_path: Path) -> None:
    store = FolderTrialStore(tmp_path / "trials")
    driver = drive(store, slots=2)
    specs = [make_spec(seed, check_seconds=0.02) for seed in range(4)]
    specs[1] = replace(specs[1], recipe=replace(specs[1].recipe, devices=2))
    driver.submit(*specs)
    seen: list[set[int]] = []
    while driver.live:
        states = [store.read(spec.key).status.state for spec in specs]
        running = {number for number, state in enumerate(states) if state is State.RUNNING}
        seen += [running] if running and (not seen or not running <= seen[-1]) else []
        driver.poll(0.02)
    assert seen in ([{0}, {1}, {2, 3}], [{0}, {1}, {2}, {2, 3}])


def test_a_memory_limit_of_zero_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"backend.memory_gib must be above 0, got 0: use null"):
        open_backend(FolderTrialStore(tmp_path / "trials"), memory_gib=0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hang_seconds": 0.0}, "backend.hang_seconds must be above 0, got 0: use null to wait for ever"),
        ({"hang_seconds": -1.0}, "backend.hang_seconds must be above 0, got -1"),
        ({"hang_seconds": math.nan}, "backend.hang_seconds must be above 0, got nan"),
        ({"gpus": 0}, "backend needs gpus of at least 1 and gpus_per_trial above 0, got 0 and 1"),
        ({"gpus_per_trial": 0.0}, "backend needs gpus of at least 1 and gpus_per_trial above 0, got None and 0"),
        ({"memory_gib": 1e26}, "backend.memory_gib must be above 0"),
    ],
)
def test_options_that_cannot_be_kept_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_backend(FolderTrialStore(tmp_path / "trials"), **options)


def test_a_memory_limit_below_that_of_a_worker_is_refused_by_the_preflight(tmp_path: Path) -> None:
    backend = open_backend(FolderTrialStore(tmp_path / "trials"), memory_gib=0.01)
    with pytest.raises(ConfigError, match=r"must exceed the memory of a worker before training, 0\.\d\d GiB, got 0.01"):
        run_preflight(backend, OrderTemplate(tmp_path), [make_spec()])


def make_user_spec(name: str, **arguments: float) -> TrialSpec:
    spec = make_spec()
    trainer = {"_target_": f"helpers.user_code.{name}", "version": 1, **arguments}
    return replace(spec, recipe=replace(spec.recipe, trainer=trainer))


def test_the_log_of_a_trainer_that_prints_much_keeps_its_head_and_its_tail(tmp_path: Path) -> None:
    store, spec = FolderTrialStore(tmp_path / "trials"), make_user_spec("print_much", megabytes=20)
    assert drive(store, slots=1, trusted_modules=("helpers",)).run(spec).status.state is State.DONE
    log = store.folder(spec.key).log.read_bytes()
    assert len(log) < 2.1 * 2**20
    assert log.startswith(b"the first line\n")
    assert log.endswith(b"the last line\n")
    assert b"bytes of output were left out here]\n" in log


def test_a_crash_of_native_code_leaves_its_python_stack_in_the_log(tmp_path: Path) -> None:
    store, spec = FolderTrialStore(tmp_path / "trials"), make_user_spec("segfault")
    status = drive(store, slots=1, max_attempts=1, trusted_modules=("helpers",)).run(spec).status
    assert (status.state, status.cause) == (State.FAILED, Cause.LOST)
    assert str(status.message) == "its worker was ended by SIGSEGV, see worker.log"
    log = store.folder(spec.key).log.read_text()
    assert "Fatal Python error: Segmentation fault" in log
    assert "in segfault" in log


def test_a_clock_that_is_set_kills_no_healthy_worker(tmp_path: Path) -> None:
    store, spec = FolderTrialStore(tmp_path / "trials"), make_spec(check_seconds=0.3)
    driver = drive(store, slots=1, hang_seconds=1.0, max_attempts=1)
    driver.submit(spec)
    while driver.live:
        driver.poll(0.1)
        for path in (store.folder(spec.key).metrics, store.folder(spec.key).status):
            if path.exists():
                os.utime(path, (0, 0))
    assert store.read(spec.key).status.state is State.DONE
