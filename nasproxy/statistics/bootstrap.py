"""Bootstrap of tau over models."""

import numpy as np
from numpy.typing import ArrayLike

from nasproxy.errors import TooFewTrialsError
from nasproxy.statistics.concordance import (
    has_both_scores,
    keep_complete,
    list_model_pairs,
    sign_pairs,
    tau_b,
)
from nasproxy.statistics.missing import Floats
from nasproxy.statistics.score_test import MIN_MODELS

RESAMPLES = 2000


def bootstrap_taus(scores: ArrayLike, reference: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Compute tau-b on bootstrap samples of the models, the same models at all checks.

    A model that is drawn twice ties with itself; tau-b excludes such pairs from its denominator.

    Args:
        scores: Scores, shape (checks, n_models), higher is better; NaN if missing.
        reference: Full-training scores, shape (n_models,), same order; NaN if missing.
        resamples: Number of bootstrap samples, at least 1.
        seed: Seed of the samples.

    Returns:
        Tau-b, shape (resamples, checks); NaN if undefined on a sample.

    Raises:
        TooFewTrialsError: Fewer than 5 models have a reference score.
        ValueError: The shapes do not match, a score is infinite, or `resamples` is below 1.

    Source: Efron (1979).
    """
    table, known = keep_complete(scores, reference)
    n = known.size
    if n < MIN_MODELS:
        raise TooFewTrialsError(f"a bootstrap needs {MIN_MODELS} reference models, got {n}: train more of them")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}: give a number like {RESAMPLES}")
    copies = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
    first, second = list_model_pairs(n)
    weights = copies[:, first] * copies[:, second]
    in_scores, in_reference = sign_pairs(table), sign_pairs(known[None, :])
    return tau_b(
        weights @ (in_scores * in_reference).T,
        weights @ np.abs(in_scores).T,
        weights @ (np.abs(in_reference) * has_both_scores(table)).T,
    )
