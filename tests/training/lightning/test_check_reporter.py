import math
from pathlib import Path

import pytest
import torch

from helpers.trial_contexts import make_trial
from nasproxy.errors import ConfigError, NonFiniteScoreError
from nasproxy.storage.trial_files import read_checks
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.training.lightning.check_reporter import CycleReporter, read_metrics
from nasproxy.trials.clock import VirtualClock
from nasproxy.trials.records import Check


def test_a_cycle_is_timed_without_its_pauses(tmp_path: Path) -> None:
    clock = VirtualClock()
    reporter = CycleReporter(make_trial(tmp_path, 20), clock)
    reporter.start(0)
    for score in (0.25, 0.5):
        clock.sleep(3.0)
        reporter.pause()
        clock.sleep(100.0)
        reporter.check(10 if score < 0.5 else 20, {"accuracy": score})
        clock.sleep(100.0)
        reporter.resume()
    assert read_checks(TrialFolder(tmp_path).metrics) == (Check(10, 0.25, 3.0), Check(20, 0.5, 6.0))


def test_a_resumed_trial_reports_from_its_last_check(tmp_path: Path) -> None:
    reporter = CycleReporter(make_trial(tmp_path, 20), VirtualClock())
    reporter.start(10)
    assert not reporter.is_new(10)
    assert reporter.is_new(11)
    reporter.check(15, {"accuracy": 0.5})
    assert read_checks(TrialFolder(tmp_path).metrics)[-1].step == 15


def test_only_the_writing_process_reports(tmp_path: Path) -> None:
    reporter = CycleReporter(make_trial(tmp_path, 20), VirtualClock())
    reporter.start(0)
    reporter.check(10, {"accuracy": 0.5}, write=False)
    assert read_checks(TrialFolder(tmp_path).metrics) == ()


def test_a_non_finite_score_is_refused(tmp_path: Path) -> None:
    reporter = CycleReporter(make_trial(tmp_path, 20), VirtualClock())
    reporter.start(0)
    with pytest.raises(NonFiniteScoreError, match="finite accuracy, got nan"):
        reporter.check(10, {"accuracy": math.nan})


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_non_finite_loss_makes_the_metric_nan(loss: float) -> None:
    logged = {"val_acc": torch.tensor(0.5), "val_loss": torch.tensor([2.0]), "confusion": torch.eye(2)}
    measured = read_metrics(logged, "val_acc", "accuracy", torch.tensor(1.0))
    assert (
        measured
        == {"val_acc": 0.5, "val_loss": 2.0, "accuracy": 0.5}
        == read_metrics(logged, "val_acc", "accuracy", None)
    )
    assert math.isnan(read_metrics(logged, "val_acc", "accuracy", torch.tensor(loss))["accuracy"])


def test_a_metric_that_was_not_logged_is_named_with_the_logged_metrics() -> None:
    with pytest.raises(ConfigError, match=r"'score' after each validation, got accuracy, loss: call self.log"):
        read_metrics({"loss": torch.tensor(0.0), "accuracy": torch.tensor(0.0)}, "score", "score", None)
