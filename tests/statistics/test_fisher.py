import math

import numpy as np
import pytest
from scipy import stats

from nasproxy.errors import TooFewTrialsError
from nasproxy.statistics.fisher import FIELLER, WIDE, fisher_z


def test_fisher_z_of_a_perfect_tau_is_finite_and_above_that_of_one_discordant_pair() -> None:
    one_discordant = 1 - 2 / 45
    assert math.atanh(one_discordant) < fisher_z(1.0, 10) < math.inf
    assert fisher_z(-1.0, 10) == -fisher_z(1.0, 10)


def test_fisher_z_keeps_shapes_and_missing_values() -> None:
    z = fisher_z([[0.5, float("nan")]], [10, 20])
    assert z.shape == (1, 2)
    assert z[0, 0] == pytest.approx(math.atanh(0.5))
    assert math.isnan(z[0, 1])


def test_the_deviation_of_normal_scores_is_the_published_one() -> None:
    rng = np.random.default_rng(0)
    proxy = rng.normal(size=(4000, 20))
    reference = proxy + rng.normal(size=(4000, 20))  # tau 0.5
    taus = [stats.kendalltau(a, b).statistic for a, b in zip(proxy, reference, strict=True)]
    assert FIELLER.sd(20) == pytest.approx(math.sqrt(0.437 / 16))
    assert np.std(fisher_z(taus, 20)) == pytest.approx(FIELLER.sd(20), rel=0.05)


def test_the_wider_deviation_is_the_one_measured_on_ten_models() -> None:
    assert WIDE.sd(10) == pytest.approx(0.35, abs=0.005)
    assert WIDE.sd(10) > FIELLER.sd(10)


def test_a_variance_needs_enough_models() -> None:
    with pytest.raises(TooFewTrialsError, match="variance of tau needs 7 models, got 6"):
        WIDE.sd(6)
