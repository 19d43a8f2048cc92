"""Planned work of the schedule comparison. Pure functions."""

from nasproxy.stages.workload import StageWork, count_whole, list_checks
from nasproxy.trials.spec import Architecture, Recipe


def plan_schedules(recipe: Recipe, architectures: tuple[Architecture, ...], schedules: int) -> StageWork:
    """Plan the schedule comparison: a full training of each model under each schedule."""
    work = (count_whole(architectures, None, list_checks(recipe), schedules * len(architectures)),)
    return StageWork(work, work, work)
