"""State of the variance measurement, as it is stored."""

from dataclasses import dataclass

from nasproxy.statistics.variance import SeedDeviation, VarianceVerdict
from nasproxy.trials.spec import Architecture


@dataclass(frozen=True)
class VarianceResult:
    """What was measured.

    Attributes:
        keys: Trials that ended well.
        final_scores: Their last scores, in the same order.
        deviation: Standard deviation over seeds, with interval.
        verdict: The judgement.
    """

    keys: tuple[str, ...]
    final_scores: tuple[float, ...]
    deviation: SeedDeviation
    verdict: VarianceVerdict


@dataclass(frozen=True)
class VarianceState:
    """Decisions so far.

    Attributes:
        trainable: The first candidate that trained, by number.
        architecture: That candidate.
        result: The measurement, once all copies ended.
    """

    trainable: int | None = None
    architecture: Architecture | None = None
    result: VarianceResult | None = None
