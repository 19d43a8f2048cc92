from pathlib import Path

import pytest

from nasproxy.errors import ConfigError, CorruptFileError, NonFiniteScoreError
from nasproxy.integrations.vertex.hooks import (
    get_checkpoint_dir,
    get_stop_training,
    update_trial_training_accuracy_metric,
    update_trial_training_latency_metric,
)
from nasproxy.storage.json_records import write_record
from nasproxy.storage.locks import FileLock
from nasproxy.storage.trial_files import read_checks
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.trials.records import Check, Request


def report(folder: Path, begin: int, end: int, score: float = 0.5, seconds: float = 2.0) -> None:
    update_trial_training_accuracy_metric(folder, score, begin, end, seconds, 100)


def test_a_cycle_becomes_a_check_counted_in_finished_steps(tmp_path: Path) -> None:
    report(tmp_path, 0, 9, 0.25)
    report(tmp_path, 10, 19, 0.0)
    checks = read_checks(TrialFolder(tmp_path).metrics)
    assert checks == (Check(10, 0.25, 2.0), Check(20, 0.0, 4.0)), "a score of 0 is a score"


def test_the_score_is_recorded_as_the_metric_of_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NASPROXY_METRIC", "val_loss")
    report(tmp_path, 0, 9, 0.25)
    assert read_checks(TrialFolder(tmp_path).metrics, "val_loss") == (Check(10, 0.25, 2.0),)


@pytest.mark.parametrize("begin", [-1, 0])
def test_a_validation_before_training_is_a_check_of_step_0(tmp_path: Path, begin: int) -> None:
    report(tmp_path, begin, -1, 0.1, seconds=0.0)
    report(tmp_path, begin, -1, 0.3, seconds=0.0)
    report(tmp_path, 0, 9)
    assert read_checks(TrialFolder(tmp_path).metrics) == (Check(0, 0.1, 0.0), Check(10, 0.5, 2.0))


def test_a_repeated_check_has_no_effect(tmp_path: Path) -> None:
    report(tmp_path, 0, 9, 0.25)
    report(tmp_path, 10, 19, 0.5)
    before = TrialFolder(tmp_path).metrics.read_bytes()
    report(tmp_path, 0, 9, 0.9)
    report(tmp_path, 10, 19, 0.9)
    assert TrialFolder(tmp_path).metrics.read_bytes() == before


def test_an_unreadable_file_raises_and_erases_nothing(tmp_path: Path) -> None:
    metrics = TrialFolder(tmp_path).metrics
    metrics.write_text("not a check\n")
    with pytest.raises(CorruptFileError, match=r"metrics.jsonl cannot be read"):
        report(tmp_path, 0, 9)
    assert metrics.read_text() == "not a check\n"
    TrialFolder(tmp_path).request.write_text("{")
    with pytest.raises(CorruptFileError, match=r"request.json cannot be read"):
        get_stop_training(tmp_path, 9, 100)


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_non_finite_score_raises(tmp_path: Path, score: float) -> None:
    with pytest.raises(NonFiniteScoreError, match="needs a finite accuracy"):
        report(tmp_path, 0, 9, score)


@pytest.mark.parametrize(
    ("begin", "end", "seconds"),
    [(-1, 9, 1.0), (10, 9, 1.0), (0, 100, 1.0), (0, 9, -1.0), (0, 9, float("inf")), (0, 9, float("nan"))],
)
def test_an_invalid_cycle_raises_and_writes_nothing(tmp_path: Path, begin: int, end: int, seconds: float) -> None:
    with pytest.raises(ConfigError, match="a training cycle needs"):
        report(tmp_path, begin, end, seconds=seconds)
    assert not TrialFolder(tmp_path).metrics.exists()


@pytest.mark.parametrize(
    ("request_", "end", "stops"),
    [
        (Request(), 9, False),
        (Request(), 99, True),
        (Request(until_step=20), 18, False),
        (Request(until_step=20), 19, True),
        (Request(until_step=0), -1, True),
        (Request(stop=True), -1, True),
    ],
)
def test_a_trial_stops_at_the_requested_step(tmp_path: Path, request_: Request, end: int, stops: bool) -> None:
    report(tmp_path, 0, 9)
    write_record(TrialFolder(tmp_path).request, request_)
    assert get_stop_training(tmp_path, end, 100) is stops


def test_without_a_request_a_trial_continues(tmp_path: Path) -> None:
    assert not get_stop_training(tmp_path, 0, 100)


def test_a_trial_stops_when_its_controller_no_longer_holds_its_lock(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "study.lock")
    lock.acquire()
    write_record(TrialFolder(tmp_path).request, Request(lease=str(lock.path)))
    assert not get_stop_training(tmp_path, 9, 100)
    lock.release()
    assert get_stop_training(tmp_path, 9, 100)


def test_latency_is_a_number_of_milliseconds(tmp_path: Path) -> None:
    update_trial_training_latency_metric(tmp_path, 12.5)
    assert '"latency_ms": 12.5' in TrialFolder(tmp_path).latency.read_text()
    with pytest.raises(ConfigError, match="a latency must be above 0 ms, got -1"):
        update_trial_training_latency_metric(tmp_path, -1)


def test_the_checkpoint_folder_exists(tmp_path: Path) -> None:
    assert list(get_checkpoint_dir(tmp_path).iterdir()) == []
