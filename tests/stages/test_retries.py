"""Retries of failed trials in the loop that runs stages, on a real backend."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from helpers.train_until import TrainUntil
from nasproxy.errors import SetupFailedError
from nasproxy.execution.backends.backend import BackendContext
from nasproxy.execution.backends.local import LocalBackend
from nasproxy.execution.work_order import OrderTemplate
from nasproxy.stages import runner
from nasproxy.stages.runner import Runtime
from nasproxy.storage.locks import FileLock
from nasproxy.storage.trial_files import retry_failed_trials
from nasproxy.storage.trial_stores import FolderTrialStore
from nasproxy.testing import synthetic
from nasproxy.tracking.events import Event, Noted, TrialEnded
from nasproxy.tracking.tracker import NullTracker
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Cause, Request, RetryLink, State, TrialPurpose, TrialRecord
from nasproxy.trials.retry import find_retry
from nasproxy.trials.retry_settings import RetrySettings
from nasproxy.trials.spec import Choice, Split, TrialSpec

MakeRuntime = Callable[..., Runtime]
BATCH = 16


@dataclass
class Notes(NullTracker):
    """Tracker that keeps all trials and messages it receives."""

    trials: list[tuple[str, State, tuple[RetryLink, ...]]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(study=Path())

    def receive(self, event: Event) -> None:
        if isinstance(event, TrialEnded) and event.record is not None:
            self.trials.append((event.key, event.state, event.record.retries))
        elif isinstance(event, Noted):
            self.messages.append(event.message)


def make_spec(fault: str = "none", task: ProxyTask | None = None, quality: int = 50, **recipe: Any) -> TrialSpec:
    architecture: dict[str, Choice] = {"quality": quality, "fault": fault}
    settings = {"batch_size": BATCH, "learning_rate": 0.1, "clip_norm": None, **recipe}
    return TrialSpec(architecture, task or ProxyTask(), Split.SEARCH, 0, synthetic.make_recipe(**settings))


def halve_micro_batch(spec: TrialSpec, *, times: int = 1) -> TrialSpec:
    return replace(spec.applied(), recipe=replace(spec.applied().recipe, micro_batch=BATCH // 2**times))


@pytest.fixture
def make_retrying_runtime(tmp_path: Path, make_runtime: MakeRuntime) -> MakeRuntime:
    def make(**policy: Any) -> Runtime:
        retry_policy = partial(find_retry, policy=RetrySettings(**policy))
        return replace(make_runtime(tmp_path), retry_policy=retry_policy, tracker=Notes())

    return make


def run(runtime: Runtime, *specs: TrialSpec, until: int = 100) -> list[TrialRecord]:
    stage = TrainUntil(specs, until)
    runner.run_stage(stage, runtime)
    records = [runtime.store.read(spec.key) for spec in specs]
    for spec, record in zip(specs, records, strict=True):
        record_of_stage = stage.records[spec.key]
        assert (record_of_stage.checks, record_of_stage.retries) == (record.checks, record.retries), (
            "the stage and other readers get the same record"
        )
    return records


def test_a_trial_out_of_memory_is_retried_with_smaller_micro_batches_to_the_end(
    make_retrying_runtime: MakeRuntime,
) -> None:
    runtime, spec, sound = make_retrying_runtime(), make_spec("oom>4"), make_spec(quality=10)
    record, other = run(runtime, spec, sound)
    chain = [spec, halve_micro_batch(spec), halve_micro_batch(spec, times=2)]
    assert runtime.store.keys() == sorted(trial.key for trial in (*chain, sound))
    assert (record.status.state, [check.step for check in record.checks]) == (State.DONE, list(spec.check_steps))
    assert [(link.key, link.cause, link.change) for link in record.retries] == [
        (chain[1].key, Cause.OOM, "a micro-batch of 8 instead of 16"),
        (chain[2].key, Cause.OOM, "a micro-batch of 4 instead of 8"),
    ]
    assert other.retries == ()
    alone = [runtime.store.read_alone(trial.key) for trial in chain]
    assert [one.status.state for one in alone] == [State.FAILED, State.FAILED, State.DONE]
    assert record.status.wall_seconds == sum(one.status.wall_seconds for one in alone), (
        "the time of all trainings counts"
    )


def test_checks_before_the_failure_stay_and_later_ones_come_from_the_retry(
    make_retrying_runtime: MakeRuntime,
) -> None:
    runtime, spec = make_retrying_runtime(), make_spec("oom>8")
    (early,) = run(runtime, spec, until=40)
    (record,) = run(runtime, spec, until=100)
    assert early.retries == (), "it fails at step 50"
    assert record.checks[:4] == early.checks
    rest = runtime.store.read_alone(halve_micro_batch(spec).key).checks
    assert [check.step for check in rest] == list(spec.check_steps), "the retry trains from scratch"
    assert [check.score for check in record.checks[4:]] == [check.score for check in rest[4:]]
    paid = early.checks[-1].train_seconds
    assert [check.train_seconds for check in record.checks[4:]] == [check.train_seconds + paid for check in rest[4:]]


@pytest.mark.parametrize(
    ("policy", "state"), [("fail", State.FAILED), ("lower_rate", State.DONE), ("clip", State.DONE)]
)
def test_a_non_finite_loss_follows_the_policy(make_retrying_runtime: MakeRuntime, policy: str, state: State) -> None:
    runtime = make_retrying_runtime(on_nan=policy)
    (record,) = run(runtime, make_spec("nan>0.06"))
    assert (record.status.state, len(record.retries)) == (state, int(policy != "fail"))


def test_a_trial_fails_once_its_retries_are_exhausted(make_retrying_runtime: MakeRuntime) -> None:
    runtime = make_retrying_runtime(max_oom_retries=2, on_nan="lower_rate")
    memory, diverged, crashed = run(runtime, make_spec("oom>1"), make_spec("nan>0.01"), make_spec("crash"))
    assert (memory.status.cause, len(memory.retries)) == (Cause.OOM, 2)
    assert (diverged.status.cause, len(diverged.retries)) == (Cause.NAN, 1)
    assert (crashed.status.cause, crashed.retries) == (Cause.CRASH, ())


def test_trackers_receive_each_training_under_its_key_and_each_retry_once(make_retrying_runtime: MakeRuntime) -> None:
    runtime, again, spec = make_retrying_runtime(), make_retrying_runtime(), make_spec("oom>8")
    run(runtime, spec)
    run(again, spec)
    link = RetryLink(halve_micro_batch(spec).key, Cause.OOM, "a micro-batch of 8 instead of 16")
    for notes in (runtime.tracker, again.tracker):
        assert isinstance(notes, Notes)
        assert notes.trials == [(spec.key, State.FAILED, (link,)), (link.key, State.DONE, ())]
    assert runtime.tracker.messages == [  # type: ignore[attr-defined]
        f"trial {spec.key} failed (oom): retrying it as trial {link.key} with a micro-batch of 8 instead of 16"
    ]
    assert again.tracker.messages == []  # type: ignore[attr-defined]


def test_a_resumed_controller_continues_the_retry(make_retrying_runtime: MakeRuntime) -> None:
    runtime, spec = make_retrying_runtime(), make_spec("oom>8")
    run(runtime, spec, until=60)
    assert runtime.store.read_alone(halve_micro_batch(spec).key).status.state is State.PAUSED
    (record,) = run(make_retrying_runtime(), spec)
    assert record.status.state is State.DONE
    assert len(runtime.store.keys()) == 2


def test_a_retry_that_was_created_but_not_linked_is_used(make_retrying_runtime: MakeRuntime) -> None:
    final, spec = make_retrying_runtime(max_oom_retries=0), make_spec("oom>8")
    run(final, spec)
    final.store.create(halve_micro_batch(spec))  # the state after a kill between creating and linking the retry
    (record,) = run(make_retrying_runtime(), spec)
    assert record.status.state is State.DONE
    assert len(final.store.keys()) == 2


def test_a_retry_of_one_trial_can_be_another_original_trial(make_retrying_runtime: MakeRuntime) -> None:
    runtime, large = make_retrying_runtime(), make_spec("oom>8")
    small = make_spec("oom>8", ProxyTask(overrides={"training.micro_batch": 8}))
    assert small.key == halve_micro_batch(large).key
    first, second = run(runtime, large, small)
    assert first.status.state is second.status.state is State.DONE
    assert len(runtime.store.keys()) == 2


def test_a_failed_retry_is_retried_again_only_as_an_original_trial(
    make_retrying_runtime: MakeRuntime, tmp_path: Path
) -> None:
    runtime = make_retrying_runtime(on_nan="lower_rate", learning_rate_factor=0.5)
    fast, slow = (make_spec("nan>0.15", ProxyTask(overrides={"trainer.learning_rate": rate})) for rate in (0.4, 0.2))
    first, second = run(runtime, fast, slow)
    assert (first.status.state, first.status.cause) == (State.FAILED, Cause.NAN), "the learning rate is lowered once"
    assert [link.key for link in first.retries] == [slow.key]
    assert (second.status.state, len(second.retries)) == (State.DONE, 1)
    again = FolderTrialStore(tmp_path / "trials")
    assert [again.read(spec.key).status.state for spec in (fast, slow)] == [State.FAILED, State.DONE]
    assert [record.checks for record in run(make_retrying_runtime(on_nan="lower_rate"), fast)] == [first.checks]


def test_a_trial_that_failed_after_its_last_check_is_not_retried(make_retrying_runtime: MakeRuntime) -> None:
    runtime, spec = make_retrying_runtime(), make_spec("oom_after")
    (record,) = run(runtime, spec)
    assert (record.status.cause, record.step) == (Cause.OOM, spec.total_steps)
    assert runtime.store.keys() == [spec.key]


def test_a_crashed_retry_gets_new_attempts_and_the_original_trial_stays_failed(
    make_retrying_runtime: MakeRuntime, tmp_path: Path
) -> None:
    runtime, spec = make_retrying_runtime(), make_spec("oom>8 broken")
    (record,) = run(runtime, spec)
    assert (record.status.cause, len(record.retries)) == (Cause.CRASH, 1)
    assert retry_failed_trials(tmp_path / "trials") == 1
    (tmp_path / "fixed").touch()
    (record,) = run(make_retrying_runtime(), spec)
    assert record.status.state is State.DONE
    assert isinstance(runtime.store, FolderTrialStore)
    assert runtime.store.read_alone(spec.key).status.cause is Cause.OOM


class DyingStore(FolderTrialStore):
    """Store that kills its process at one step of creating a retry."""

    def __init__(self, root: Path, moment: str) -> None:
        super().__init__(root)
        self._moment = moment

    def create(self, spec: TrialSpec, purpose: TrialPurpose | None = None) -> str:
        digest = super().create(spec, purpose)
        self._die("made", is_now=spec.recipe.micro_batch is not None)
        return digest

    def link_retries(self, key: str, retries: tuple[RetryLink, ...]) -> None:
        super().link_retries(key, retries)
        self._die("linked")
        self._die("half linked", is_now=len(retries) > 1)

    def request(self, key: str, request: Request) -> None:
        super().request(key, request)
        self._die("asked", is_now=self.spec(key).recipe.micro_batch is not None)

    def _die(self, moment: str, *, is_now: bool = True) -> None:
        if moment == self._moment and is_now:
            os.kill(os.getpid(), signal.SIGKILL)


def _run_controller(folder: Path, moment: str, specs: list[TrialSpec]) -> None:
    store = DyingStore(folder / "trials", moment)
    lock = FileLock(folder / "controller.lock")
    lock.acquire()
    backend = LocalBackend(context=BackendContext(store, folder), slots=2)
    runtime = Runtime(store, backend, NullTracker(study=folder), OrderTemplate(folder), lock=lock.path)
    runner.run_stage(TrainUntil(specs, 100), replace(runtime, retry_policy=partial(find_retry, policy=RetrySettings())))


KILLED = (make_spec("oom>4"), make_spec("oom>8", quality=10))
"""Trials whose controller is killed."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[TrialRecord]]:
    """Train the trials without a kill, and return all keys and the records of the trials."""
    folder = tmp_path_factory.mktemp("undisturbed")
    store = FolderTrialStore(folder / "trials")
    backend = LocalBackend(context=BackendContext(store, folder), slots=2)
    policy = partial(find_retry, policy=RetrySettings())
    try:
        records = run(Runtime(store, backend, Notes(), OrderTemplate(folder), retry_policy=policy), *KILLED)
    finally:
        backend.close()
    return store.keys(), records


@pytest.mark.parametrize("moment", ["made", "linked", "half linked", "asked"])
def test_a_kill_while_a_retry_is_created_changes_no_result(
    make_retrying_runtime: MakeRuntime,
    undisturbed: tuple[list[str], list[TrialRecord]],
    tmp_path: Path,
    moment: str,
) -> None:
    controller = multiprocessing.get_context("spawn").Process(
        target=_run_controller, args=(tmp_path, moment, list(KILLED))
    )
    controller.start()
    controller.join()
    assert controller.exitcode == -signal.SIGKILL
    runtime = make_retrying_runtime()
    found = run(runtime, *KILLED)
    keys, expected = undisturbed
    assert runtime.store.keys() == keys
    for one, other in zip(found, expected, strict=True):
        assert one.retries == other.retries
        (checks, seconds), (expected_checks, expected_seconds) = map(split_checks, (one, other))
        assert checks == expected_checks
        assert seconds == pytest.approx(expected_seconds), "one more attempt adds them up in another order"


def split_checks(record: TrialRecord) -> tuple[list[tuple[int, float]], list[float]]:
    """Return the steps with their scores, and the training seconds, of a record."""
    return [(check.step, check.score) for check in record.checks], [check.train_seconds for check in record.checks]


def test_a_failure_of_the_setup_stops_the_study_at_once(make_retrying_runtime: MakeRuntime) -> None:
    runtime = make_retrying_runtime()
    good, bad, later = make_spec(), make_spec("no such fault"), make_spec(quality=60)
    run(runtime, good)
    with pytest.raises(
        SetupFailedError, match="a trial of any model would fail, so the study stops: fault must be one of"
    ):
        run(runtime, bad, later)
    status = runtime.store.read(bad.key).status
    assert (status.state, status.cause, status.failures) == (State.FAILED, Cause.SETUP, 1), "there is no other attempt"
    assert runtime.store.read(good.key).status.state is State.DONE
    assert runtime.store.read(later.key).status.state is not State.FAILED
    with pytest.raises(SetupFailedError, match=bad.key):
        run(runtime, good, bad)  # its record alone stops a stage


def test_a_trial_that_failed_by_the_setup_goes_on_with_the_next_command(make_retrying_runtime: MakeRuntime) -> None:
    runtime, bad = make_retrying_runtime(), make_spec("no such fault")
    with pytest.raises(SetupFailedError, match="a trial of any model would fail, so the study stops"):
        run(runtime, bad)
    assert isinstance(runtime.store, FolderTrialStore)
    assert retry_failed_trials(runtime.store.root) == 1
    assert runtime.store.read(bad.key).status.state is State.PENDING


def test_a_trial_that_failed_by_the_setup_is_received_by_trackers(make_retrying_runtime: MakeRuntime) -> None:
    received: list[TrialEnded] = []

    class Keeping(NullTracker):
        def receive(self, event: Event) -> None:
            if isinstance(event, TrialEnded):
                received.append(event)

    with pytest.raises(SetupFailedError, match="a trial of any model would fail, so the study stops"):
        run(replace(make_retrying_runtime(), tracker=Keeping(study=Path())), make_spec("no such fault"))
    assert [event.cause for event in received] == [Cause.SETUP]
