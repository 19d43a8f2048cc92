"""Vectorized Kendall's tau-b of many rows of scores, from the signs of pairs of models."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from nasproxy.statistics.missing import Floats, as_vector

Signs = NDArray[np.int8]
MOST_BY_PAIRS = 1000
"""Number of models above which sorting each row is faster than comparing all pairs."""


def kendall_taus(scores: ArrayLike, reference: ArrayLike) -> Floats:
    """Compute Kendall's tau-b between each row of scores and the reference scores.

    Each row uses the models with both scores. Up to 1,000 models, all rows are compared pair by pair at once; above,
    each row is sorted.

    Args:
        scores: Scores, shape (rows, n_models), higher is better; NaN if missing.
        reference: Full-training scores, shape (n_models,), same order; NaN if missing.

    Returns:
        Tau-b, shape (rows,); NaN if one side is constant or fewer than 2 models have both scores.

    Raises:
        ValueError: The shapes do not match, or a score is infinite.

    Source: Kendall (1945).

    >>> kendall_taus([[1, 2, 3], [3, 1, 2], [5, 5, 5]], [10, 20, 30]).round(3).tolist()
    [1.0, -0.333, nan]
    """
    table, known = keep_complete(scores, reference)
    if known.size > MOST_BY_PAIRS:
        return np.array([_sorted_tau(row, known) for row in table])
    concordance = np.zeros(len(table))
    untied = np.zeros(len(table))
    for i in range(known.size - 1):  # one model at a time: all pairs at once would need too much memory
        signs = sign_differences(table[:, i + 1 :], table[:, i : i + 1])
        concordance += signs @ sign_differences(known[i + 1 :], known[i]).astype(np.float64)
        untied += np.count_nonzero(signs, axis=1)
    return tau_b(concordance, untied, _untied_in_reference(table, known))


def _sorted_tau(row: Floats, reference: Floats) -> float:
    """Compute tau-b of one row on the models with both scores; NaN if undefined."""
    is_known = ~np.isnan(row)
    return float(stats.kendalltau(row[is_known], reference[is_known], method="asymptotic").statistic)


def tau_b(concordance: Floats, untied_in_scores: Floats, untied_in_reference: Floats) -> Floats:
    """Compute tau-b from counts of pairs; NaN if all pairs are tied on one side.

    Args:
        concordance: Concordant minus discordant pairs, any shape.
        untied_in_scores: Pairs that are not tied in the scores, broadcastable.
        untied_in_reference: Pairs that are not tied in the reference, broadcastable.
    """
    pairs = np.sqrt(untied_in_scores * untied_in_reference)  # root of the product: exact if there are no ties
    taus: Floats = np.divide(concordance, pairs, out=np.full(concordance.shape, np.nan), where=pairs > 0)
    return taus


def sign_pairs(scores: Floats) -> Floats:
    """Compute the sign of the score difference of all pairs of models; 0 for ties and NaN.

    Args:
        scores: Shape (rows, n_models), with few models.

    Returns:
        Signs, shape (rows, pairs), with pairs in the order of `list_model_pairs`.
    """
    first, second = list_model_pairs(scores.shape[1])
    return sign_differences(scores[:, first], scores[:, second]).astype(np.float64)


def has_both_scores(scores: Floats) -> NDArray[np.bool_]:
    """Return a mask of the pairs with both scores, shape (rows, pairs), in the order of `list_model_pairs`."""
    first, second = list_model_pairs(scores.shape[1])
    is_known = ~np.isnan(scores)
    return is_known[:, first] & is_known[:, second]


def list_model_pairs(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the first and the second model of all pairs of n models, each of shape (pairs,)."""
    first, second = np.triu_indices(n, 1)
    return first, second


def sign_differences(left: Floats, right: Floats) -> Signs:
    """Compute the sign of left - right; 0 for ties and NaN."""
    return np.greater(left, right).astype(np.int8) - np.less(left, right)


def keep_complete(scores: ArrayLike, reference: ArrayLike) -> tuple[Floats, Floats]:
    """Select the models with a reference score: their scores, shape (rows, n_known), and reference scores.

    Raises:
        ValueError: The shapes do not match, or a score is infinite.
    """
    table, references = np.asarray(scores, dtype=np.float64), as_vector("reference", reference)
    if table.ndim != 2 or table.shape[1] != references.size:
        raise ValueError(
            f"scores must have shape (rows, {references.size}), one column a reference score, got {table.shape}: "
            "give NaN where a value is missing"
        )
    if np.isinf(table).any():
        raise ValueError("scores must be finite, or NaN where missing, got an infinite value: give NaN instead")
    is_known = ~np.isnan(references)
    return table[:, is_known], references[is_known]


def _untied_in_reference(table: Floats, reference: Floats) -> Floats:
    """Count the pairs of models of each row that are not tied in the reference."""
    has_score = (~np.isnan(table)).astype(np.float64)
    is_untied = (reference[:, None] != reference).astype(np.float64)
    return np.asarray(((has_score @ is_untied) * has_score).sum(axis=1) / 2, dtype=np.float64)
