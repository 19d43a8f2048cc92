"""Real trainings that run out of memory, or diverge, and are retried with a changed recipe."""

import errno
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from helpers.cli import conf, digits_spec
from helpers.train_until import TrainUntil
from nasproxy.errors import ConfigError, StorageFullError, StorageUnavailableError
from nasproxy.execution.backends.backend import BackendContext
from nasproxy.execution.backends.local import LocalBackend
from nasproxy.execution.failure_causes import describe_failure, find_cause
from nasproxy.execution.orders import run_preflight
from nasproxy.execution.work_order import OrderTemplate
from nasproxy.stages import runner
from nasproxy.stages.runner import Runtime
from nasproxy.storage.trial_stores import FolderTrialStore
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Cause, State, TrialRecord
from nasproxy.trials.retry import find_retry
from nasproxy.trials.retry_settings import RetrySettings
from nasproxy.trials.spec import TrialSpec

MakeRuntime = Callable[..., Runtime]
TRAINED = ("nasproxy",)
TRAINERS = ("plain_pytorch", "image_classifier")
HUGE_BATCH = 8192
ABSURD = {"optimizer": "sgd", "weight_decay": 0.0, "learning_rate": 1e20}


def make_spec(trainer: str = "plain_pytorch", **settings: Any) -> TrialSpec:
    node = {**conf(f"trainer/{trainer}"), **settings}
    return digits_spec(ProxyTask(), trainer=node, total_steps=3, check_every_steps=2)


def run(runtime: Runtime, spec: TrialSpec, **policy: Any) -> TrialRecord:
    retry_policy = partial(find_retry, policy=RetrySettings(**policy))
    runner.run_stage(TrainUntil([spec], spec.total_steps), replace(runtime, retry_policy=retry_policy))
    return runtime.store.read(spec.key)


@pytest.fixture(scope="module")
def fresh_gib(tmp_path_factory: pytest.TempPathFactory) -> float:
    """Measure the memory of a worker before it trains, in GiB."""
    folder = tmp_path_factory.mktemp("fresh")
    backend = LocalBackend(context=BackendContext(FolderTrialStore(folder / "trials"), folder), memory_gib=0.01)
    with pytest.raises(ConfigError, match="memory of a worker") as refused:
        run_preflight(backend, OrderTemplate(folder), [make_spec()])
    (held,) = re.findall(r"([\d.]+) GiB", str(refused.value))
    return float(held)


@pytest.mark.parametrize(
    "trainer",
    [
        pytest.param(name, marks=pytest.mark.gate if name == "image_classifier" else pytest.mark.slow)
        for name in TRAINERS
    ],
)
def test_a_real_training_out_of_memory_ends_on_smaller_micro_batches(
    tmp_path: Path, make_runtime: MakeRuntime, fresh_gib: float, trainer: str
) -> None:
    spec = make_spec(trainer, batch_size=HUGE_BATCH)
    small = make_runtime(tmp_path / "small", memory_gib=fresh_gib + 0.25, trusted_modules=TRAINED, slots=1)
    record = run(small, spec, max_oom_retries=8)
    assert record.status.state is State.DONE
    assert {retry.cause for retry in record.retries} == {Cause.OOM}
    assert [check.step for check in record.checks] == [2, 3], "steps and checks are those of the original trial"
    trained = small.store.spec(record.retries[-1].key)
    assert trained.recipe.micro_batch == HUGE_BATCH // 2 ** len(record.retries)
    assert trained.recipe.trainer["batch_size"] == HUGE_BATCH, "the batch size is unchanged"

    large = make_runtime(tmp_path / "large", trusted_modules=TRAINED, slots=1)
    assert run(large, spec).retries == (), "without the limit it is not retried"


@pytest.mark.parametrize(
    ("policy", "change"),
    [
        ({"on_nan": "lower_rate", "learning_rate_factor": 1e-21}, "a learning rate of 0.1 instead of 1e+20"),
        ({"on_nan": "clip", "clip_norm": 1e-21}, "gradients clipped to a norm of 1e-21"),
    ],
)
def test_a_diverged_training_is_retried_by_the_policy(
    tmp_path: Path, make_runtime: MakeRuntime, policy: dict[str, Any], change: str
) -> None:
    spec, runtime = make_spec(**ABSURD), make_runtime(tmp_path, trusted_modules=TRAINED, slots=1)
    record = run(runtime, spec, **policy)
    message = str(runtime.store.read_alone(spec.key).status.message)
    assert re.search(r"finite.*, got (nan|inf)", message), "either a check or the loss of a batch is detected first"
    assert record.status.state is State.DONE
    assert [(retry.cause, retry.change) for retry in record.retries] == [(Cause.NAN, change)]
    assert [check.step for check in record.checks] == [2, 3]


def test_a_diverged_training_fails_by_default(tmp_path: Path, make_runtime: MakeRuntime) -> None:
    record = run(make_runtime(tmp_path, trusted_modules=TRAINED, slots=1), make_spec(**ABSURD))
    assert (record.status.state, record.status.cause, record.retries) == (State.FAILED, Cause.NAN, ())


def wrap(error: BaseException, *, has_cause: bool) -> RuntimeError:
    """Wrap an error as a library does that raises another one for it."""
    try:
        try:
            raise error
        except BaseException as caught:
            raise RuntimeError("unexpected pos 832 vs 726") from (caught if has_cause else None)
    except RuntimeError as wrapped:
        return wrapped


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (StorageFullError("full"), Cause.SETUP),
        (OSError(errno.ENOSPC, "No space left on device"), Cause.SETUP),
        (StorageUnavailableError("away"), Cause.LOST),
        (OSError(errno.EIO, "Input/output error"), Cause.LOST),
        (OSError(errno.EMFILE, "Too many open files"), Cause.LOST),
    ],
)
def test_an_error_of_the_file_system_is_not_the_models_and_suspects_no_checkpoint(
    error: BaseException, cause: Cause
) -> None:
    for each in (error, wrap(error, has_cause=True), wrap(error, has_cause=False)):
        assert find_cause(each) is cause


def test_a_crash_on_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crash = RuntimeError("unexpected pos 832 vs 726")
    assert describe_failure(crash, tmp_path).cause is Cause.CRASH
    monkeypatch.setattr("nasproxy.execution.failure_causes.FREE_BYTES", 2**70)
    failure = describe_failure(crash, tmp_path)
    assert failure.cause is Cause.SETUP
    assert failure.message.startswith("the disk is full: free space and run the command again (RuntimeError: unexp")
    assert describe_failure(MemoryError("x"), tmp_path).cause is Cause.OOM
