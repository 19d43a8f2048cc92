"""Planned work of the selection of reference models. Pure functions."""

from collections.abc import Sequence
from dataclasses import replace

from nasproxy.stages.references.selection import Selection
from nasproxy.stages.workload import StageWork, count_between, count_checks, count_whole, list_checks
from nasproxy.trials.spec import Architecture, Recipe


def plan_selection(
    settings: Selection,
    recipe: Recipe,
    candidates: Sequence[Architecture],
    baseline: Architecture | None,
    *,
    is_first_trained: bool,
) -> StageWork:
    """Plan the selection of the reference models and the training of the baseline.

    In the maximum case as many candidates as allowed fail at the end of their training.

    Args:
        settings: The selection.
        recipe: The study's recipe.
        candidates: Random architectures.
        baseline: The user's own architecture; None if there is none.
        is_first_trained: Whether the variance stage trains the first candidate fully, so that it costs nothing here.
    """
    steps, shared = list_checks(recipe), int(is_first_trained)
    begun = settings.rounds[0][0]
    pool, works, reached = tuple(candidates[shared:begun]), [], 0
    for models, fraction in settings.rounds:
        until = count_checks(steps, fraction * steps[-1])
        work = count_between(pool, None, models - shared, steps, reached, until)
        works.append(work if not reached else replace(work, trials=0))
        reached = until
    if baseline is not None:
        works.append(count_whole((baseline,), None, steps, 1))
    failed = count_whole(tuple(candidates[begun : settings.candidates]), None, steps, settings.candidates - begun)
    return StageWork(tuple(works), tuple(works), (*works, failed))
