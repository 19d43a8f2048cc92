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
from nasproxy.execution.attempts import Ended
from nasproxy.execution.backends.backend import BackendContext, Capabilities
from nasproxy.execution.backends.local import LocalBackend
from nasproxy.execution.host.cores import count_cores
from nasproxy.execution.host.devices import CorePool
from nasproxy.execution.host.host import Host
from nasproxy.execution.orders import measure_models, run_preflight
from nasproxy.execution.work_order import OrderTemplate
from nasproxy.storage.locks import FileLock, is_locked
from nasproxy.storage.trial_stores import FolderTrialStore
from nasproxy.testing.backend_contract import MakeBackend, ProcessBackendContract, make_spec
from nasproxy.testing.backend_driver import BackendDriver
from nasproxy.trials.clock import VirtualClock
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
    lock = FileLock(root.parent / "locks" / "controller.lock")
    lock.acquire()
    store.request(spec.key, Request(lease=str(lock.path)))
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


class WatchingHost(Host):
    """A host with one slot and a virtual clock, by which a worker counts as hung after a second."""

    capabilities = Capabilities(slots=1)

    def __init__(self, *, context: BackendContext, passes: float = 0.0) -> None:
        assert context.study is not None
        self._passes = passes
        self.time = VirtualClock()
        super().__init__(CorePool(1, context.study / "locks"), slots=1, cores=1, hang_seconds=1.0, clock=self.time)

    def poll(self, seconds: float) -> list[Ended]:
        """Look once at the workers: in a wait no virtual time would pass."""
        time.sleep(0.01)
        self.time.sleep(self._passes)
        return super().poll(0.0)


def watch(store: FolderTrialStore, *trusted_modules: str) -> tuple[BackendDriver, VirtualClock]:
    """Make a driver of a host with a virtual clock, and return it with the clock."""
    host = WatchingHost(context=BackendContext(store, store.root.parent))
    return BackendDriver(host, store, OrderTemplate(store.root.parent, trusted_modules, max_attempts=1)), host.time


@pytest.mark.parametrize("is_adopted", [True, False], ids=["adopted", "own"])
def test_a_hung_worker_is_killed_and_its_trial_counts_as_lost(tmp_path: Path, is_adopted: bool) -> None:
    store, spec = FolderTrialStore(tmp_path / "trials"), make_spec(fault="hang")
    if is_adopted:
        abandon_worker(store, spec, after_step=40)  # it hangs before the next check
    driver, clock = watch(store, "nasproxy")
    driver.submit(spec)
    driver.poll_until_checked(spec, 40)
    deadline = time.monotonic() + 60
    while driver.live:
        assert time.monotonic() < deadline
        clock.sleep(0.3)
        driver.poll(0.0)
    status = store.read(spec.key).status
    assert (status.state, status.cause, status.failures) == (State.FAILED, Cause.LOST, 1)
    assert str(status.message).startswith("its worker was killed after 1 s without a heartbeat: ")
    assert "raise backend.hang_seconds" in str(status.message)


def test_a_worker_whose_controller_was_killed_is_adopted_and_killed_when_its_trial_is_cancelled(tmp_path: Path) -> None:
    store, spec = FolderTrialStore(tmp_path / "trials"), make_spec(fault="hang")
    abandon_worker(store, spec, after_step=40)  # it hangs before the next check
    driver = drive(store, slots=1)
    driver.submit(spec)
    driver.backend.cancel(spec.key)
    assert not is_locked(store.folder(spec.key).lock)
    assert driver.poll(10.0) == [Ended(spec.key, is_cancelled=True)]


def test_a_preflight_that_hangs_is_killed_with_a_sentence(tmp_path: Path) -> None:
    full = digits_spec(ProxyTask())
    spec = replace(full, recipe=replace(full.recipe, model={"_target_": "helpers.user_code.hang"}))
    host = WatchingHost(context=BackendContext(FolderTrialStore(tmp_path / "trials"), tmp_path), passes=0.1)
    message = "preflight process must return a result, got none, because its worker was killed after 1 s without a"
    with pytest.raises(ConfigError, match=message):
        run_preflight(host, OrderTemplate(tmp_path, ("helpers", "nasproxy")), [spec])
    host.close()


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


@pytest.mark.parametrize("sign", ["alive", "output"])
def test_a_worker_with_output_or_heartbeat_is_not_hung(tmp_path: Path, sign: str) -> None:
    trainer = {"_target_": "helpers.user_code.long_cycle", "version": 1, "seconds": 2.0, "sign": sign}
    spec = make_spec()
    spec = replace(spec, recipe=replace(spec.recipe, trainer=trainer, check_every_steps=None))
    store = FolderTrialStore(tmp_path / "trials")
    folder = store.folder(spec.key)
    driver, clock = watch(store, "helpers")
    driver.submit(spec)
    assert pass_time_at_each_change(driver, clock, folder.heartbeat if sign == "alive" else folder.log) > 3
    assert store.read(spec.key).status.state is State.DONE


def pass_time_at_each_change(
    driver: BackendDriver, clock: VirtualClock, path: Path, *, set_to: int | None = None
) -> int:
    """Drive one trial to its end, and let nearly the time after which it is hung pass at each change of a file.

    Args:
        driver: Driver of the trial.
        clock: Its host's clock.
        path: The file that the trial's worker changes.
        set_to: Time of the file's last change that is set at each one; None for its own.

    Returns:
        Number of the changes.
    """
    changes, before = 0, None
    while driver.live:
        driver.poll(0.0)
        now = (path.stat().st_mtime_ns, path.stat().st_size) if path.exists() else None
        if now != before and driver.live:
            if set_to is not None:
                os.utime(path, (set_to, set_to))
            changes, before = changes + 1, now
            clock.sleep(0.45)
    return changes


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
    use_two_gpus(monkeypatch, tmp_path)
    backend = open_backend(FolderTrialStore(tmp_path / "trials"), device_type="cuda", **settings)
    assert backend._host._compute_threads(devices) == max(1, count_cores() // processes)


def use_two_gpus(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))


def test_a_worker_uses_the_threads_that_the_host_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_two_gpus(monkeypatch, tmp_path)
    store, spec = FolderTrialStore(tmp_path / "trials"), make_spec()
    spec = replace(spec, recipe=replace(spec.recipe, devices=2))
    status = drive(store, device_type="cuda").run(spec).status
    assert (status.state, status.threads) == (State.DONE, max(1, count_cores() // 2))


def test_trials_on_several_devices_start_in_order(tmp_path: Path) -> None:
    store = FolderTrialStore(tmp_path / "trials")
    driver = drive(store, slots=2)
    specs = [make_spec(seed, check_seconds=0.02) for seed in range(4)]
    specs[1] = replace(specs[1], recipe=replace(specs[1].recipe, devices=2))
    numbers = {spec.key: number for number, spec in enumerate(specs)}
    driver.submit(*specs)
    order: list[int] = []
    while driver.live:
        # The last one is read first: that it runs shows that those before it have ended.
        running = {n for n in reversed(range(4)) if store.read(specs[n].key).status.state is State.RUNNING}
        assert any(running <= together for together in ({0}, {1}, {2, 3}))
        order += [numbers[ended.key] for ended in driver.poll(0.02)]
    assert order[:2] == [0, 1]
    assert sorted(order) == [0, 1, 2, 3]


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
    store, spec = FolderTrialStore(tmp_path / "trials"), make_spec(check_seconds=0.1)
    driver, clock = watch(store, "nasproxy")
    driver.submit(spec)
    assert pass_time_at_each_change(driver, clock, store.folder(spec.key).metrics, set_to=0) > 3
    assert store.read(spec.key).status.state is State.DONE
