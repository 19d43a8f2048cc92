"""Comparison of random reference models with the user's present model: does the space have better ones?"""

import math
from dataclasses import dataclass
from enum import Enum
from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special, stats

from nasproxy.errors import TooFewTrialsError
from nasproxy.statistics.missing import keep_present
from nasproxy.statistics.variance import SeedDeviation

CONFIDENCE = 0.95
GRID = 400
"""Quantiles over which each of the two distributions of the simultaneous comparison is averaged."""
UNUSUAL = 0.05
"""Probability from which on down an event counts as unusual."""


class BaselineFinding(str, Enum):
    """What the reference models show of the search space."""

    BETTER = "better models exist"
    UNCLEAR = "no model better by more than seed noise"
    BELOW = "all models below the baseline"


@dataclass(frozen=True)
class BaselineComparison:
    """Reference models compared with the baseline model.

    Attributes:
        n: Number of reference models, without the baseline model itself.
        better: Number of them with a better score.
        clearly_better: Number of them that are better by more than `noise`; None without a measured seed noise.
        clearly_worse: Number of them that are worse by more than `noise`; None without a measured seed noise.
        noise: Largest difference, in units of the score, that seed noise explains with 95 % confidence over all n
            comparisons; None if it is not measured.
        lead: Score of the best of them minus that of the baseline, in units of the score, higher is better.
        share_low: One-sided 95 % lower bound of the share of the space that scores better (by more than `noise`, if it
            is known); None if the references are no random sample.
        share_high: One-sided 95 % upper bound of this share.
    """

    n: int
    better: int
    clearly_better: int | None
    clearly_worse: int | None
    noise: float | None
    lead: float
    share_low: float | None
    share_high: float | None

    @property
    def finding(self) -> BaselineFinding:
        """What the comparison shows."""
        if (self.better if self.clearly_better is None else self.clearly_better) > 0:
            return BaselineFinding.BETTER
        if self.clearly_worse is not None and self.clearly_worse < self.n:
            return BaselineFinding.UNCLEAR
        return BaselineFinding.BELOW

    @property
    def message(self) -> str:
        """The finding with its evidence, and advice if the space may lack better models."""
        parts = (self._count, self._assess, self._bound, self._advise)
        return " ".join(filter(None, (part() for part in parts)))

    def _count(self) -> str:
        models = "random architectures" if self.share_high is not None else "reference models"
        counted = f"{self.better or 'None'} of {self.n} {models} {'scores' if self.better < 2 else 'score'} better"
        if self.noise is None:
            return f"{counted} than the baseline. The seed noise is not measured: small differences may be chance."
        clearly = f"{self.clearly_better or 'none'} by more than seed noise explains (a difference of {self.noise:.2g})"
        if self.better:
            return f"{counted} than the baseline, {clearly}."
        distance = "within" if self.finding is BaselineFinding.UNCLEAR else "more than"
        return (
            f"{counted} than the baseline; the best is {-self.lead:.2g} worse, {distance} what seed noise explains "
            f"({self.noise:.2g})."
        )

    def _assess(self) -> str:
        if self.finding is BaselineFinding.BETTER:
            return "This is a good sign: the space has better models."
        if self.finding is BaselineFinding.UNCLEAR:
            return "This does not show that the space has better models."
        if self.share_high is None:
            return ""
        chance = 1 / (self.n + 1)
        usual = "unusual" if chance <= UNUSUAL else "not unusual"
        return (
            f"A random architecture would be better than {self.n} others in 1 of {self.n + 1} cases, so this alone is "
            f"{usual} for a model of the space."
        )

    def _bound(self) -> str:
        if self.share_low is None or self.share_high is None:
            return "The references were not drawn at random, so that shares of the space are not known."
        better = "is better" if self.noise is None else "is better by more than that"
        if self.finding is BaselineFinding.BETTER:
            return f"At least {format_share(self.share_low)} of the space {better} (95 % confidence)."
        return f"At most {format_share(self.share_high)} of the space {better} (95 % confidence)."

    def _advise(self) -> str:
        if self.finding is BaselineFinding.BETTER:
            return ""
        return (
            "Revisit the space before a search: widen the choices in which you expect a gain, or confirm with more "
            "reference models that better ones exist."
        )


def format_share(share: float) -> str:
    """Format a share as a percentage with two digits, or below 1 % with one.

    >>> format_share(0.2589), format_share(0.00512)
    ('26 %', '0.5 %')
    """
    return f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.1g} %"


def compare_with_baseline(
    scores: ArrayLike, baseline: float, *, deviation: SeedDeviation | None, is_random: bool
) -> BaselineComparison:
    """Compare reference models with the baseline model, all trained once.

    Args:
        scores: Full-training scores of the reference models, shape (n_models,), higher is better; NaN is ignored.
        baseline: The baseline model's score.
        deviation: Standard deviation over seeds of a score; None if it is not measured.
        is_random: Whether the references are a random sample of the space, so that their share bounds that of the
            space.

    Raises:
        TooFewTrialsError: There are no scores.
        ValueError: The scores are not one-dimensional, or one is infinite.

    Source: Clopper and Pearson (1934) for the share.
    """
    known = keep_present("scores", scores)
    if not known.size:
        raise TooFewTrialsError("a comparison with the baseline needs a reference score, got none: train references")
    noise = None if deviation is None else compute_noise_difference(deviation, known.size)
    ahead = known - baseline
    counted = int((ahead > (noise or 0.0)).sum())
    bounds = stats.binomtest(counted, known.size).proportion_ci(2 * CONFIDENCE - 1, method="exact")
    return BaselineComparison(
        n=known.size,
        better=int((ahead > 0).sum()),
        clearly_better=None if noise is None else counted,
        clearly_worse=None if noise is None else int((-ahead > noise).sum()),
        noise=noise,
        lead=float(ahead.max()),
        share_low=float(bounds.low) if is_random else None,
        share_high=float(bounds.high) if is_random else None,
    )


def compute_noise_difference(deviation: SeedDeviation, n: int) -> float:
    """Compute the largest lead over the baseline that seed noise explains, over n models that are equal to it.

    All n leads exceed it by chance with a probability of 5 % or less, for normal noise of equal size. They share the
    baseline's score, and the standard deviation is estimated from a few seeds.

    Args:
        deviation: Standard deviation over seeds of a score.
        n: Number of models that are compared with the baseline.

    Returns:
        The difference, at least 0, in units of the score.

    Source: Dunnett (1955), one-sided, with one training each.
    """
    return math.sqrt(2) * deviation.sd * find_dunnett_quantile(n, deviation.n - 1)


@cache
def find_dunnett_quantile(n: int, freedom: int) -> float:
    """Find the one-sided 95 % quantile of the largest of n comparisons with one control, all groups of equal size.

    Args:
        n: Number of comparisons.
        freedom: Degrees of freedom of the standard deviation.

    >>> round(find_dunnett_quantile(9, 5), 2)
    3.3
    """
    places = (np.arange(GRID) + 0.5) / GRID
    control = special.ndtri(places)[:, None]
    spread = np.sqrt(stats.chi2.ppf(places, freedom) / freedom)

    def fall_short(quantile: float) -> float:
        return float((special.ndtr(control + math.sqrt(2) * quantile * spread) ** n).mean()) - CONFIDENCE

    return float(optimize.brentq(fall_short, 0.0, 1000.0))
