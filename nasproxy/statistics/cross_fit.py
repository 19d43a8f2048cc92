"""Cross-fitting: how much higher tau is on the models that chose a look than on others."""

import math

import numpy as np

from nasproxy.statistics.concordance import kendall_taus
from nasproxy.statistics.missing import Floats

SPLITS = 60
LEAST = 6
"""Models that both halves need together."""


def measure_optimism(proxy: Floats, reference: Floats, *, level: float, seed: int = 0) -> float:
    """Measure how much higher tau is on the half of the models that chose the look than on the other half.

    One half chooses the first look at which its tau reaches a level, or the last look; the other half judges it. Halves
    are luckier than all models, so this is a little more than the optimism of a choice by all of them.

    Args:
        proxy: Scores under the proxy task at the looks so far, shape (looks, n_models); NaN if missing.
        reference: Full-training scores, shape (n_models,).
        level: Tau at which the look was chosen.
        seed: Seed of the splits.

    Returns:
        The mean difference over splits, at least 0; 0 with fewer than 6 models.

    >>> measure_optimism(np.arange(20.0)[None], np.arange(20.0), level=0.9)
    0.0
    """
    random, n = np.random.default_rng(seed), reference.size
    if n < LEAST:
        return 0.0
    differences = []
    for _ in range(SPLITS):
        order = random.permutation(n)
        for chooses, judges in ((order[: n // 2], order[n // 2 :]), (order[n // 2 :], order[: n // 2])):
            taus = kendall_taus(proxy[:, chooses], reference[chooses])
            reached = np.flatnonzero(taus >= level)
            look = int(reached[0]) if reached.size else len(taus) - 1
            judged = kendall_taus(proxy[[look]][:, judges], reference[judges])
            differences.append(taus[look] - float(judged[0]))
    found = float(np.nanmean(differences)) if not np.isnan(differences).all() else 0.0
    return max(0.0, found)


def find_attenuation(tau: float, corrected: float) -> float:
    """Compute the factor by which the correlation of normal scores falls if tau falls, in [0, 1].

    Args:
        tau: Observed tau, above 0.
        corrected: Tau without its optimism, at most `tau`.

    Source: tau = 2 / pi asin(r) for normal scores, Greiner (1909).
    """
    observed, wanted = (math.sin(math.pi / 2 * max(each, 0.0)) for each in (tau, corrected))
    return wanted / observed if observed > 0 else 0.0
