"""Changes of scores and ranks at the end of training."""

import numpy as np
import pytest

from nasproxy.statistics.late_change import find_late_checks, largest_late_change, lowest_late_tau

STEPS = [20, 40, 60, 80, 100]


def test_checks_of_the_last_quarter_are_compared_and_at_least_one() -> None:
    assert find_late_checks(np.arange(5, 105, 5)) == [14, 15, 16, 17, 18]
    assert find_late_checks(STEPS) == [3]
    assert find_late_checks([1, 2]) == [0]


def test_the_largest_change_counts_falls_and_rises_of_the_last_quarter_only() -> None:
    assert largest_late_change(STEPS, [0.9, 0.0, 0.9, 0.6, 0.5]) == pytest.approx(0.1)
    assert largest_late_change(STEPS, [0.9, 0.0, 0.9, 0.3, 0.5]) == pytest.approx(0.2)
    assert largest_late_change([100], [0.5]) is None


def test_the_lowest_tau_of_the_last_quarter_is_found() -> None:
    final = np.arange(6.0)
    swapped = np.array([1.0, 0.0, 2.0, 3.0, 4.0, 5.0])
    found = lowest_late_tau([70, 80, 90, 100], np.array([-final, swapped, final, final]))
    assert found is not None
    assert found.tau == pytest.approx(1 - 2 * 2 / 30)


def test_ranks_that_are_undefined_throughout_have_no_tau() -> None:
    assert lowest_late_tau([50, 100], np.zeros((2, 6))) is None
