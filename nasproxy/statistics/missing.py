"""Arrays of scores in which NaN marks missing values."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def as_vector(name: str, values: ArrayLike) -> Floats:
    """Convert values to a float64 vector; NaN marks missing ones.

    Args:
        name: Name of the values, for the error message.
        values: Shape (n,), finite or NaN.

    Raises:
        ValueError: The values are not one-dimensional, or one is infinite.
    """
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {vector.shape}: give one value a model")
    if np.isinf(vector).any():
        raise ValueError(f"{name} must be finite, or NaN where missing, got an infinite value: give NaN instead")
    return vector


def as_vectors(**named_values: ArrayLike) -> list[Floats]:
    """Convert values of the same models to vectors of equal length.

    Raises:
        ValueError: Values are not one-dimensional or infinite, or the lengths differ.
    """
    vectors = [as_vector(name, values) for name, values in named_values.items()]
    if len({vector.size for vector in vectors}) > 1:
        lengths = ", ".join(f"{name} {v.size}" for name, v in zip(named_values, vectors, strict=True))
        raise ValueError(f"expected values of one length, got {lengths}: give NaN where a value is missing")
    return vectors


def keep_present(name: str, values: ArrayLike) -> Floats:
    """Return the values that are not missing, in order.

    Raises:
        ValueError: The values are not one-dimensional, or one is infinite.
    """
    vector = as_vector(name, values)
    return vector[~np.isnan(vector)]
