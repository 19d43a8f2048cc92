"""What is known of how tau rises with the training fraction: a prior, and its update by curves of few models."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nasproxy.statistics.fisher import WIDE
from nasproxy.statistics.missing import Floats
from nasproxy.statistics.tau_prior import PRIOR_VARIANCE, prior_mean

CENTRE = -2.0
"""Logarithm of the training fraction at which level and slope are independent: 14 % of training."""
SLOPE, SLOPE_VARIANCE = 0.35, 0.04
"""Prior mean and variance of the slope of atanh(tau) in the logarithm of the fraction."""
TASK_VARIANCE = 0.1
"""Variance of the level of a proxy task around that of the references' own curves."""
DIGITS = 1
"""Decimals of an updated level and slope, whose standard deviations are above 0.1; similar studies share a choice."""
LATEST = 0.5
"""Largest fraction at which the references' own curves count: later scores are nearly the final ones."""


@dataclass(frozen=True)
class TauCurve:
    """A straight line of atanh(tau) in the logarithm of the training fraction, with normal level and slope.

    Attributes:
        level: Mean of atanh(tau) after 14 % of training.
        slope: Mean of the slope.
        variances: Variance of level, covariance, variance of slope.
        task_variance: Variance of the level of a proxy task around the curve.
    """

    level: float = prior_mean(math.exp(CENTRE))
    slope: float = SLOPE
    variances: tuple[float, float, float] = (PRIOR_VARIANCE, 0.0, SLOPE_VARIANCE)
    task_variance: float = 0.0

    def draw(self, fractions: Floats, number: int, random: np.random.Generator, *, best_of: int = 1) -> Floats:
        """Draw true values of atanh(tau), shape (number, fractions).

        Args:
            fractions: Fractions of training, shape (looks,).
            number: Number of curves.
            random: Source of randomness.
            best_of: Proxy tasks whose best level is drawn.
        """
        level, both, slope = self.variances
        lines = random.multivariate_normal([self.level, self.slope], [[level, both], [both, slope]], number)
        levels = random.standard_normal((number, best_of))
        if self.task_variance:
            offset = math.sqrt(self.task_variance) * levels.max(axis=1)
        else:  # the line is that of the first task
            levels[:, 0] = (lines[:, 0] - self.level) / math.sqrt(level)
            offset = math.sqrt(level) * (levels.max(axis=1) - levels[:, 0])
        return np.asarray(lines[:, :1] + offset[:, None] + lines[:, 1:] * (np.log(fractions) - CENTRE))

    def update(self, z: Sequence[float], fractions: Sequence[float], models: int) -> "TauCurve":
        """Update the curve by the references' own checks against their final scores.

        Args:
            z: Fisher's z of tau at each check.
            fractions: Fraction of training at each check, increasing; those beyond one half do not count.
            models: Number of models that z was measured on.

        Returns:
            The posterior curve, around which the levels of proxy tasks vary.

        Source: Bayesian linear regression; noise of variance 0.48 / (n - 6), half of it independent at each check, the
            rest with correlation f / g between fractions f < g.
        """
        used = [(value, fraction) for value, fraction in zip(z, fractions, strict=True) if fraction <= LATEST]
        if not used:
            return self
        values, places = (np.array(each) for each in zip(*used, strict=True))
        logs = np.log(places)
        waning = np.exp(-np.abs(logs[:, None] - logs[None, :]))
        noise = WIDE.sd(models) ** 2 * (0.5 * waning + 0.5 * np.eye(logs.size))
        design = np.column_stack([np.ones(logs.size), logs - CENTRE])
        level, both, slope = self.variances
        prior = np.linalg.inv(np.array([[level, both], [both, slope]]))
        weighted = np.linalg.solve(noise, design).T
        posterior = np.linalg.inv(prior + weighted @ design)
        mean = posterior @ (prior @ np.array([self.level, self.slope]) + weighted @ values)
        return TauCurve(
            round(float(mean[0]), DIGITS),
            round(float(mean[1]), DIGITS),
            (float(posterior[0, 0]), float(posterior[0, 1]), float(posterior[1, 1])),
            TASK_VARIANCE,
        )
