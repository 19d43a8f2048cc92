"""Simulated candidates that rank as the reference models do: a smoothed empirical copula.

Each simulated population draws the reference models anew, with replacement, and each of its candidates lies near one of
them: in normal scores, a weighted sum of the model's and of normal noise with the models' own correlations. The noise
smooths the ranks, the resampling shows what is not known from so few models.

Source: the smoothed bootstrap, Silverman and Young (1987).
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from nasproxy.statistics.missing import Floats

SMOOTHING = 1.06
"""Bandwidth of a kernel estimate of a normal density, in standard deviations, times the fifth root of the number."""


@dataclass(frozen=True, eq=False)
class SimulatedPopulation:
    """A population of models.

    Attributes:
        centres: Normal scores of the resampled reference models, shape (n_models, n_columns).
        bandwidth: Standard deviation of the noise, in (0, 1); that of all scores stays 1.
    """

    centres: Floats
    bandwidth: float

    def draw(self, count: int, random: np.random.Generator) -> Floats:
        """Draw candidates.

        Returns:
            Their scores, shape (count, n_columns), on the scale of normal scores.
        """
        near = self.centres[random.integers(len(self.centres), size=count)]
        variances, directions = np.linalg.eigh(np.cov(self.centres, rowvar=False, bias=True))
        spread = np.sqrt(np.maximum(variances, 0.0))[:, None] * directions.T
        noise = random.standard_normal((count, len(spread))) @ spread
        scores: Floats = math.sqrt(1 - self.bandwidth**2) * near + self.bandwidth * noise
        return scores

    def share_above(self, values: Floats, column: int) -> Floats:
        """Compute the share of all models whose score in a column exceeds each value."""
        centres = self.centres[:, column]
        spread = self.bandwidth * max(float(centres.std()), 1e-9)
        distance = (values[..., None] - math.sqrt(1 - self.bandwidth**2) * centres) / spread
        shares: Floats = special.ndtr(-distance).mean(axis=-1)
        return shares


def normal_scores(scores: Floats) -> Floats:
    """Compute normal scores of each column from average ranks, shape (n_models, n_columns)."""
    ranks: Floats = stats.norm.ppf((stats.rankdata(scores, axis=0) - 0.5) / len(scores))
    return ranks


def resample(scores: Floats, random: np.random.Generator) -> SimulatedPopulation:
    """Make a population from reference models drawn with replacement.

    Args:
        scores: Normal scores of the reference models, shape (n_models, n_columns).
        random: Generator.
    """
    n = len(scores)
    return SimulatedPopulation(scores[random.integers(n, size=n)], min(0.9, SMOOTHING * n**-0.2))
