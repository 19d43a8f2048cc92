"""Variation of scores between seeds, noise relative to the differences between models, roughness of curves."""

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
ROUGHNESS_POINTS = 10
"""Points of a curve between which roughness counts falls, however many checks it has."""
LEAST_MODELS = 3
"""Models whose scores give a standard deviation between models."""
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
        variation: Coefficient of variation of the final scores; None where the mean does not allow it.
        noise_ratio: Standard deviation over seeds divided by that between models; None if it is not known.
        roughness: Mean roughness of the curves, 0 for curves that never fall; None if undefined for all.
        smoothness: Mean of Vertex AI NAS's measure of the curves, lower is smoother; None if undefined for all.
        has_low_noise: Whether the variation and the noise ratio, where known, are within their limits.
        is_learning: Whether the score of every curve changes from check to check.
        noise_advice: Sentences of advice on the seed noise; empty if its limits hold.
        curve_advice: The same on the curves: their roughness, and curves that are flat.
    """

    variation: float | None
    noise_ratio: float | None
    roughness: float | None
    smoothness: float | None
    has_low_noise: bool
    is_learning: bool
    noise_advice: tuple[str, ...] = ()
    curve_advice: tuple[str, ...] = ()

    @property
    def advice(self) -> tuple[str, ...]:
        """All advice; empty if all limits hold."""
        return (*self.noise_advice, *self.curve_advice)

    @property
    def is_good(self) -> bool:
        """Whether models can be ranked: the seed noise is low, and the model learns."""
        return self.has_low_noise and self.is_learning


def coefficient_of_variation(final_scores: ArrayLike) -> float | None:
    """Compute the population standard deviation of the scores divided by the absolute value of their mean.

    It says something only of scores with a natural zero: it is undefined for scores of different signs.

    Args:
        final_scores: Last score of each seed, shape (n_seeds,); NaN is ignored.

    Returns:
        The coefficient, at least 0; None for fewer than 2 scores, or if they do not all have the same sign.

    Raises:
        ValueError: The scores are not one-dimensional, or one is infinite.

    Source: Formula of Vertex AI NAS (variance measurement), which divides by the signed mean.

    >>> round(coefficient_of_variation([0.1, 0.2, 0.3, 0.4, 0.5]), 2)
    0.47
    """
    scores = keep_present("final_scores", final_scores)
    if scores.size < 2 or not ((scores > 0).all() or (scores < 0).all()):
        return None
    return float(scores.std() / abs(scores.mean()))


def roughness(steps: ArrayLike, scores: ArrayLike) -> float | None:
    """Compute the roughness of a learning curve: how much it falls on its way, relative to its range.

    The curve is read at ten evenly spaced points of its steps (the first and the last among them), by linear
    interpolation. Roughness is the sum of the falls from point to point, divided by the range of these values: 0 if the
    curve never falls, 1 if it loses its whole range once. It does not grow with the number of checks.

    Args:
        steps: Finished optimizer steps of each check, shape (checks,), increasing.
        scores: Scores, same shape, higher is better; NaN is ignored.

    Returns:
        The roughness, at least 0; None for a flat curve or fewer than 2 checks.

    Raises:
        ValueError: The shapes differ, the steps do not increase, or a value is infinite.

    >>> roughness([0, 50, 100], [0.0, 1.0, 0.5]), roughness([0, 50, 100], [0.0, 0.5, 1.0])
    (0.5, 0.0)
    """
    x, y = _read_curve(steps, scores)
    if y.size < 2:
        return None
    points = np.interp(np.linspace(x[0], x[-1], ROUGHNESS_POINTS), x, y)
    extent = points.max() - points.min()
    return None if extent == 0.0 else float(np.maximum(points[:-1] - points[1:], 0.0).sum() / extent)


def smoothness(steps: ArrayLike, scores: ArrayLike) -> float | None:
    """Compute the roughness of a learning curve; 0 if it never decreases.

    Steps and scores are scaled to [0, 1] and interpolated linearly. Slopes are sampled at 10 evenly spaced points,
    starting at the left end, of each of the sections [0, 0.7), [0.7, 0.9) and [0.9, 1); at a check, the slope to its
    right counts. Smoothness is the sum of the negative slopes, not weighted by the spacing. It increases with the
    number of checks: compare only curves with equally many checks.

    Args:
        steps: Finished optimizer steps of each check, shape (checks,), increasing.
        scores: Scores, same shape, higher is better; NaN is ignored.

    Returns:
        Absolute value of the sum, at least 0; None for a flat curve or fewer than 2 checks.

    Raises:
        ValueError: The shapes differ, the steps do not increase, or a value is infinite.

    Source: Smoothness of Vertex AI NAS (variance measurement), in float64 instead of float32.

    >>> round(smoothness([0, 70, 90, 100], [0.0, 1.0, 0.5, 1.0]), 3)
    25.0
    """
    x, y = _read_curve(steps, scores)
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
    curves: Sequence[Curve],
    *,
    model_scores: ArrayLike = (),
    max_variation: float = 0.4,
    max_noise_ratio: float = 1.0,
    max_roughness: float = 0.5,
) -> VarianceVerdict:
    """Compare the seed noise and the roughness of one architecture's learning curves with their limits.

    Args:
        curves: Steps and scores of each seed, in order of the steps; higher scores are better.
        model_scores: Final scores of different models, shape (n_models,), if at least 3 are known.
        max_variation: Limit of the coefficient of variation of the final scores.
        max_noise_ratio: Limit of the standard deviation over seeds divided by that between models.
        max_roughness: Limit of the mean roughness, beyond which advice is given.

    Raises:
        ConfigError: A limit is not positive.
        ValueError: A curve's shapes differ, its steps do not increase, or a value is infinite.

    Source: Coefficient of variation after Vertex AI NAS (variance measurement).
    """
    for name, limit in (
        ("max_variation", max_variation),
        ("max_noise_ratio", max_noise_ratio),
        ("max_roughness", max_roughness),
    ):
        _check_limit(name, limit)
    final = [_final_score(scores) for _, scores in curves]
    variation, ratio = coefficient_of_variation(final), compute_noise_ratio(final, model_scores)
    mean_roughness = _average([roughness(*curve) for curve in curves])
    n_flat = sum(_is_flat(scores) for _, scores in curves)
    return VarianceVerdict(
        variation=variation,
        noise_ratio=ratio,
        roughness=mean_roughness,
        smoothness=_average([smoothness(*curve) for curve in curves]),
        has_low_noise=(variation is None or variation <= max_variation) and (ratio is None or ratio <= max_noise_ratio),
        is_learning=n_flat == 0,
        noise_advice=tuple(_noise_advice(variation, max_variation, ratio, max_noise_ratio)),
        curve_advice=(*_roughness_advice(mean_roughness, max_roughness), *_flat_advice(n_flat, len(curves))),
    )


def compute_noise_ratio(seed_scores: ArrayLike, model_scores: ArrayLike) -> float | None:
    """Compute the standard deviation over seeds divided by that between models; near 1, ranks are mostly noise.

    Args:
        seed_scores: Final scores of one model, one for each seed; NaN is ignored.
        model_scores: Final scores of different models; NaN is ignored.

    Returns:
        The ratio; None for fewer than 2 seeds or 3 models, or if all models have the same score.
    """
    seeds, models = keep_present("seed_scores", seed_scores), keep_present("model_scores", model_scores)
    if seeds.size < 2 or models.size < LEAST_MODELS or models.min() == models.max():
        return None
    return float(seeds.std(ddof=1) / models.std(ddof=1))


def _read_curve(steps: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """Return the steps and scores of a curve without those that are NaN.

    Raises:
        ValueError: The shapes differ, the steps do not increase, or a value is infinite.
    """
    x, y = as_vectors(steps=steps, scores=scores)
    if not (np.diff(x) > 0).all():
        raise ValueError(f"steps must increase from check to check, got {x.tolist()}: give checks in order")
    return x[~np.isnan(y)], y[~np.isnan(y)]


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


def _average(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _is_flat(scores: ArrayLike) -> bool:
    """Return whether a curve of at least 2 checks never changes: its model does not learn."""
    known = keep_present("scores", scores)
    return known.size > 1 and bool(known.min() == known.max())


def _noise_advice(variation: float | None, max_variation: float, ratio: float | None, max_ratio: float) -> list[str]:
    found = []
    if variation is not None and variation > max_variation:
        found.append(
            f"Final scores of one architecture differ between seeds: coefficient of variation {variation:.2f}, limit "
            f"{max_variation:g} (variance.max_variation)."
        )
    if ratio is not None and ratio > max_ratio:
        found.append(
            f"Seeds change the score of one architecture nearly as much as architectures differ: ratio of the standard "
            f"deviations {ratio:.2f}, limit {max_ratio:g} (variance.max_noise_ratio)."
        )
    if not found:
        return []
    return [
        *found,
        "Decay the learning rate to 0 by a cosine schedule over exactly the steps of this training.",
        "Average the weights over the last steps (EMA or SWA), and validate the averaged weights.",
        "Validate on more data: a small validation set adds noise.",
        "Train for more steps: scores differ most between seeds early in training.",
    ]


def _roughness_advice(value: float | None, limit: float) -> list[str]:
    if value is None or value <= limit:
        return []
    return [
        f"Learning curves get worse on their way by {value:.2f} times their range, limit {limit:g} "
        f"(variance.max_roughness); this alone does not stop the study.",
        "Decay the learning rate by a cosine schedule per step instead of per epoch, or start it lower.",
        "Average the weights (EMA or SWA), or validate on more data.",
    ]


def _flat_advice(n_flat: int, n_curves: int) -> list[str]:
    if not n_flat:
        return []
    return [f"{n_flat} of {n_curves} learning curves are flat: check that the model learns, and train for more steps."]
