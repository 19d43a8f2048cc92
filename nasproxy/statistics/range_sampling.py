"""How reference scores cover their range, and whether tau rests on one model or on a split into two groups."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from nasproxy.errors import TooFewTrialsError
from nasproxy.statistics.concordance import kendall_taus, list_model_pairs, sign_pairs, tau_b
from nasproxy.statistics.missing import Floats, as_vectors, keep_present

LEAST_SCORES = 5
USUAL = 0.95
"""Share of samples of normal scores whose largest gap is at most the usual one."""
SIMULATED = 4000

Groups = NDArray[np.bool_]
"""For each model, whether its reference score lies above the largest gap; shape (n_models,)."""


@dataclass(frozen=True)
class RangeSampling:
    """How scores cover their range.

    Attributes:
        n: Number of scores.
        largest_gap: Largest difference between two neighbouring scores, as a share of the range.
        usual_gap: Share that 95 % of samples of n normal scores do not exceed.
        below: Number of scores below the largest gap.
        effective_values: Effective number of distinct scores: n^2 divided by the sum, over all pairs of scores, of the
            p-value that the two are equal given the seed noise; None if that is not measured.
    """

    n: int
    largest_gap: float
    usual_gap: float
    below: int
    effective_values: float | None

    @property
    def is_usual(self) -> bool:
        """Whether the largest gap is one that random models of one kind have."""
        return self.largest_gap <= self.usual_gap


@dataclass(frozen=True)
class GroupedTau:
    """Tau between models of the same group.

    Attributes:
        tau: Tau-b over the pairs within a group.
        within: Number of these pairs.
        pairs: Number of all pairs.
    """

    tau: float
    within: int
    pairs: int


def measure_sampling(scores: ArrayLike, sd: float | None) -> RangeSampling | None:
    """Measure how scores cover their range.

    Args:
        scores: Full-training scores of different models, shape (n_models,); NaN is ignored.
        sd: Standard deviation over seeds, in units of the score; None if it is not measured.

    Returns:
        The measures, or None if all scores are equal.

    Raises:
        TooFewTrialsError: Fewer than 5 scores.
        ValueError: The scores are not one-dimensional, or one is infinite.

    Source: Effective number after Leinster and Cobbold (2012), diversity of order 2.
    """
    known = np.sort(keep_present("scores", scores))
    if known.size < LEAST_SCORES:
        raise TooFewTrialsError(
            f"the sampling of a range needs {LEAST_SCORES} scores, got {known.size}: train more reference models"
        )
    gaps = np.diff(known)
    if not gaps.any():
        return None
    return RangeSampling(
        n=known.size,
        largest_gap=float(gaps.max() / gaps.sum()),
        usual_gap=find_usual_gap(known.size),
        below=int(gaps.argmax()) + 1,
        effective_values=None if sd is None else _count_effective(known, sd),
    )


@cache
def find_usual_gap(n: int) -> float:
    """Find the largest gap, as a share of the range, that 95 % of samples of n normal scores do not exceed.

    By simulation with a fixed seed.
    """
    drawn = np.sort(np.random.default_rng(0).normal(size=(SIMULATED, n)), axis=1)
    gaps = np.diff(drawn, axis=1)
    return float(np.quantile(gaps.max(axis=1) / gaps.sum(axis=1), USUAL))


def split_at_largest_gap(reference: ArrayLike) -> Groups:
    """Split models at the largest gap between their reference scores.

    Args:
        reference: Full-training scores, shape (n_models,), without missing values, not all equal.

    >>> split_at_largest_gap([0.9, 0.1, 0.2, 0.8]).tolist()
    [True, False, False, True]
    """
    scores = np.asarray(reference, dtype=np.float64)
    ordered = np.sort(scores)
    return np.asarray(scores > ordered[int(np.diff(ordered).argmax())], dtype=np.bool_)


def tau_within_groups(proxy: ArrayLike, reference: ArrayLike, groups: Groups) -> GroupedTau | None:
    """Compute tau-b over the pairs of models that belong to the same group.

    For a group of one, this is tau without that model.

    Args:
        proxy: Proxy scores, shape (n_models,), higher is better, without missing values.
        reference: Full-training scores, same shape and order.
        groups: Group of each model.

    Returns:
        Tau, or None if all pairs within groups are tied on one side.

    Raises:
        ValueError: The shapes differ, or a score is infinite.

    >>> tau_within_groups([2, 1, 5, 6], [1, 2, 10, 11], np.array([False, False, True, True]))
    GroupedTau(tau=0.0, within=2, pairs=6)
    """
    signs = sign_pairs(np.stack(as_vectors(proxy=proxy, reference=reference)))
    first, second = list_model_pairs(groups.size)
    inside = signs[:, groups[first] == groups[second]]
    untied = np.count_nonzero(inside, axis=1).astype(np.float64)
    tau = float(tau_b(inside.prod(axis=0).sum(), untied[0], untied[1]))
    return None if np.isnan(tau) else GroupedTau(tau, within=inside.shape[1], pairs=first.size)


def leave_one_out_taus(proxy: ArrayLike, reference: ArrayLike) -> Floats:
    """Compute tau-b without each model in turn.

    Args:
        proxy: Proxy scores, shape (n_models,), higher is better, without missing values.
        reference: Full-training scores, same shape and order.

    Returns:
        Tau-b without model i, shape (n_models,); NaN where undefined.

    Raises:
        ValueError: The shapes differ, or a score is infinite.
    """
    proxies, references = as_vectors(proxy=proxy, reference=reference)
    without = np.tile(proxies, (proxies.size, 1))
    np.fill_diagonal(without, np.nan)
    return kendall_taus(without, references)


def _count_effective(scores: Floats, sd: float) -> float:
    differences = np.abs(scores[:, None] - scores)
    if sd == 0:
        return float(scores.size**2 / (differences == 0).sum())
    return float(scores.size**2 / (2 * stats.norm.sf(differences / (np.sqrt(2) * sd))).sum())
