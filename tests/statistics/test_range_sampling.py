"""Sampling of the range of reference scores, and what tau rests on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nasproxy.errors import TooFewTrialsError
from nasproxy.statistics.range_sampling import (
    find_usual_gap,
    leave_one_out_taus,
    measure_sampling,
    split_at_largest_gap,
    tau_within_groups,
)

TWO_POINTS = [0.1, 0.1, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9, 0.9, 0.9]
ONE_FAR = [0.1, *np.linspace(0.9, 0.9008, 9)]
EVEN = np.linspace(0.1, 0.9, 10).tolist()


class TestSampling:
    @pytest.mark.parametrize(("scores", "below", "effective"), [(TWO_POINTS, 5, 2.0), (ONE_FAR, 1, 100 / 82)])
    def test_scores_on_two_points_or_far_from_a_cluster_do_not_cover_their_range(
        self, scores: list[float], below: int, effective: float
    ) -> None:
        found = measure_sampling(scores, sd=0.01)
        assert found is not None
        assert not found.is_usual
        assert found.largest_gap > 0.98
        assert (found.below, found.effective_values) == (below, pytest.approx(effective, rel=0.05))

    def test_even_scores_cover_their_range(self) -> None:
        found = measure_sampling(EVEN, sd=0.001)
        assert found is not None
        assert found.is_usual
        assert found.largest_gap == pytest.approx(1 / 9)
        assert found.effective_values == pytest.approx(10)

    def test_one_in_twenty_samples_of_normal_scores_has_an_unusual_gap(self) -> None:
        drawn = np.random.default_rng(5).normal(size=(1000, 12))
        unusual = sum(not found.is_usual for row in drawn if (found := measure_sampling(row, None)) is not None)
        assert 0.03 < unusual / 1000 < 0.07

    def test_more_scores_have_smaller_usual_gaps(self) -> None:
        assert find_usual_gap(30) < find_usual_gap(10) < find_usual_gap(5) < 1

    def test_without_seed_noise_the_effective_number_is_unknown_and_with_none_it_counts_values(self) -> None:
        unknown, exact = measure_sampling(TWO_POINTS, None), measure_sampling(TWO_POINTS, 0.0)
        assert unknown is not None
        assert exact is not None
        assert (unknown.effective_values, exact.effective_values) == (None, 2.0)

    def test_equal_scores_have_no_range(self) -> None:
        assert measure_sampling([0.5] * 6, 0.01) is None

    def test_a_few_scores_are_refused(self) -> None:
        with pytest.raises(TooFewTrialsError, match="needs 5 scores, got 4"):
            measure_sampling([0.1, 0.2, 0.3, np.nan, 0.4], 0.01)


class TestWhatTauRestsOn:
    def test_a_split_into_two_groups_carries_tau_without_any_ranking_within_them(self) -> None:
        reference = np.array([1, 2, 3, 4, 5, 101, 102, 103, 104, 105.0])
        proxy = np.array([3, 1, 4, 2, 3.5, 23, 21, 24, 22, 23.5])
        found = tau_within_groups(proxy, reference, split_at_largest_gap(reference))
        assert found is not None
        assert (found.within, found.pairs) == (20, 45)
        assert found.tau == pytest.approx(0.2)
        assert stats.kendalltau(proxy, reference).statistic > 0.6

    def test_with_one_model_beyond_the_gap_it_is_tau_of_the_others(self) -> None:
        reference, proxy = np.array([9.0, 1, 2, 3, 4]), np.array([5.0, 2, 1, 4, 3])
        found = tau_within_groups(proxy, reference, split_at_largest_gap(reference))
        assert found is not None
        assert found.tau == pytest.approx(stats.kendalltau(proxy[1:], reference[1:]).statistic)

    def test_groups_of_equal_scores_have_no_tau(self) -> None:
        reference = np.array([1.0, 1, 2, 2])
        assert tau_within_groups([1, 2, 3, 4], reference, split_at_largest_gap(reference)) is None

    @given(st.lists(st.integers(0, 5), min_size=5, max_size=9))
    def test_leave_one_out_is_tau_of_the_other_models(self, scores: list[int]) -> None:
        reference = np.arange(len(scores), dtype=float)
        found = leave_one_out_taus(scores, reference)
        for place, tau in enumerate(found):
            rest = np.delete(np.array(scores, dtype=float), place)
            expected = stats.kendalltau(rest, np.delete(reference, place)).statistic
            assert tau == pytest.approx(expected, nan_ok=True)
