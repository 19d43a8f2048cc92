"""Trainings on several devices, here CPU processes, equal those on one device."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.cli import conf
from nasproxy.data.loading import load_dataset
from nasproxy.errors import ConfigError
from nasproxy.execution.backends.backend import BackendContext
from nasproxy.execution.backends.local import LocalBackend
from nasproxy.execution.orders import run_preflight
from nasproxy.execution.work_order import OrderTemplate
from nasproxy.storage.locks import FileLock, is_locked
from nasproxy.storage.trial_stores import FolderTrialStore
from nasproxy.testing.backend_contract import make_spec
from nasproxy.testing.backend_driver import BackendDriver
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Cause, Request, State, TrialRecord
from nasproxy.trials.spec import Recipe, Split, TrialSpec

TRAINERS = ("image_classifier", "plain_pytorch")
SETTINGS = {"batch_size": 15, "optimizer": "sgd", "learning_rate": 0.05, "shift_px": 1, "flip": True, "mixup": 0.0}
DATA = {
    "loader": {"_target_": "helpers.several_devices.dataset"},
    "holdout_fraction": 0.1,
    "order_seed": 0,
    "balance": "proportional",
}
both = pytest.mark.parametrize("trainer", TRAINERS)


@pytest.fixture(scope="module")
def fingerprint() -> str:
    return load_dataset(DATA).fingerprint


@pytest.fixture
def store(tmp_path: Path) -> FolderTrialStore:
    return FolderTrialStore(tmp_path / "trials")


@pytest.fixture
def driver(store: FolderTrialStore) -> Iterator[BackendDriver]:
    made = drive(store)
    yield made
    made.backend.close()


def drive(store: FolderTrialStore, slots: int = 2) -> BackendDriver:
    study = store.root.parent
    backend = LocalBackend(context=BackendContext(store, study), slots=slots)
    return BackendDriver(backend, store, OrderTemplate(study, ("nasproxy", "helpers"), max_attempts=1))


def spec(
    fingerprint: str,
    trainer: str,
    *,
    devices: int = 2,
    model: Any = "plain",
    seed: int = 0,
    total_steps: int = 12,
    micro_batch: int | None = None,
    **changes: Any,
) -> TrialSpec:
    node = {**conf(f"trainer/{trainer}"), **SETTINGS, **changes}
    of_model = {"_target_": f"helpers.several_devices.{model}"} if isinstance(model, str) else model
    recipe = Recipe(
        of_model,
        node,
        DATA,
        fingerprint,
        total_steps=total_steps,
        check_every_steps=4,
        micro_batch=micro_batch,
        devices=devices,
    )
    return TrialSpec({"x": 1}, ProxyTask(), Split.FULL, seed, recipe)


def finish(driver: BackendDriver, *specs: TrialSpec, until: int | None = None) -> TrialRecord:
    """Train until a step, or to the end, and return the record of the last trial."""
    for one in specs:
        driver.store.create(one)
        driver.store.request(one.key, Request(until_step=until))
    return driver.run(*specs)


def curve(record: TrialRecord) -> list[tuple[int, float]]:
    assert record.status.state is State.DONE, record.status
    return [(check.step, check.score) for check in record.checks]


def weights(store: FolderTrialStore, one: TrialSpec) -> list[torch.Tensor]:
    return list(torch.load(store.folder(one.key).weights, weights_only=True).values())


@both
@pytest.mark.gate
@pytest.mark.parametrize("micro_batch", [None, 3])
def test_a_training_on_two_devices_equals_one_on_one_device(
    store: FolderTrialStore, driver: BackendDriver, fingerprint: str, trainer: str, micro_batch: int | None
) -> None:
    one = spec(fingerprint, trainer, devices=1)
    two = spec(fingerprint, trainer, devices=2, micro_batch=micro_batch)
    alone, together = (finish(driver, each) for each in (one, two))
    assert dict(curve(together)) == pytest.approx(dict(curve(alone)), abs=1e-5)
    assert len({score for _, score in curve(alone)}) > 1, "the model learns, so that scores are informative"
    for left, right in zip(weights(store, one), weights(store, two), strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=0)


@both
@pytest.mark.gate
def test_a_resumed_trial_on_two_devices_is_bit_equal_to_an_uninterrupted_one(
    store: FolderTrialStore, driver: BackendDriver, fingerprint: str, trainer: str, tmp_path: Path
) -> None:
    given = {"model": "normed", "smoothing": "ema", "mixup": 0.2, "batch_size": 14, "clip_norm": 1.0}
    whole = spec(fingerprint, trainer, **given)
    checks = curve(finish(driver, whole))
    kept = weights(store, whole)
    other = FolderTrialStore(tmp_path / "other" / "trials")
    again = drive(other)
    for until in (4, 8):
        assert finish(again, whole, until=until).status.state is State.PAUSED
    assert curve(finish(again, whole)) == checks
    assert all(torch.equal(left, right) for left, right in zip(weights(other, whole), kept, strict=True))


@pytest.mark.gate
def test_lightning_and_the_plain_loop_are_equal_on_two_devices(
    store: FolderTrialStore, driver: BackendDriver, fingerprint: str
) -> None:
    specs = [spec(fingerprint, trainer, model="normed") for trainer in TRAINERS]
    finish(driver, *specs)
    first, second = (curve(store.read(one.key)) for one in specs)
    assert first == second


@pytest.mark.gate
def test_two_trials_on_two_devices_each_run_concurrently(
    store: FolderTrialStore, fingerprint: str, tmp_path: Path
) -> None:
    driver = drive(store, slots=4)
    specs = [spec(fingerprint, "plain_pytorch", seed=seed) for seed in range(3)]
    finish(driver, *specs)
    assert [len(curve(store.read(one.key))) for one in specs] == [3, 3, 3]


@both
@pytest.mark.gate
@pytest.mark.parametrize(
    ("rank", "fault", "cause", "message"),
    [
        ("1", "raise", Cause.CRASH, "RuntimeError: no luck"),
        ("0", "raise", Cause.CRASH, "RuntimeError: no luck"),
        ("1", "oom", Cause.OOM, "no room"),
        ("1", "die", Cause.LOST, "ended without reporting an error, with exit status 9"),
    ],
)
def test_a_rank_that_fails_ends_the_trial_with_its_cause(
    store: FolderTrialStore,
    driver: BackendDriver,
    fingerprint: str,
    trainer: str,
    rank: str,
    fault: str,
    cause: Cause,
    message: str,
) -> None:
    model = {"_target_": "helpers.several_devices.faulty", "rank": rank, "fault": fault}
    one = spec(fingerprint, trainer, model=model)
    status = finish(driver, one).status
    assert (status.state, status.cause) == (State.FAILED, cause), status
    assert message in (status.message or "")
    assert not is_locked(store.folder(one.key).lock), "all its processes have ended"


@pytest.mark.gate
def test_no_rank_outlives_the_worker(store: FolderTrialStore, fingerprint: str) -> None:
    driver = drive(store, slots=3)
    long = spec(fingerprint, "plain_pytorch", devices=3, total_steps=10**5)
    driver.submit(long)
    driver.poll_until_checked(long)
    pid = FileLock(store.folder(long.key).lock).owner_pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    driver.finish()
    assert not is_locked(store.folder(long.key).lock)
    assert store.read(long.key).status.cause is Cause.LOST


def test_a_trainer_without_ranks_runs_once_with_all_devices(
    store: FolderTrialStore,
) -> None:
    one = make_spec()
    one = replace(one, recipe=replace(one.recipe, devices=2))
    assert [step for step, _ in curve(finish(drive(store), one))] == list(one.check_steps)


def test_more_devices_than_available_are_refused_before_training(
    store: FolderTrialStore, driver: BackendDriver, fingerprint: str
) -> None:
    with pytest.raises(ConfigError, match="needs 3 devices, and the backend has 2"):
        run_preflight(driver.backend, driver.orders, [spec(fingerprint, "plain_pytorch", devices=3)])
