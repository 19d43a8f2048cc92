import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from nasproxy.statistics.concordance import MOST_BY_PAIRS, kendall_taus
from nasproxy.statistics.rank_correlation import kendall_tau

NAN = float("nan")
SCORE = st.one_of(st.integers(-3, 3).map(float), st.just(NAN))
TABLE = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9).flatmap(
    lambda shape: st.tuples(hnp.arrays(float, shape, elements=SCORE), hnp.arrays(float, shape[1], elements=SCORE))
)


@given(TABLE)
def test_the_tau_of_every_row_is_that_of_scipy_on_the_models_with_both_scores(
    table: tuple[np.ndarray, np.ndarray],
) -> None:
    scores, reference = table
    for row, tau in zip(scores, kendall_taus(scores, reference), strict=True):
        has_both = ~np.isnan(row) & ~np.isnan(reference)
        expected = stats.kendalltau(row[has_both], reference[has_both]).statistic if has_both.sum() > 1 else NAN
        assert tau == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_many_models_are_judged_as_scipy_judges_them() -> None:
    rng = np.random.default_rng(0)
    scores, reference = rng.integers(0, 50, (5, 300)).astype(float), rng.normal(size=300)
    expected = [stats.kendalltau(row, reference).statistic for row in scores]
    np.testing.assert_allclose(kendall_taus(scores, reference), expected, rtol=0, atol=1e-12)


def test_the_tau_of_a_row_does_not_depend_on_other_rows() -> None:
    row, reference = [0.2, NAN, 0.5, 0.4, 0.9, 0.1], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    alone = kendall_tau(row, reference)
    assert alone is not None
    assert kendall_taus([row], reference)[0] == pytest.approx(alone.tau, abs=1e-15)


def test_a_tau_without_ties_is_the_exact_ratio_of_counts() -> None:
    ranks = np.arange(10.0)
    nine_discordant = [1.0, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert kendall_taus([nine_discordant, ranks, -ranks], ranks).tolist() == [27 / 45, 1.0, -1.0]


def test_no_rows_have_no_taus() -> None:
    assert kendall_taus(np.empty((0, 3)), [1, 2, 3]).shape == (0,)


def test_rows_of_other_models_are_refused() -> None:
    with pytest.raises(ValueError, match=r"scores must have shape \(rows, 3\), .* got \(2, 4\)"):
        kendall_taus(np.zeros((2, 4)), [1, 2, 3])
    with pytest.raises(ValueError, match=r"scores must have shape \(rows, 3\), .* got \(3,\)"):
        kendall_taus([1, 2, 3], [1, 2, 3])


def test_an_infinite_score_is_refused() -> None:
    with pytest.raises(ValueError, match="scores must be finite, or NaN where missing"):
        kendall_taus([[1, float("inf")]], [1, 2])


def test_taus_of_more_than_a_thousand_models_match_scipy() -> None:
    rng = np.random.default_rng(1)
    scores, reference = rng.integers(0, 500, (3, MOST_BY_PAIRS + 50)).astype(float), rng.normal(size=MOST_BY_PAIRS + 50)
    scores[1, :60], scores[2] = NAN, 7.0
    expected = [stats.kendalltau(row, reference, nan_policy="omit").statistic for row in scores]
    np.testing.assert_allclose(kendall_taus(scores, reference), expected, rtol=0, atol=1e-12)
