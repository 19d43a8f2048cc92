"""Selection of reference models with spread-out scores: train all briefly, remove crowded ones, train the rest."""

import numpy as np
from numpy.typing import ArrayLike

from nasproxy.errors import ConfigError
from nasproxy.statistics.missing import Floats, as_vector, as_vectors

MIN_REMAINING = 2
"""Minimum number of models that remain: the rule for a closest pair needs a third model."""
EPSILON = float(np.finfo(np.float32).eps)
"""Prevents division by zero when all values are equal."""


def remove_closest(accuracy: ArrayLike, latency_ms: ArrayLike | None, n_remove: int) -> list[int]:
    """Choose the models to remove so that the remaining ones are spread out.

    Accuracy and latency are scaled to [0, 1] once. Then, repeatedly, the member of the closest pair whose second
    neighbour is nearer is removed.

    Args:
        accuracy: Scores, shape (n_models,), without missing values.
        latency_ms: Latencies, same shape and order, without missing values; None uses accuracy only.
        n_remove: Number of models to remove; at least 2 models remain.

    Returns:
        Indices of the removed models, in order of removal.

    Raises:
        ValueError: The shapes differ, a value is missing or infinite, or `n_remove` is negative.

    Source: Filter of Vertex AI NAS (model selection).

    >>> remove_closest([0.0, 0.5, 0.6, 1.0], None, n_remove=1)
    [2]
    """
    if n_remove < 0:
        raise ValueError(f"n_remove must be at least 0, got {n_remove}: give a number of models")
    points = _scaled_points(accuracy, latency_ms)
    distances = np.sqrt(np.square(points[:, None, :] - points[None, :, :]).sum(axis=-1))
    np.fill_diagonal(distances, np.inf)
    remaining = list(range(len(points)))
    removed: list[int] = []
    while len(removed) < n_remove and len(remaining) > MIN_REMAINING:
        crowded = remaining[_most_crowded(distances[np.ix_(remaining, remaining)])]
        remaining.remove(crowded)
        removed.append(crowded)
    return removed


def removal_count(n_valid: int, n_invalid: int, *, per_iteration: int = 5, final: int = 10) -> int:
    """Compute the number of valid models to remove after one iteration; invalid models count as removed.

    Args:
        n_valid: Number of models with all scores.
        n_invalid: Number of models with missing scores.
        per_iteration: Number of models to remove per iteration.
        final: Number of models at the end.

    Returns:
        A count of at least 0 that leaves at least 2 valid models if there are as many.

    Raises:
        ConfigError: `per_iteration` or `final` is below 1.

    Source: Vertex AI NAS (model selection).

    >>> removal_count(28, 2)
    3
    """
    _check_plan(per_iteration, final)
    wanted = max(0, min(per_iteration, n_valid + n_invalid - final) - n_invalid)
    return min(wanted, max(0, n_valid - MIN_REMAINING))


def pool_sizes(start: int = 30, final: int = 10, per_iteration: int = 5) -> list[int]:
    """Compute the number of models of each iteration, from `start` down to `final`, if none fails.

    Raises:
        ConfigError: A number is below 1.

    >>> pool_sizes()
    [30, 25, 20, 15, 10]
    """
    _check_plan(per_iteration, final)
    if start < 1:
        raise ConfigError(f"selection must start with 1 model or more, got {start}: give a number like 30")
    sizes = [start]
    while sizes[-1] > final:
        sizes.append(max(final, sizes[-1] - per_iteration))
    return sizes


def cumulative_fractions(start: int = 30, final: int = 10, per_iteration: int = 5) -> list[float]:
    """Compute the fraction of full training, in (0, 1], that each iteration trains its models to.

    An iteration of K models adds 1/K of a training, so that it costs one full training; the last completes the
    training.

    Raises:
        ConfigError: A number is below 1, or the models would be fully trained before the last iteration.

    Source: Vertex AI NAS (model selection).

    >>> [round(fraction, 4) for fraction in cumulative_fractions()]
    [0.0333, 0.0733, 0.1233, 0.19, 1.0]
    """
    sizes = pool_sizes(start, final, per_iteration)
    fractions = np.cumsum([1.0 / size for size in sizes[:-1]]).tolist()
    if fractions and fractions[-1] >= 1.0:
        raise ConfigError(
            f"selection from {start} to {final} models must leave training for its last iteration, got "
            f"{fractions[-1]:.2f} trainings a model before it: start with fewer, or remove more than "
            f"{per_iteration} an iteration"
        )
    return [*fractions, 1.0]


def selection_cost(start: int = 30, final: int = 10, per_iteration: int = 5, *, is_resumed: bool = True) -> float:
    """Compute the cost of a selection in full trainings.

    Args:
        start: Number of models at the start.
        final: Number of models at the end.
        per_iteration: Number of models to remove per iteration.
        is_resumed: Whether trainings resume from their checkpoints; otherwise each iteration trains from scratch.

    Raises:
        ConfigError: A number is below 1, or the models would be fully trained before the last iteration.

    >>> round(selection_cost(), 6), round(selection_cost(is_resumed=False), 6)
    (12.1, 18.15)
    """
    fractions = cumulative_fractions(start, final, per_iteration)
    trained = np.diff(fractions, prepend=0.0) if is_resumed else fractions
    return float(np.dot(pool_sizes(start, final, per_iteration), trained))


def _check_plan(per_iteration: int, final: int) -> None:
    for name, value in (("per_iteration", per_iteration), ("final", final)):
        if value < 1:
            raise ConfigError(f"selection.{name} must be at least 1, got {value}: give a number of models")


def _scaled_points(accuracy: ArrayLike, latency_ms: ArrayLike | None) -> Floats:
    """Scale accuracy and latency to points in [0, 1], shape (n_models, dimensions)."""
    axes = (
        [as_vector("accuracy", accuracy)]
        if latency_ms is None
        else as_vectors(accuracy=accuracy, latency_ms=latency_ms)
    )
    points = np.stack(axes, axis=1)
    if np.isnan(points).any():
        raise ValueError("accuracy and latency_ms must have no missing values, got NaN: leave these models out first")
    if not points.size:
        return points
    return np.asarray((points - points.min(axis=0)) / (np.ptp(points, axis=0) + EPSILON), dtype=np.float64)


def _most_crowded(distances: Floats) -> int:
    """Find the member of the closest pair whose second neighbour is nearer; the later one on ties."""
    nearest_two = np.partition(distances, 1, axis=1)
    first = int(nearest_two[:, 0].argmin())
    other = int(distances[first].argmin())
    return first if nearest_two[first, 1] < nearest_two[other, 1] else other
