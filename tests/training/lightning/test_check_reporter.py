import math
from pathlib import Path

import pytest
import torch

from nasproxy.errors import ConfigError, CorruptFileError, NonFiniteScoreError
from nasproxy.storage.files import write_record
from nasproxy.storage.trial_files import read_checks
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.training.lightning.check_reporter import CycleReporter, get_monitored_score
from nasproxy.training.lightning.stop import is_stop_requested
from nasproxy.trials.clock import VirtualClock
from nasproxy.trials.records import Check, Request


def test_a_cycle_is_timed_without_its_pauses(tmp_path: Path) -> None:
    clock = VirtualClock()
    reporter = CycleReporter(tmp_path, 20, clock)
    reporter.start(0)
    for score in (0.25, 0.5):
        clock.sleep(3.0)
        reporter.pause()
        clock.sleep(100.0)
        reporter.check(10 if score < 0.5 else 20, score)
        clock.sleep(100.0)
        reporter.resume()
    assert read_checks(TrialFolder(tmp_path).metrics) == (Check(10, 0.25, 3.0), Check(20, 0.5, 6.0))


def test_a_resumed_trial_reports_from_its_last_check(tmp_path: Path) -> None:
    reporter = CycleReporter(tmp_path, 20, VirtualClock())
    reporter.start(10)
    assert not reporter.is_new(10)
    assert reporter.is_new(11)
    reporter.check(15, 0.5)
    assert read_checks(TrialFolder(tmp_path).metrics)[-1].step == 15


def test_only_the_writing_process_reports(tmp_path: Path) -> None:
    reporter = CycleReporter(tmp_path, 20, VirtualClock())
    reporter.start(0)
    reporter.check(10, 0.5, write=False)
    assert read_checks(TrialFolder(tmp_path).metrics) == ()


def test_a_non_finite_score_is_refused(tmp_path: Path) -> None:
    reporter = CycleReporter(tmp_path, 20, VirtualClock())
    reporter.start(0)
    with pytest.raises(NonFiniteScoreError, match="finite score, got nan"):
        reporter.check(10, math.nan)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_non_finite_loss_makes_the_score_nan(loss: float) -> None:
    metrics = {"score": torch.tensor(0.5)}
    assert math.isnan(get_monitored_score(metrics, "score", torch.tensor(loss)))
    assert get_monitored_score(metrics, "score", torch.tensor(1.0)) == 0.5
    assert get_monitored_score(metrics, "score", None) == 0.5


def test_a_score_that_was_not_logged_is_named_with_the_logged_metrics() -> None:
    with pytest.raises(ConfigError, match=r"'score' after each validation, got accuracy, loss: call self.log"):
        get_monitored_score({"loss": torch.tensor(0.0), "accuracy": torch.tensor(0.0)}, "score", None)


def test_a_stop_is_requested_in_finished_steps(tmp_path: Path) -> None:
    write_record(TrialFolder(tmp_path).request, Request(until_step=10))
    assert [is_stop_requested(tmp_path, step, 20) for step in (0, 9, 10, 20)] == [False, False, True, True]


def test_an_unreadable_request_stops_with_an_error(tmp_path: Path) -> None:
    TrialFolder(tmp_path).request.write_text("{")
    with pytest.raises(CorruptFileError, match=r"request.json cannot be read"):
        is_stop_requested(tmp_path, 10, 20)
