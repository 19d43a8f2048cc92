import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nasproxy.statistics.spending import (
    SpendingFunction,
    linear_spending,
    obrien_fleming_spending,
    pocock_spending,
)

FUNCTIONS = [linear_spending, pocock_spending, obrien_fleming_spending]
FIFTHS = [0.2, 0.4, 0.6, 0.8, 1.0]


def test_obrien_fleming_spends_what_lan_and_demets_publish() -> None:
    """Cumulative two-sided alpha of five even looks at 0.05, half on each side."""
    spent = 2 * obrien_fleming_spending(FIFTHS, 0.025)
    np.testing.assert_allclose(spent, [0.00000, 0.00079, 0.00762, 0.02442, 0.05000], atol=5e-6)


@pytest.mark.parametrize(
    ("spend", "bounds"),
    [(obrien_fleming_spending, [4.8769, 3.3569, 2.6803]), (pocock_spending, [2.4380, 2.4268, 2.4101])],
)
def test_the_published_bounds_are_crossed_as_often_as_a_look_may_spend(
    spend: SpendingFunction, bounds: list[float]
) -> None:
    """Bounds of Brownian motion at the first three of five even looks, one-sided 0.025 (ldbounds)."""
    times = np.array(FIFTHS[:3])
    correlation = np.sqrt(np.minimum.outer(times, times) / np.maximum.outer(times, times))
    crossed = [1 - stats.multivariate_normal(cov=correlation[:k, :k]).cdf(np.array(bounds[:k])) for k in range(1, 4)]
    np.testing.assert_allclose(spend(times, 0.025), crossed, atol=1e-5)  # SciPy integrates by random points


@given(st.sampled_from(FUNCTIONS), st.lists(st.floats(0, 1), min_size=2), st.floats(0.001, 0.5))
def test_spending_never_falls_and_ends_at_alpha(spend: SpendingFunction, fractions: list[float], alpha: float) -> None:
    spent = spend(np.sort(fractions), alpha)
    assert (np.diff(spent) >= -1e-15).all()
    np.testing.assert_allclose(spend([0.0, 1.0], alpha), [0.0, alpha], atol=1e-12)


@given(st.floats(0.01, 0.99), st.floats(0.001, 0.2))
def test_obrien_fleming_holds_back_and_pocock_goes_ahead(fraction: float, alpha: float) -> None:
    late, even, early = (
        spend(fraction, alpha) for spend in (obrien_fleming_spending, linear_spending, pocock_spending)
    )
    assert late < even < early


@pytest.mark.parametrize("spend", FUNCTIONS)
def test_looks_outside_the_plan_are_refused(spend: SpendingFunction) -> None:
    with pytest.raises(ValueError, match=r"fractions must lie in \[0, 1\], got \[0.5, 1.5\]"):
        spend([0.5, 1.5], 0.05)
    with pytest.raises(ValueError, match=r"alpha must lie in \(0, 1\), got 5"):
        spend([0.5, 1.0], 5)
