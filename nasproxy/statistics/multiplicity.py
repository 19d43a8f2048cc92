"""Many tests at once: what a p-value is worth when the best of several proxy tasks and checks is taken."""

import numpy as np
from numpy.typing import ArrayLike

from nasproxy.statistics.concordance import has_both_scores, keep_complete, sign_pairs, tau_b
from nasproxy.statistics.missing import Floats, as_vector

PERMUTATIONS = 2000
BLOCK = 250
"""Permutations at a time: the taus of all of them would not fit the cache, nor always the memory."""


def holm(p_values: ArrayLike, *, tests: int | None = None) -> Floats:
    """Adjust p-values of several tests so that alpha bounds the probability of any false rejection.

    Args:
        p_values: Shape (tests,), in [0, 1]; NaN where a test has not been made, which counts as one all the same.
        tests: Tests planned, at least as many as given; None for those given.

    Returns:
        Adjusted p-values, same shape, NaN where not made: reject where at most alpha.

    Raises:
        ValueError: A p-value is out of range, they are not one-dimensional, or `tests` is too small.

    Source: Holm (1979).

    >>> holm([0.01, 0.04, 0.03, 0.005]).round(3).tolist()
    [0.03, 0.06, 0.06, 0.02]
    """
    values = as_vector("p_values", p_values)
    if ((values < 0) | (values > 1)).any():
        raise ValueError(f"p_values must lie in [0, 1], got {values.tolist()}: give NaN for a test not made")
    planned = values.size if tests is None else tests
    if planned < values.size:
        raise ValueError(f"tests must be at least the {values.size} given, got {planned}: count the present ones too")
    ascending = np.argsort(values)  # NaN last
    scaled = values[ascending] * (planned - np.arange(values.size))
    adjusted = np.empty_like(values)
    adjusted[ascending] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted


def permutation_p_values(
    scores: ArrayLike, reference: ArrayLike, *, permutations: int = PERMUTATIONS, seed: int = 0
) -> Floats:
    """Test whether any check of any proxy task ranks the models better than chance, adjusted for having looked at all.

    The reference scores are permuted for all checks and tasks jointly, which keeps what these have in common, and
    the largest of the permuted taus is what an observed one must beat. Each tau is taken over its standard
    deviation under independence, so that rows with fewer models are judged by the same measure. The hypothesis is
    that scores and reference are unrelated (tau 0): this shows that there is any signal, not that it is enough.

    Args:
        scores: Scores, shape (..., n_models), such as (tasks, checks, n_models), higher is better; NaN where a
            model has none.
        reference: Full-training scores, shape (n_models,), same order; NaN where a model has none.
        permutations: Times to permute, at least 1; no p-value is below 1 / (permutations + 1).
        seed: Seed of the permutations; the same one permutes the same way.

    Returns:
        Adjusted one-sided p-values, shape (...); NaN where tau is undefined.

    Raises:
        ValueError: The shapes do not fit, a score is infinite, or `permutations` is below 1.

    Source: Westfall and Young (1993), single-step maxT.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim < 1:
        raise ValueError("scores must have shape (..., n_models), got a number: give one score a model")
    if permutations < 1:
        raise ValueError(f"permutations must be at least 1, got {permutations}: give a number like {PERMUTATIONS}")
    rows, known = keep_complete(table.reshape(-1, table.shape[-1]), reference)
    judge = _Statistics(rows)
    observed = judge(known[None, :])[0]
    rng = np.random.default_rng(seed)
    exceeded = np.ones(observed.size)  # the observed order is a permutation too
    for start in range(0, permutations, BLOCK):
        size = min(BLOCK, permutations - start)
        largest = judge(rng.permuted(np.tile(known, (size, 1)), axis=1)).max(axis=1, initial=-np.inf)
        exceeded += size - np.searchsorted(np.sort(largest), observed)
    p_values = np.where(np.isneginf(observed), np.nan, exceeded / (permutations + 1))
    return p_values.reshape(table.shape[:-1])


class _Statistics:
    """Tau over its standard deviation under independence, for many orders of the reference; -inf where undefined."""

    def __init__(self, rows: Floats) -> None:
        has_score = ~np.isnan(rows)
        n = np.maximum(has_score.sum(axis=1), 2)
        self._sd = np.sqrt(2 * (2 * n + 5) / (9.0 * n * (n - 1)))
        # Counts of pairs are whole numbers far below 2^24: exact in float32, which is twice as fast.
        self._signs = sign_pairs(rows).astype(np.float32).T
        self._untied = np.abs(self._signs).sum(axis=0, dtype=np.float64)
        self._has_both = None if has_score.all() else has_both_scores(rows).astype(np.float32).T

    def __call__(self, references: Floats) -> Floats:
        """Statistics, shape (orders, rows), of references, shape (orders, n_models)."""
        signs = sign_pairs(references).astype(np.float32)
        untied = np.abs(signs)
        in_reference = untied.sum(axis=1, keepdims=True) if self._has_both is None else untied @ self._has_both
        taus = tau_b((signs @ self._signs).astype(np.float64), self._untied, in_reference.astype(np.float64))
        return np.where(np.isnan(taus), -np.inf, taus / self._sd)
