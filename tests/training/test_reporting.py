"""Reports of a trainer through its trial."""

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.trial_contexts import make_trial
from nasproxy.errors import ConfigError, CorruptFileError, NonFiniteScoreError, StaleLeaseError
from nasproxy.storage.folder_leases import FolderLease
from nasproxy.storage.json_records import write_record
from nasproxy.storage.locks import FileLock
from nasproxy.storage.trial_files import read_checks
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.storage.trial_stores import FolderTrialStore
from nasproxy.testing.store_contract import SPEC
from nasproxy.training.reporting import record_check
from nasproxy.trials.clock import VirtualClock
from nasproxy.trials.objective import Objective
from nasproxy.trials.records import Check, Request


def checks(folder: Path, metric: str = "accuracy") -> list[tuple[int, float, float]]:
    return [
        (check.step, check.score, check.train_seconds) for check in read_checks(TrialFolder(folder).metrics, metric)
    ]


def test_a_report_becomes_a_check_with_all_its_metrics(tmp_path: Path) -> None:
    trial = make_trial(tmp_path, 100, Objective("loss", "min"))
    trial.report(10, {"loss": torch.tensor(2.5), "accuracy": np.float32(0.25), "top5": 1}, 2.0)
    trial.report(20, {"loss": 0.0, "accuracy": math.nan}, 4.0)
    first, second = read_checks(TrialFolder(tmp_path).metrics, "loss")
    assert (first, second) == (Check(10, 2.5, 2.0), Check(20, 0.0, 4.0)), "as they are, without a sign"
    assert first.metrics == {"loss": 2.5, "accuracy": 0.25, "top5": 1.0}
    assert second.metrics == {"loss": 0.0, "accuracy": None}


def test_a_known_check_is_not_recorded_again_but_its_time_is_not_counted_twice(tmp_path: Path) -> None:
    first = make_trial(tmp_path, 100)
    first.report(10, {"accuracy": 0.1}, 2.0)
    first.report(20, {"accuracy": 0.2}, 4.0)
    resumed = make_trial(tmp_path, 100)  # from a checkpoint of step 10
    resumed.report(20, {"accuracy": 0.9}, 3.0)
    resumed.report(30, {"accuracy": 0.3}, 5.0)
    assert checks(tmp_path) == [(10, 0.1, 2.0), (20, 0.2, 4.0), (30, 0.3, 6.0)]


def test_without_seconds_the_time_since_the_start_counts(tmp_path: Path) -> None:
    clock = VirtualClock()
    trial = make_trial(tmp_path, 100, clock=clock)
    for step in (10, 20):
        clock.sleep(3.0)
        trial.report(step, {"accuracy": 0.5})
    assert [seconds for *_, seconds in checks(tmp_path)] == [3.0, 6.0]


def test_only_rank_0_records(tmp_path: Path) -> None:
    other = make_trial(tmp_path, 100, rank=1)
    other.report(10, {"accuracy": 0.5})
    assert not other.report_alive()
    assert checks(tmp_path) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, torch.tensor(math.nan)])
def test_a_metric_that_is_not_finite_diverges(tmp_path: Path, value: Any) -> None:
    with pytest.raises(NonFiniteScoreError, match=r"needs a finite accuracy, got (nan|inf) after step 10"):
        make_trial(tmp_path, 100).report(10, {"accuracy": value})


@pytest.mark.parametrize(
    ("step", "metrics", "seconds", "message"),
    [
        (101, {"accuracy": 0.5}, 1.0, "a whole number from 0 to 100, .* got 101: report the number of finished"),
        (-1, {"accuracy": 0.5}, 1.0, "got -1"),
        (1.5, {"accuracy": 0.5}, 1.0, "got 1.5"),
        (True, {"accuracy": 0.5}, 1.0, "got True"),
        (10, {"loss": 0.5, "f1": 1.0}, 1.0, "needs the study's metric 'accuracy', got loss, f1 at step 10: report it"),
        (10, {}, 1.0, "needs the study's metric 'accuracy', got {}"),
        (10, 0.5, 1.0, "needs the study's metric 'accuracy', got 0.5"),
        (10, {"accuracy": "high"}, 1.0, "must be numbers, got 'high' as accuracy at step 10"),
        (10, {"accuracy": 0.5, "f1": [1, 2]}, 1.0, "must be numbers, got .* as f1"),
        (10, {"accuracy": 0.5}, -1.0, "train_seconds must be finite and must not decrease"),
        (10, {"accuracy": 0.5}, math.inf, "train_seconds must be finite"),
        (10, {"accuracy": 0.5}, math.nan, "train_seconds must be finite"),
    ],
)
def test_an_invalid_report_is_refused_and_writes_nothing(
    tmp_path: Path, step: Any, metrics: Any, seconds: float, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_trial(tmp_path, 100).report(step, metrics, seconds)
    assert checks(tmp_path) == []


def test_a_check_without_the_metric_of_the_study_cannot_be_read(tmp_path: Path) -> None:
    make_trial(tmp_path, 100).report(10, {"accuracy": 0.5})
    with pytest.raises(CorruptFileError, match="it has accuracy at step 10, and the study needs 'loss'"):
        read_checks(TrialFolder(tmp_path).metrics, "loss")


@pytest.mark.parametrize(
    ("request_", "step", "stops"),
    [
        (None, 10, False),
        (Request(), 10, False),
        (Request(), 100, True),
        (Request(until_step=20), 19, False),
        (Request(until_step=20), 20, True),
        (Request(until_step=0), 0, True),
        (Request(stop=True), 0, True),
    ],
)
def test_a_trial_stops_at_the_requested_step(tmp_path: Path, request_: Request | None, step: int, stops: bool) -> None:
    if request_ is not None:
        write_record(TrialFolder(tmp_path).request, request_)
    assert make_trial(tmp_path, 100).should_stop(step) is stops


def test_a_trial_stops_when_its_controller_no_longer_holds_its_lock(tmp_path: Path) -> None:
    lock, trial = FileLock(tmp_path / "study.lock"), make_trial(tmp_path, 100)
    lock.acquire()
    write_record(TrialFolder(tmp_path).request, Request(lease=str(lock.path)))
    assert not trial.should_stop(10)
    lock.release()
    assert trial.should_stop(10)


def test_an_unreadable_request_raises(tmp_path: Path) -> None:
    TrialFolder(tmp_path).request.write_text("{")
    with pytest.raises(CorruptFileError, match=r"request.json cannot be read"):
        make_trial(tmp_path, 100).should_stop(10)


def test_the_checkpoint_folder_exists(tmp_path: Path) -> None:
    assert list(make_trial(tmp_path, 100).checkpoint_dir.iterdir()) == []


def test_the_time_before_a_report_of_step_0_is_no_training(tmp_path: Path) -> None:
    clock = VirtualClock()
    trial = make_trial(tmp_path, 100, clock=clock)
    clock.sleep(5.0)
    trial.report(0, {"accuracy": 0.1})
    clock.sleep(2.0)
    trial.report(10, {"accuracy": 0.2})
    assert [check.train_seconds for check in read_checks(TrialFolder(tmp_path).metrics)] == [0.0, 2.0]


def own_twice(path: Path) -> FolderLease:
    """Let two workers have a trial, one after the other, and return the lease of the second."""
    first, second = FolderLease(path), FolderLease(path)
    assert first.acquire()
    first.release()
    assert second.acquire()
    return second


def test_a_program_whose_worker_lost_the_trial_reports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = TrialFolder(tmp_path)
    own_twice(folder.lock)
    monkeypatch.setenv("NASPROXY_GENERATION", "1")
    with pytest.raises(StaleLeaseError, match=r"needs generation 2, got 1"):
        record_check(folder, 10, {"accuracy": 0.5}, 1.0)
    assert not folder.metrics.exists()
    monkeypatch.setenv("NASPROXY_GENERATION", "2")
    record_check(folder, 10, {"accuracy": 0.5}, 1.0)
    assert [check.step for check in read_checks(folder.metrics)] == [10]
    monkeypatch.setenv("NASPROXY_GENERATION", "two")
    with pytest.raises(ConfigError, match=r"NASPROXY_GENERATION must be a whole number, got 'two'"):
        record_check(folder, 20, {"accuracy": 0.5}, 1.0)


def test_a_check_is_news_and_has_the_time_of_its_report(tmp_path: Path) -> None:
    store = FolderTrialStore(tmp_path)
    store.create(SPEC)
    store.news()
    before = time.time()
    record_check(store.folder(SPEC.key), 10, {"accuracy": 0.5}, 1.0)
    assert store.news() == {SPEC.key}
    (check,) = store.read(SPEC.key).checks
    assert check.reported_at is not None
    assert before <= check.reported_at <= time.time()
