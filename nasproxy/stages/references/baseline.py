"""Comparison of a study's reference models with its baseline model."""

from collections.abc import Sequence

from nasproxy.stages.references.state import Reference, SelectionState
from nasproxy.stages.variance.state import VarianceState
from nasproxy.statistics.baseline_comparison import BaselineComparison, compare_with_baseline
from nasproxy.trials.objective import Objective


def find_baseline_comparison(
    selection: SelectionState | None,
    variance: VarianceState | None,
    objective: Objective,
    *,
    added: Sequence[Reference] = (),
) -> BaselineComparison | None:
    """Compare the reference models with the baseline model; None before both are trained, or without a baseline.

    A candidate that is the baseline model itself is left out.

    Args:
        selection: State of the selection of reference models.
        variance: State of the variance measurement, for the seed noise.
        objective: The study's metric and its direction.
        added: Reference models that were added after inconclusive looks, which are random.
    """
    if selection is None or selection.baseline is None:
        return None
    baseline = selection.baseline
    scores = [model.score for model in (*(selection.references or ()), *added) if model.key != baseline.key]
    if not scores:
        return None
    result = None if variance is None else variance.result
    return compare_with_baseline(
        [objective.orient(score) for score in scores],
        objective.orient(baseline.score),
        deviation=None if result is None else result.deviation,
        is_random=not any(iteration.removed for iteration in selection.iterations),
    )
