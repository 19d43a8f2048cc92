"""A real training whose reported seconds are computed, not measured, so that repeated runs decide equally."""

from typing import Any
from unittest.mock import patch

from nasproxy.execution.worker.context import TrialContext
from nasproxy.trainers import plain_pytorch
from nasproxy.training import hooks


def train(trial: TrialContext, **arguments: Any) -> None:
    """Train as `nasproxy.trainers.plain_pytorch` does."""

    def update(model_dir: Any, accuracy: float, begin: int, end: int, _seconds: float, total: int) -> None:
        steps = end - begin + 1
        seconds = 0.001 * steps * (0.5 + 0.5 * trial.proxy_task.width)
        hooks.update_trial_training_accuracy_metric(model_dir, accuracy, begin, end, seconds, total)

    with patch.object(plain_pytorch, "update_trial_training_accuracy_metric", update):
        plain_pytorch.train(trial, **arguments)
