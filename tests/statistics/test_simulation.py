import numpy as np
import pytest
from scipy import stats

from nasproxy.statistics.simulation import count_studies, simulate_taus

FRACTIONS = (0.1, 0.2, 1.0)


@pytest.mark.parametrize("tau", [0.0, 0.45, 0.8])
@pytest.mark.parametrize("noise_share", [0.0, 0.5, 1.0])
def test_the_mean_of_the_simulated_taus_is_the_true_one(tau: float, noise_share: float) -> None:
    taus = simulate_taus(tau, FRACTIONS, (10, 20), noise_share=noise_share, studies=3000)
    assert taus.shape == (2, 3000, 3)
    np.testing.assert_allclose(taus.mean(axis=1), tau, atol=0.02)


def test_each_set_of_models_contains_the_smaller_one() -> None:
    taus = simulate_taus(0.5, (0.5, 1.0), (10, 12), noise_share=0.5, studies=200)
    pairs = np.array([45, 66])[:, None, None]
    concordant = np.rint(taus * pairs)
    assert (np.abs(concordant[1] - concordant[0]) <= 21).all(), "12 models have 21 pairs more than 10"
    assert not np.array_equal(taus[0], taus[1])


def test_a_single_size_gives_the_tau_of_its_models() -> None:
    taus = simulate_taus(0.5, (1.0,), (15,), noise_share=0.0, studies=4000, seed=3)[0, :, 0]
    random, rho = np.random.default_rng(8), np.sin(np.pi / 4)
    reference = random.standard_normal((400, 15))
    proxy = rho * reference + np.sqrt(1 - rho**2) * random.standard_normal((400, 15))
    other = [stats.kendalltau(x, y).statistic for x, y in zip(proxy, reference, strict=True)]
    assert stats.ks_2samp(taus, other).pvalue > 0.001


def test_neighbouring_looks_are_correlated_unless_noise_is_independent() -> None:
    def correlation(noise_share: float) -> float:
        first, second = simulate_taus(0.5, (0.5, 0.55), (20,), noise_share=noise_share, studies=2000)[0].T
        return float(np.corrcoef(first, second)[0, 1])

    assert correlation(0.0) > 0.8 > 0.6 > correlation(1.0)


def test_the_same_seed_simulates_the_same() -> None:
    once, again = (simulate_taus(0.5, FRACTIONS, (10,), noise_share=0.0, studies=5) for _ in range(2))
    np.testing.assert_array_equal(once, again)


def test_fewer_studies_are_simulated_for_more_models() -> None:
    assert count_studies(10) > count_studies(40) >= count_studies(400) == 1000
