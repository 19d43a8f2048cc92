import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from nasproxy.errors import TooFewTrialsError
from nasproxy.statistics.bootstrap import bootstrap_taus

NAN = float("nan")
SCORE = st.one_of(st.integers(-5, 5).map(float), st.just(NAN))


def checks_of_one_task(n: int = 20, checks: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Make scores that approach the reference from check to check."""
    rng = np.random.default_rng(seed)
    reference = rng.normal(size=n)
    noise = np.linspace(2.0, 0.3, checks)[:, None] * rng.normal(size=n)
    return reference + noise + 0.2 * rng.normal(size=(checks, n)), reference


@settings(max_examples=25)
@given(hnp.arrays(float, (3, 6), elements=SCORE), hnp.arrays(float, 6, elements=st.integers(0, 5).map(float)))
def test_a_resample_has_the_tau_that_scipy_finds_on_the_same_models(scores: np.ndarray, reference: np.ndarray) -> None:
    copies = np.random.default_rng(4).multinomial(6, np.full(6, 1 / 6), size=5)
    taus = bootstrap_taus(scores, reference, resamples=5, seed=4)
    for drawn, row in zip(copies, taus, strict=True):
        models = np.repeat(np.arange(6), drawn)
        for check, tau in zip(scores[:, models], row, strict=True):
            known = ~np.isnan(check)
            expected = stats.kendalltau(check[known], reference[models][known]).statistic if known.sum() > 1 else NAN
            assert tau == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_the_same_seed_draws_the_same_models() -> None:
    scores, reference = checks_of_one_task()
    first, again, other = (bootstrap_taus(scores, reference, resamples=50, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_bootstrap_needs_models_and_resamples() -> None:
    with pytest.raises(TooFewTrialsError, match="bootstrap needs 5 reference models, got 4"):
        bootstrap_taus(np.zeros((1, 5)), [1, 2, 3, 4, NAN])
    with pytest.raises(ValueError, match="resamples must be at least 1, got 0"):
        bootstrap_taus(np.zeros((1, 5)), [1, 2, 3, 4, 5], resamples=0)
