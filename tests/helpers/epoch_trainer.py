"""A trainer with epochs: it validates before training and after each epoch, whatever steps are requested."""

import json
import time
from typing import Any

from nasproxy.execution.worker.context import TrialContext
from nasproxy.storage.files import replace_text
from nasproxy.testing.synthetic import compute_score, compute_step_seconds
from nasproxy.training import hooks


def train(trial: TrialContext, *, epoch_steps: int = 16, check_seconds: float = 0.0, **_: Any) -> None:
    """Report a computed score before training and after each epoch; other arguments of `synthetic` have no effect."""
    position = hooks.get_checkpoint_dir(trial.model_dir) / "position.json"
    done = int(json.loads(position.read_text())) if position.exists() else 0
    if done == 0:
        score = compute_score(trial, 0, noise=0.01)
        hooks.update_trial_training_accuracy_metric(trial.model_dir, score, 0, -1, 0.0, trial.total_steps)
    while not hooks.get_stop_training(trial.model_dir, done - 1, trial.total_steps):
        end = min(done + epoch_steps, trial.total_steps)
        time.sleep(check_seconds)
        seconds = epoch_steps * compute_step_seconds(trial.architecture, trial.proxy_task.width)
        score = compute_score(trial, end, noise=0.01)
        hooks.update_trial_training_accuracy_metric(trial.model_dir, score, done, end - 1, seconds, trial.total_steps)
        replace_text(position, json.dumps(end))
        done = end
