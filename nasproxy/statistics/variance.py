"""Variation of scores between seeds, and roughness of learning curves."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from nasproxy.errors import ConfigError, TooFewTrialsError
from nasproxy.statistics.missing import Floats, as_vector, as_vectors, keep_present

SECTIONS = (0.0, 0.7, 0.9, 1.0)
"""Boundaries of the sections of a training in which slopes are sampled, more densely towards the end."""
POINTS_PER_SECTION = 10
CONFIDENCE = 0.95

Curve = tuple[ArrayLike, ArrayLike]
"""Steps and scores of a learning curve, both of shape (checks,)."""


@dataclass(frozen=True)
class SeedDeviation:
    """Standard deviation of one architecture's score over seeds.

    Attributes:
        sd: Sample standard deviation (ddof 1), in units of the score.
        low: Lower end of its 95 % interval.
        high: Upper end of its 95 % interval.
        n: Number of seeds.
    """

    sd: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class VarianceVerdict:
    """Whether the variance of trainings is low enough to rank models.

    Attributes:
        variation: Coefficient of variation of the final scores; None if undefined.
        roughness: Mean roughness of the curves, lower is smoother; None if undefined for all.
        has_low_variation: Whether the variation is defined and within its limit.
        is_smooth: Whether the roughness of every curve is defined and their mean is within its limit.
        advice: Sentences of advice; empty if both limits hold.
    """

    variation: float | None
    roughness: float | None
    has_low_variation: bool
    is_smooth: bool
    advice: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        """Whether both variation and roughness are within their limits."""
        return self.has_low_variation and self.is_smooth


def coefficient_of_variation(final_scores: ArrayLike) -> float | None:
    """Compute the population standard deviation of the scores divided by the absolute value of their mean.

    The absolute value makes the coefficient defined for negative scores, such as a negated loss.

    Args:
        final_scores: Last score of each seed, shape (n_seeds,); NaN is ignored.

    Returns:
        The coefficient, at least 0; None for fewer than 2 scores or a mean of zero.

    Raises:
        ValueError: The scores are not one-dimensional, or one is infinite.

    Source: Formula of Vertex AI NAS (variance measurement), which divides by the signed mean.

    >>> round(coefficient_of_variation([0.1, 0.2, 0.3, 0.4, 0.5]), 2)
    0.47
    """
    scores = keep_present("final_scores", final_scores)
    if scores.size < 2 or scores.mean() == 0.0:
        return None
    return float(scores.std() / abs(scores.mean()))


def roughness(steps: ArrayLike, scores: ArrayLike) -> float | None:
    """Compute the roughness of a learning curve; 0 if it never decreases.

    Steps and scores are scaled to [0, 1] and interpolated linearly. Slopes are sampled at 10 evenly spaced points,
    starting at the left end, of each of the sections [0, 0.7), [0.7, 0.9) and [0.9, 1); at a check, the slope to its
    right counts. Roughness is the sum of the negative slopes, not weighted by the spacing. It increases with the
    number of checks: compare only curves with equally many checks.

    Args:
        steps: Finished optimizer steps of each check, shape (checks,), increasing.
        scores: Scores, same shape, higher is better; NaN is ignored.

    Returns:
        Absolute value of the sum, at least 0; None for a flat curve or fewer than 2 checks.

    Raises:
        ValueError: The shapes differ, the steps do not increase, or a value is infinite.

    Source: Smoothness of Vertex AI NAS (variance measurement), in float64 instead of float32.

    >>> round(roughness([0, 70, 90, 100], [0.0, 1.0, 0.5, 1.0]), 3)
    25.0
    """
    x, y = as_vectors(steps=steps, scores=scores)
    if not (np.diff(x) > 0).all():
        raise ValueError(f"steps must increase from check to check, got {x.tolist()}: give checks in order")
    x, y = x[~np.isnan(y)], y[~np.isnan(y)]
    if y.size < 2 or y.min() == y.max():
        return None
    x, y = (x - x[0]) / (x[-1] - x[0]), (y - y.min()) / (y.max() - y.min())
    slopes = np.diff(y) / np.diff(x)
    sampled = slopes[np.searchsorted(x, _sample_points(), side="right") - 1]
    return float(abs(sampled[sampled < 0].sum()))


def seed_deviation(scores: ArrayLike) -> SeedDeviation:
    """Compute the standard deviation of one architecture's score over seeds, with its 95 % interval.

    Args:
        scores: Scores at one step, shape (n_seeds,); NaN is ignored.

    Raises:
        TooFewTrialsError: There are fewer than 2 scores.
        ValueError: The scores are not one-dimensional, or one is infinite.

    Source: (n - 1) s^2 / sigma^2 is chi-square with n - 1 degrees of freedom for normal scores.
    """
    known = keep_present("scores", scores)
    if known.size < 2:
        raise TooFewTrialsError(
            f"a seed deviation needs the scores of 2 seeds, got {known.size}: train the model with more seeds"
        )
    freedom = known.size - 1
    is_constant = known.min() == known.max()
    sd = 0.0 if is_constant else float(known.std(ddof=1))  # the mean of equal scores may have a rounding error
    tail = (1 - CONFIDENCE) / 2
    low, high = (sd * math.sqrt(freedom / stats.chi2.ppf(share, freedom)) for share in (1 - tail, tail))
    return SeedDeviation(sd=sd, low=low, high=high, n=known.size)


def judge_variance(
    curves: Sequence[Curve], *, max_variation: float = 0.4, max_roughness: float = 10.0
) -> VarianceVerdict:
    """Compare the variation and roughness of one architecture's learning curves with their limits.

    Args:
        curves: Steps and scores of each seed, in order of the steps.
        max_variation: Limit of the coefficient of variation of the final scores.
        max_roughness: Limit of the mean roughness.

    Raises:
        ConfigError: A limit is not positive.
        ValueError: A curve's shapes differ, its steps do not increase, or a value is infinite.

    Source: Measures and limits of Vertex AI NAS (variance measurement).
    """
    _check_limit("max_variation", max_variation)
    _check_limit("max_roughness", max_roughness)
    variation = coefficient_of_variation([_final_score(scores) for _, scores in curves])
    measured = [roughness(steps, scores) for steps, scores in curves]
    judged = [value for value in measured if value is not None]
    mean_roughness = float(np.mean(judged)) if judged else None
    n_unjudged = len(measured) - len(judged)
    return VarianceVerdict(
        variation=variation,
        roughness=mean_roughness,
        has_low_variation=variation is not None and variation <= max_variation,
        is_smooth=mean_roughness is not None and not n_unjudged and mean_roughness <= max_roughness,
        advice=(
            *_variation_advice(variation, max_variation),
            *_roughness_advice(mean_roughness, max_roughness),
            *_unjudged_advice(n_unjudged, len(curves)),
        ),
    )


def _sample_points() -> Floats:
    sections = itertools.pairwise(SECTIONS)
    return np.concatenate([np.linspace(a, b, POINTS_PER_SECTION, endpoint=False) for a, b in sections])


def _final_score(scores: ArrayLike) -> float:
    """Return the last score of a curve, NaN if it has none."""
    vector = as_vector("scores", scores)
    return float(vector[-1]) if vector.size else math.nan


def _check_limit(name: str, value: float) -> None:
    if not value > 0:
        raise ConfigError(f"{name} must be above 0, got {value}: leave it out for the usual limit")


def _variation_advice(variation: float | None, limit: float) -> list[str]:
    if variation is None:
        return ["The variation is undefined: give the final scores of 2 or more seeds whose mean is not 0."]
    if variation <= limit:
        return []
    return [
        f"Final scores of one architecture differ between seeds: coefficient of variation {variation:.2f}, limit "
        f"{limit:g} (variance.max_variation).",
        "Decay the learning rate to 0 by a cosine schedule over exactly the steps of this training.",
        "Average the weights over the last steps (EMA or SWA), and validate the averaged weights.",
        "Validate on more data: a small validation set adds noise.",
        "Train for more steps: scores differ most between seeds early in training.",
    ]


def _roughness_advice(value: float | None, limit: float) -> list[str]:
    if value is None or value <= limit:
        return []
    return [
        f"Learning curves fluctuate: roughness {value:.1f}, limit {limit:g} (variance.max_roughness).",
        "Decay the learning rate by a cosine schedule per step instead of per epoch, or start it lower.",
        "Average the weights (EMA or SWA), or validate on more data.",
        "Check less often: every check adds its noise to this measure.",
    ]


def _unjudged_advice(n_unjudged: int, n_curves: int) -> list[str]:
    if not n_unjudged:
        return []
    return [
        f"{n_unjudged} of {n_curves} learning curves are flat or have fewer than 2 checks: check that the model "
        "learns at all, train for more steps, or check more often."
    ]
