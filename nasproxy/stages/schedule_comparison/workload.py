"""Planned work of the schedule comparison. Pure functions."""

from nasproxy.stages.workload import StageWork, count_whole, list_checks
from nasproxy.trials.spec import Architecture, Recipe


def plan_schedules(recipe: Recipe, architecture: Architecture, trainings: int) -> StageWork:
    """Plan the schedule comparison: so many full trainings of one model."""
    work = (count_whole((architecture,), None, list_checks(recipe), trainings),)
    return StageWork(work, work, work)
