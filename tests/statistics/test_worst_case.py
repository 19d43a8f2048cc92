import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasproxy.errors import TooFewTrialsError
from nasproxy.statistics.concordance import kendall_taus
from nasproxy.statistics.worst_case import worst_case_tau

NAN = float("nan")
RANK = st.integers(0, 3).map(float)
MODELS = st.lists(st.tuples(RANK, RANK), min_size=2, max_size=5)


def completions(scores: np.ndarray) -> list[np.ndarray]:
    """List the scores with all possible orders, including ties, of the missing ones."""
    is_missing = np.isnan(scores)
    n = int(is_missing.sum())
    known = np.unique(scores[~is_missing]) if n < scores.size else np.zeros(1)
    ladder = [g + step / (n + 1) for g in range(known.size + 1) for step in range(1, n + 1)]  # in each gap
    places = sorted({*range(1, known.size + 1), *ladder})
    ranked = np.searchsorted(known, scores) + 1.0
    completed = []
    for values in itertools.product(places, repeat=n):
        ranked[is_missing] = values
        completed.append(ranked.copy())
    return completed


def brute_force(proxy: np.ndarray, reference: np.ndarray) -> tuple[float, float] | None:
    proxies = np.stack(completions(proxy))
    taus = np.concatenate([kendall_taus(proxies, order) for order in completions(reference)])
    return None if np.isnan(taus).all() else (float(np.nanmin(taus)), float(np.nanmax(taus)))


def scores_of(models: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    proxy, reference = np.array(models).T.copy()
    return proxy, reference


@settings(max_examples=60)
@given(MODELS, st.integers(1, 3), st.booleans())
def test_bounds_are_the_extremes_of_all_completions_of_one_side(
    models: list[tuple[float, float]], lost: int, is_reference_lost: bool
) -> None:
    proxy, reference = scores_of(models)
    (reference if is_reference_lost else proxy)[:lost] = NAN
    expected, bounds = brute_force(proxy, reference), worst_case_tau(proxy, reference)
    if expected is None:
        assert bounds is None
    else:
        assert bounds is not None
        assert (bounds.low, bounds.high) == pytest.approx(expected, abs=1e-12)
        assert bounds.lost == min(lost, len(models))


@settings(max_examples=50)
@given(MODELS, st.integers(0, 1))
def test_bounds_are_the_extremes_if_models_lack_both_scores(
    models: list[tuple[float, float]], lost_besides: int
) -> None:
    proxy, reference = scores_of(models)
    proxy[0] = reference[0] = NAN
    proxy[1 : 1 + lost_besides] = NAN
    expected, bounds = brute_force(proxy, reference), worst_case_tau(proxy, reference)
    assert (bounds is None) == (expected is None)
    if bounds is not None:
        assert (bounds.low, bounds.high) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=50)
@given(st.lists(st.tuples(RANK, RANK), min_size=3, max_size=5), st.integers(1, 2))
def test_bounds_hold_if_models_lack_different_scores(models: list[tuple[float, float]], lost_proxies: int) -> None:
    proxy, reference = scores_of(models)
    proxy[:lost_proxies], reference[-1] = NAN, NAN
    expected, bounds = brute_force(proxy, reference), worst_case_tau(proxy, reference)
    if expected is not None:
        assert bounds is not None
        assert -1 <= bounds.low <= expected[0] + 1e-12
        assert expected[1] - 1e-12 <= bounds.high <= 1


def test_without_missing_scores_the_bounds_are_tau() -> None:
    rng = np.random.default_rng(0)
    proxy, reference = rng.normal(size=(2, 30))
    tau = kendall_taus([proxy], reference)[0]
    bounds = worst_case_tau(proxy, reference)
    assert bounds is not None
    assert (bounds.low, bounds.high, bounds.lost) == (pytest.approx(tau), pytest.approx(tau), 0)


def test_bounds_of_five_lost_of_forty_contain_all_random_completions() -> None:
    rng = np.random.default_rng(1)
    reference = rng.normal(size=40)
    proxy = reference + rng.normal(size=40)
    proxy[rng.permutation(40)[:5]] = NAN
    bounds = worst_case_tau(proxy, reference)
    assert bounds is not None
    guesses = np.where(np.isnan(proxy), rng.normal(scale=2, size=(2000, 40)), proxy)
    taus = kendall_taus(guesses, reference)
    assert bounds.low <= taus.min() < taus.max() <= bounds.high
    assert bounds.high - bounds.low < 0.6  # 185 of 780 pairs are undetermined, not all of them in both directions


def test_a_constant_reference_has_no_bounds() -> None:
    assert worst_case_tau([1.0, NAN, 3.0], [2.0, 2.0, 2.0]) is None


def test_bounds_need_models() -> None:
    with pytest.raises(TooFewTrialsError, match="bounds of tau need 2 models, got 1"):
        worst_case_tau([1.0], [NAN])
    with pytest.raises(ValueError, match="got proxy 2, reference 1"):
        worst_case_tau([1.0, math.nan], [1.0])
