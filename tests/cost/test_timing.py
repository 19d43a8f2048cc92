"""Timing trials on a real backend."""

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from helpers.cli import digits_spec
from nasproxy.cost.speed import Timing
from nasproxy.cost.timing import TimingFailure, choose_cycle, divide_time, make_timing_trial, time_trials
from nasproxy.execution.backends.backend import BackendContext
from nasproxy.execution.backends.local import LocalBackend
from nasproxy.execution.work_order import OrderTemplate
from nasproxy.storage.trial_stores import TrialStore
from nasproxy.testing.backend_contract import make_spec
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Check, State, Status, TrialRecord
from nasproxy.trials.retry import find_retry
from nasproxy.trials.retry_settings import RetrySettings
from nasproxy.trials.spec import Split, TrialSpec

ORDERS = OrderTemplate(Path("study"), ("nasproxy", "helpers"), max_attempts=2)


def two_slots(store: TrialStore, study: Path) -> LocalBackend:
    return LocalBackend(context=BackendContext(store, study), slots=2)


def test_steps_checks_and_starts_of_a_real_training_are_timed_separately(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    specs = [digits_spec(ProxyTask(), total_steps=600), digits_spec(ProxyTask(width=0.25), total_steps=600)]
    full, narrow = time_trials(specs, two_slots, ORDERS, cycle=10)
    assert isinstance(full, Timing)
    assert isinstance(narrow, Timing)
    assert 0 < full.step_seconds < 1
    assert full.check_seconds > 0
    assert full.start_seconds > 0
    assert not list(tmp_path.glob("nasproxy-*")), "temporary folders are removed"


def test_time_between_checks_without_training_counts_as_check() -> None:
    (timing,) = time_trials([make_spec(check_seconds=0.2)], two_slots, ORDERS, cycle=2)
    assert isinstance(timing, Timing)
    assert timing.step_seconds == pytest.approx(0.015), "as the trainer reports"
    assert timing.check_seconds >= 0.2 - 2 * 0.015 - 0.01, "the trainer sleeps at least so long before a check"


def test_a_trainer_with_checks_at_other_steps_is_timed_by_its_steps() -> None:
    spec = make_spec(check_seconds=0.3, total_steps=960)
    trainer = {**spec.recipe.trainer, "_target_": "helpers.epoch_trainer.train"}
    (timing,) = time_trials([replace(spec, recipe=replace(spec.recipe, trainer=trainer))], two_slots, ORDERS, cycle=2)
    assert isinstance(timing, Timing)
    assert timing.step_seconds == pytest.approx(0.015), "one epoch of 16 steps, and a check before it"


def test_reported_seconds_above_the_measured_time_are_not_used() -> None:
    (timing,) = time_trials([make_spec(total_steps=10_000)], two_slots, ORDERS, cycle=50)
    assert isinstance(timing, Timing)
    assert timing.step_seconds < 0.015, "the trainer reports more seconds than passed"


def test_checks_are_timed_by_when_they_were_reported() -> None:
    def make_record(*reported_at: float | None) -> TrialRecord:
        checks = (Check(10 * n, 0.5, 0.1 * n, reported_at=at) for n, at in enumerate(reported_at, start=1))
        return TrialRecord(Status(State.DONE, wall_seconds=1.2), tuple(checks))

    seconds = [7.0, 7.2, 7.4, 7.5, 7.6, 7.75]
    assert divide_time(make_record(*seconds)) == Timing(pytest.approx(0.01), pytest.approx(0.05), pytest.approx(0.3))
    unknown = Timing(pytest.approx(0.01), pytest.approx(0.1), pytest.approx(0.0))
    assert divide_time(make_record(*[7.0] * 6)) == unknown, "at the same time: the clock was set"
    assert divide_time(make_record(*[None] * 6)) == unknown


def test_a_failed_trial_is_reported_with_its_reason_and_the_others_are_timed() -> None:
    bad, good = make_spec(fault="crash", total_steps=12), make_spec(total_steps=12)
    failure, timing = time_trials([bad, good], two_slots, ORDERS, cycle=2)
    assert isinstance(failure, TimingFailure)
    assert failure.reason == "crash: RuntimeError: the trainer has a mistake"
    assert isinstance(timing, Timing)


def test_a_trial_that_runs_out_of_memory_is_timed_by_its_retry() -> None:
    spec = make_spec(fault="oom>4", total_steps=12, batch_size=16)
    (failure,) = time_trials([spec], two_slots, ORDERS, cycle=2)
    assert isinstance(failure, TimingFailure)
    assert failure.reason.startswith("oom")
    (timing,) = time_trials([spec], two_slots, ORDERS, 2, partial(find_retry, policy=RetrySettings()))
    assert isinstance(timing, Timing)
    (failure,) = time_trials([spec], two_slots, ORDERS, 2, partial(find_retry, policy=RetrySettings(max_oom_retries=1)))
    assert isinstance(failure, TimingFailure)
    assert failure.spec.recipe.micro_batch is None, "the failure names the original trial"


def test_a_timing_trial_keeps_its_schedule_and_changes_its_checks() -> None:
    task = ProxyTask(overrides={"training.total_steps": 50, "training.check_every_steps": 25})
    spec = make_timing_trial(TrialSpec({"quality": 1}, task, Split.SEARCH, 0, make_spec().recipe), cycle=3)
    assert (spec.total_steps, spec.check_steps[:3]) == (50, (3, 6, 9))


def test_a_cycle_is_limited_by_the_budget_and_by_the_training() -> None:
    assert choose_cycle(600, trials=5, budget_steps=300) == 10
    assert choose_cycle(100_000, trials=5, budget_steps=1e9) == 50
    assert choose_cycle(12, trials=5, budget_steps=300) == 2
    assert choose_cycle(3, trials=5, budget_steps=1) == 1
