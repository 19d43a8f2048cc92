"""The trial as a Lightning training sees it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from nasproxy.trials.objective import Objective


class Trial(Protocol):
    """What a Lightning training uses of a trial: `nasproxy.execution.worker.context.TrialContext`."""

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole training."""
        ...

    @property
    def objective(self) -> Objective:
        """The study's metric."""
        ...

    @property
    def checkpoint_dir(self) -> Path:
        """Folder for the trial's checkpoints."""
        ...

    def report(self, step: int, metrics: Mapping[str, float], train_seconds: float | None = None) -> None:
        """Report one check."""
        ...

    def should_stop(self, step: int) -> bool:
        """Return whether to stop after `step` finished steps."""
        ...

    def report_alive(self) -> bool:
        """Write a heartbeat; return whether one was due."""
        ...
