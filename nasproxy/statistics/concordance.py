"""Kendall's tau-b of many rows of scores at once, by the signs of pairs of models."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from nasproxy.statistics.missing import Floats, as_vector

Signs = NDArray[np.int8]
MOST_BY_PAIRS = 1000
"""Models beyond which comparing all pairs takes longer than sorting, row after row."""


def kendall_taus(scores: ArrayLike, reference: ArrayLike) -> Floats:
    """Measure how well each row of scores ranks the reference models.

    Each row is judged on the models that it has scores of. Up to a thousand models are compared pair by pair, all rows
    at once; of more, each row is sorted by itself.

    Args:
        scores: Scores, shape (rows, n_models), higher is better; NaN where a model has none.
        reference: Full-training scores, shape (n_models,), same order; NaN where a model has none.

    Returns:
        Tau-b, shape (rows,); NaN where it is undefined: one side is constant, or fewer than 2 models have both.

    Raises:
        ValueError: The shapes do not fit, or a score is infinite.

    Source: Kendall (1945).

    >>> kendall_taus([[1, 2, 3], [3, 1, 2], [5, 5, 5]], [10, 20, 30]).round(3).tolist()
    [1.0, -0.333, nan]
    """
    table, known = keep_complete(scores, reference)
    if known.size > MOST_BY_PAIRS:
        return np.array([_sorted_tau(row, known) for row in table])
    concordance = np.zeros(len(table))
    untied = np.zeros(len(table))
    for i in range(known.size - 1):  # a model at a time: the memory of all pairs would be too much
        signs = sign_differences(table[:, i + 1 :], table[:, i : i + 1])
        concordance += signs @ sign_differences(known[i + 1 :], known[i]).astype(np.float64)
        untied += np.count_nonzero(signs, axis=1)
    return tau_b(concordance, untied, _untied_in_reference(table, known))


def _sorted_tau(row: Floats, reference: Floats) -> float:
    """Tau-b of one row on the models that it has scores of; NaN where it is undefined."""
    is_known = ~np.isnan(row)
    return float(stats.kendalltau(row[is_known], reference[is_known], method="asymptotic").statistic)


def tau_b(concordance: Floats, untied_in_scores: Floats, untied_in_reference: Floats) -> Floats:
    """Tau-b of counts of pairs; NaN where all pairs are tied on one side.

    Args:
        concordance: Concordant less discordant pairs, any shape.
        untied_in_scores: Pairs that do not tie in the scores; a shape that broadcasts.
        untied_in_reference: Pairs that do not tie in the reference; a shape that broadcasts.
    """
    pairs = np.sqrt(untied_in_scores * untied_in_reference)  # of the product: exact where neither side has ties
    taus: Floats = np.divide(concordance, pairs, out=np.full(concordance.shape, np.nan), where=pairs > 0)
    return taus


def sign_pairs(scores: Floats) -> Floats:
    """The order of all pairs of models: 1 or -1, and 0 where they tie or one is NaN.

    Args:
        scores: Shape (rows, n_models).

    Returns:
        Shape (rows, pairs), with pairs as `list_model_pairs` gives them; few models only.
    """
    first, second = list_model_pairs(scores.shape[1])
    return sign_differences(scores[:, first], scores[:, second]).astype(np.float64)


def has_both_scores(scores: Floats) -> NDArray[np.bool_]:
    """Which pairs of models have both scores, shape (rows, pairs), with pairs as `list_model_pairs` gives them."""
    first, second = list_model_pairs(scores.shape[1])
    is_known = ~np.isnan(scores)
    return is_known[:, first] & is_known[:, second]


def list_model_pairs(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and second model of all pairs of n models, both of shape (pairs,)."""
    first, second = np.triu_indices(n, 1)
    return first, second


def sign_differences(left: Floats, right: Floats) -> Signs:
    """1 where the left value is higher, -1 where it is lower, 0 where they tie or one is NaN."""
    return np.greater(left, right).astype(np.int8) - np.less(left, right)


def keep_complete(scores: ArrayLike, reference: ArrayLike) -> tuple[Floats, Floats]:
    """The scores of the models that have a reference, shape (rows, n_known), and these references.

    Raises:
        ValueError: The shapes do not fit, or a score is infinite.
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
    """Pairs of models of each row that do not tie in the reference."""
    has_score = (~np.isnan(table)).astype(np.float64)
    is_untied = (reference[:, None] != reference).astype(np.float64)
    return np.asarray(((has_score @ is_untied) * has_score).sum(axis=1) / 2, dtype=np.float64)
