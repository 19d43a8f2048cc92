"""Planned work of the variance measurement. Pure functions."""

from collections.abc import Sequence
from dataclasses import replace

from nasproxy.stages.variance.settings import VarianceSettings
from nasproxy.stages.workload import StageWork, count_between, count_checks, count_whole, list_checks
from nasproxy.trials.spec import Architecture, Recipe


def plan_variance(settings: VarianceSettings, recipe: Recipe, candidates: Sequence[Architecture]) -> StageWork:
    """Plan the variance stage: the seeds of the first candidate.

    In the maximum case all other candidates are tried before, and fail just before they count as trainable.

    Args:
        settings: Settings of the measurement.
        recipe: The study's recipe.
        candidates: Architectures in the order in which they are tried.
    """
    total = recipe.total_steps if settings.total_steps is None else settings.total_steps
    steps = list_checks(replace(recipe, total_steps=total))
    # The first seed is paused at the check that shows that it trains, and continues with the others.
    seeds = replace(count_whole(tuple(candidates[:1]), None, steps, settings.seeds), starts=settings.seeds + 1)
    failed_checks = count_checks(steps, settings.trainable_fraction * total)
    others = tuple(candidates[1 : settings.max_tries])
    failed_tries = count_between(others, None, len(others), steps, 0, failed_checks)
    return StageWork((seeds,), (seeds,), (seeds, failed_tries))
