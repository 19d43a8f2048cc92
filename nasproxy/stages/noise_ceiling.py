"""The noise ceiling of a study: the tau that seed noise allows a perfect proxy."""

from nasproxy.stages.references.state import SelectionState
from nasproxy.stages.variance.state import VarianceState
from nasproxy.statistics.ceiling import NoiseCeiling, compute_noise_ceiling


def find_noise_ceiling(variance: VarianceState | None, selection: SelectionState | None) -> NoiseCeiling | None:
    """Compute the noise ceiling; None before variance and at least two references are measured."""
    if variance is None or variance.result is None or selection is None or len(selection.references or ()) < 2:
        return None
    scores = [reference.score for reference in selection.references or ()]
    return compute_noise_ceiling(scores, variance.result.deviation)
