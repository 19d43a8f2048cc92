import multiprocessing
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nasproxy.errors import ConfigError
from nasproxy.execution.host.devices import CorePool, GpuPool, find_uuids
from nasproxy.storage.locks import is_locked


def _hold_lease(pool: GpuPool, leased: Any, release: Any) -> None:
    with pool.lease():
        leased.put(os.environ["CUDA_VISIBLE_DEVICES"])
        release.wait(60)


def lease_in_processes(processes: int, pool: GpuPool) -> list[str]:
    """Return the devices of several processes that are started at once and hold their leases together."""
    context = multiprocessing.get_context("spawn")
    leased, release = context.Queue(), context.Event()
    started = [context.Process(target=_hold_lease, args=(pool, leased, release)) for _ in range(processes)]
    for process in started:
        process.start()
    devices = sorted(leased.get(timeout=60) for _ in started)
    release.set()
    for process in started:
        process.join()
    return devices


def test_two_processes_never_share_a_whole_gpu(tmp_path: Path) -> None:
    assert lease_in_processes(2, GpuPool(("0", "1"), 1, tmp_path)) == ["0", "1"]


def test_half_shares_fill_a_gpu_before_the_next(tmp_path: Path) -> None:
    assert lease_in_processes(3, GpuPool(("0", "1"), 0.5, tmp_path)) == ["0", "0", "1"]


def test_a_trial_can_lease_several_gpus(tmp_path: Path) -> None:
    with GpuPool(("0", "1", "2"), 2, tmp_path).lease():
        assert os.environ.pop("CUDA_VISIBLE_DEVICES") == "0,1"


def test_shares_of_different_sizes_never_exceed_a_gpu(tmp_path: Path) -> None:
    quarter, half, whole = (GpuPool(("0",), share, tmp_path) for share in (0.25, 0.5, 1))
    with quarter.lease(), half.lease():
        assert whole._try_lease(1) is None
        assert half._try_lease(0.5) is None
        with quarter.lease():
            assert quarter._try_lease(0.25) is None
    os.environ.pop("CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize(("share", "slots"), [(1, 4), (2, 2), (0.5, 8), (1 / 3, 12), (0.125, 32)])
def test_the_number_of_slots_is_the_number_of_shares(tmp_path: Path, share: float, slots: int) -> None:
    assert GpuPool(("0", "1", "2", "3"), share, tmp_path).slots == slots


@pytest.mark.parametrize(
    ("share", "devices", "slots"), [(1, 1, 1), (1, 2, 2), (2, 1, 1), (2, 2, 1), (2, 4, 2), (0.5, 1, 1), (0.5, 2, 4)]
)
def test_a_trial_occupies_the_slots_of_its_gpus(tmp_path: Path, share: float, devices: int, slots: int) -> None:
    pool = GpuPool(("0", "1", "2", "3"), share, tmp_path)
    assert pool.slots_of(devices) == slots
    with pool.lease(devices):
        held = os.environ.pop("CUDA_VISIBLE_DEVICES").split(",")
    assert len(held) == max(1, slots * share)


def test_a_trial_occupies_one_slot_per_core_device(tmp_path: Path) -> None:
    assert CorePool(4, tmp_path).slots_of(3) == 3


@pytest.mark.parametrize("share", [0, -1, 1.5, 0.3, 0.01])
def test_a_share_that_does_not_divide_a_gpu_is_refused(tmp_path: Path, share: float) -> None:
    with pytest.raises(ConfigError, match=r"whole number or a fraction that divides"):
        GpuPool(("0", "1"), share, tmp_path)


def test_more_gpus_per_trial_than_visible_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs 3 GPUs, got 2"):
        GpuPool(("0", "1"), 3, tmp_path)


def test_a_trial_on_several_gpus_leases_whole_gpus(tmp_path: Path) -> None:
    pool = GpuPool(("0", "1", "2"), 0.5, tmp_path)
    with pool.lease():
        assert os.environ.pop("CUDA_VISIBLE_DEVICES") == "0"
        with pool.lease(2):
            assert os.environ.pop("CUDA_VISIBLE_DEVICES") == "1,2"
            assert pool._try_lease(2) is None


def test_a_trial_on_several_devices_leases_all_slots_or_none(tmp_path: Path) -> None:
    pool = CorePool(3, tmp_path)
    with pool.lease(2):
        assert pool._try_lease(2) is None
        with pool.lease():
            assert pool._try_lease(1) is None
    with pool.lease(3):
        assert pool._try_lease(1) is None


@pytest.mark.parametrize("pool", [CorePool(2, Path()), GpuPool(("0", "1"), 0.5, Path())])
def test_more_devices_than_the_pool_has_are_refused(pool: CorePool | GpuPool) -> None:
    with pytest.raises(ConfigError, match="a trial needs 3 devices, and the backend has 2"), pool.lease(3):
        pass


def test_a_trial_waiting_for_several_devices_is_not_overtaken(tmp_path: Path) -> None:
    pool, order = CorePool(2, tmp_path), list[int]()

    def train(devices: int) -> None:
        with pool.lease(devices):
            order.append(devices)

    both, one = (threading.Thread(target=train, args=(devices,)) for devices in (2, 1))
    with pool.lease():
        both.start()
        while not is_locked(tmp_path / f"{os.uname().nodename}-slots.turn.lock"):
            time.sleep(0.01)
        one.start()
        one.join(timeout=0.5)
        assert not order, "a slot is free, but the other trial came first"
    both.join()
    one.join()
    assert order == [2, 1]


def test_waiting_for_one_gpu_does_not_block_trials_on_another(tmp_path: Path) -> None:
    busy, idle = GpuPool(("0",), 1, tmp_path), GpuPool(("1",), 1, tmp_path)
    with busy.lease():
        waiting = threading.Thread(target=busy.lease().__enter__)
        waiting.start()
        while not is_locked(tmp_path / "gpu0.turn.lock"):
            time.sleep(0.01)
        with idle.lease():
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    waiting.join()
    os.environ.pop("CUDA_VISIBLE_DEVICES")


def test_leases_are_named_by_uuid_so_that_jobs_that_count_differently_never_share_a_gpu(tmp_path: Path) -> None:
    ours = GpuPool(("0",), 1, tmp_path, ("GPU-b",))  # a job that sees only the second GPU
    theirs = GpuPool(("0", "1"), 1, tmp_path, ("GPU-a", "GPU-b"))
    with ours.lease():
        assert os.environ.pop("CUDA_VISIBLE_DEVICES") == "0"
        assert os.environ.pop("CUDA_DEVICE_ORDER") == "PCI_BUS_ID", "the index is that of nvidia-smi"
        with theirs.lease():
            assert os.environ.pop("CUDA_VISIBLE_DEVICES") == "0"
            assert theirs._try_lease(1) is None
    os.environ.pop("CUDA_DEVICE_ORDER", None)


def test_uuids_are_asked_of_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_uuids(("0", "1")) == ("0", "1"), "there is no driver to ask here"
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho '0, GPU-a'\necho '1, GPU-b'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert find_uuids(("1", "0")) == ("GPU-b", "GPU-a")
    assert find_uuids(("GPU-x",)) == ("GPU-x",)
    assert find_uuids(("MIG-x", "1")) == ("MIG-x", "GPU-b")


def test_the_slots_of_two_machines_on_one_disk_are_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = CorePool(1, tmp_path)

    def move_to(machine: str) -> None:
        monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(nodename=machine))

    move_to("first")
    with pool.lease():
        assert pool._try_lease(1) is None, "the machine has one slot"
        move_to("second")
        with pool.lease():
            assert pool._try_lease(1) is None
            assert all(is_locked(tmp_path / f"{machine}-slot0.lock") for machine in ("first", "second"))
