import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nasproxy.statistics.tau_smoothing import STRETCH, select_apart, select_recent, smooth

rising = st.lists(st.floats(0.001, 1.0), min_size=1, max_size=40, unique=True).map(sorted)


@given(rising)
def test_the_last_check_and_its_neighbours_are_selected(fractions: list[float]) -> None:
    taken = select_recent(fractions)
    assert taken.stop == len(fractions)
    assert all(f > fractions[-1] / STRETCH for f in fractions[taken])
    assert all(f <= fractions[-1] / STRETCH * (1 + 1e-6) for f in fractions[: taken.start])


def test_values_are_averaged_over_the_neighbours_before() -> None:
    values = np.array([[1.0, 2.0, 4.0, 9.0], [0.0, 0.0, 1.0, 1.0]])
    np.testing.assert_allclose(smooth(values, [0.1, 0.5, 0.6, 1.0]), [[1, 2, 3, 9], [0, 0, 0.5, 1]])


def test_geometric_looks_have_two_neighbours_or_three() -> None:
    for looks, neighbours in ((8, 1), (16, 2), (40, 3)):
        fractions = np.geomspace(0.01, 0.98, looks)
        assert len(fractions[select_recent(fractions)]) == neighbours


@given(rising)
def test_selected_checks_have_the_minimum_ratio_and_none_is_skipped(fractions: list[float]) -> None:
    places = select_apart(fractions, 1.5)
    taken = np.array(fractions)[places]
    assert places[0] == 0
    assert (taken[1:] >= 1.5 * taken[:-1] * (1 - 1e-6)).all()
    for fraction in fractions:
        nearest = taken[taken <= fraction][-1]
        assert fraction < 1.5 * nearest * (1 + 1e-6)
