"""A real training whose reported seconds are computed, not measured, so that repeated runs decide equally."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from nasproxy.execution.worker.context import TrialContext
from nasproxy.storage.trial_files import read_last_step
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.trainers import plain_pytorch
from nasproxy.training.reporting import check_metrics, record_check

REPORTS = "reports.txt"
"""File in a trial's folder with the step of every report, also of those that were recorded before."""


class CountedTrial(TrialContext):
    """A trial whose training time follows from its steps; it reports the negated loss, too."""

    def report(self, step: int, metrics: Mapping[str, float], train_seconds: float | None = None) -> None:
        """Report a check with seconds computed from the steps since the last recorded one."""
        folder = TrialFolder(self.model_dir)
        steps = step - read_last_step(folder)
        seconds = 0.001 * steps * (0.5 + 0.5 * self.proxy_task.width)
        metrics = {**metrics, "negated_loss": -metrics["loss"]}
        if self.rank == 0:
            with (self.model_dir / REPORTS).open("a") as file:
                file.write(f"{step}\n")
            record_check(folder, step, check_metrics(metrics, self.objective.name, step), seconds)


def train(trial: TrialContext, **arguments: Any) -> None:
    """Train as `nasproxy.trainers.plain_pytorch` does."""
    counted = CountedTrial(**{field.name: getattr(trial, field.name) for field in fields(trial)})
    plain_pytorch.train(counted, **arguments)
