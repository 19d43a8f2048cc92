"""Planned work of a stage: trials, steps and starts, counted from its settings. Pure functions.

Each stage counts its work three times, in its module `workload`: minimum, under the assumption, and maximum.
"""

from dataclasses import dataclass

from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.spec import Architecture, Recipe, Split, TrialSpec

Models = tuple[Architecture, ...]


@dataclass(frozen=True)
class Work:
    """Total work of trials of one kind.

    Attributes:
        models: Their architectures; each trial is assumed to take the mean time of these.
        task: Name of their proxy task; None for full training.
        trials: Number of new trials, without those continued from an earlier round.
        starts: Number of started processes; a paused trial needs another start.
        steps: Optimizer steps of all trials.
        checks: Checks of all trials.
    """

    models: Models
    task: str | None
    trials: int
    starts: int
    steps: int
    checks: int


@dataclass(frozen=True)
class StageWork:
    """Planned work of a stage.

    Attributes:
        low: Minimum.
        middle: Under the assumption.
        high: Maximum.
    """

    low: tuple[Work, ...]
    middle: tuple[Work, ...]
    high: tuple[Work, ...]


def list_checks(recipe: Recipe, task: ProxyTask | None = None) -> tuple[int, ...]:
    """List the check steps of a training; `task` None for full training."""
    return TrialSpec({}, task or ProxyTask(), Split.FULL, 0, recipe).check_steps


def count_whole(models: Models, task: str | None, steps: tuple[int, ...], trials: int) -> Work:
    """Count the work of so many whole trainings with checks at these steps."""
    return count_between(models, task, trials, steps, 0, len(steps))


def count_between(models: Models, task: str | None, trials: int, steps: tuple[int, ...], begin: int, end: int) -> Work:
    """Count the work of trials from one check to another, given as numbers of checks."""
    done = steps[begin - 1] if begin else 0
    return Work(models, task, trials, trials, trials * (steps[end - 1] - done), trials * (end - begin))


def count_checks(steps: tuple[int, ...], wanted: float) -> int:
    """Count the checks up to and including the first one at or after a step."""
    return next(place for place, step in enumerate(steps, 1) if step >= wanted - 1e-9)
