"""Stored state of the variance measurement."""

from dataclasses import dataclass

from nasproxy.statistics.variance import SeedDeviation, VarianceVerdict
from nasproxy.storage.study_stores import StudyStore
from nasproxy.trials.spec import Architecture

STATE = "variance/state"
"""Name of the state in a study."""


@dataclass(frozen=True)
class VarianceResult:
    """Result of the variance measurement.

    Attributes:
        keys: Keys of the trials that ended without failure.
        final_scores: Their last scores, in the same order.
        deviation: Standard deviation over seeds, with interval.
        verdict: Variation, roughness and whether both pass.
    """

    keys: tuple[str, ...]
    final_scores: tuple[float, ...]
    deviation: SeedDeviation
    verdict: VarianceVerdict


@dataclass(frozen=True)
class VarianceState:
    """Decisions of the variance measurement so far.

    Attributes:
        trainable: Number of the first trainable candidate; None before it is found.
        architecture: Architecture of this candidate.
        result: The result; None before all trainings ended.
    """

    trainable: int | None = None
    architecture: Architecture | None = None
    result: VarianceResult | None = None


def read_variance(study: StudyStore) -> VarianceState | None:
    """Read the state of a study's variance measurement; None before it."""
    return study.read(STATE, VarianceState)
