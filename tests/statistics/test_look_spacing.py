import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasproxy.statistics.look_spacing import CELL, CLOSEST, WINDOW, LookSpacing, measure_spacing


def at(*cells: float) -> np.ndarray:
    """Return fractions of training that lie a number of cells before its end."""
    return np.exp(-CELL * np.array(cells))


@pytest.mark.parametrize("apart", [2, 3, 5, 6, 12])
def test_equally_spaced_looks_have_their_own_spacing(apart: int) -> None:
    fractions = np.array(LookSpacing(60, apart).fractions)
    for looks in range(WINDOW // apart + 2, fractions.size + 1):
        assert measure_spacing(fractions[:looks]) == {LookSpacing(60, apart)}


def test_equally_spaced_looks_end_with_the_training() -> None:
    assert LookSpacing(24, 12).fractions == pytest.approx(at(24, 12, 0))
    assert LookSpacing(30, 12).fractions == pytest.approx(at(24, 12, 0)), "a whole number of distances"
    assert LookSpacing(6, 12).fractions == pytest.approx(at(12, 0)), "the first look and the last one"
    assert LookSpacing(0, 6).fractions == [1.0], "the only look"


def test_the_distance_is_the_mean_one_since_the_last_look_before_the_window() -> None:
    assert measure_spacing(at(30, 20)) == {LookSpacing(30, 10)}
    assert measure_spacing(at(30, 20, 16)) == {LookSpacing(30, 7)}, "14 cells for 2 looks"
    assert measure_spacing(at(30)) == {LookSpacing(30, WINDOW)}, "as if one were just before the window"


def test_a_look_close_to_another_one_has_two_boundaries_to_reach() -> None:
    assert measure_spacing(at(30, 20, 19)) == {LookSpacing(30, 10), LookSpacing(30, CLOSEST)}
    assert measure_spacing(at(30, 20, 18)) == {LookSpacing(30, 6)}


def test_the_distance_to_the_end_is_rounded_up_to_windows() -> None:
    assert {spacing.cells for spacing in measure_spacing(at(31))} == {36}
    assert {spacing.cells for spacing in measure_spacing(at(0.5))} == {6}
    assert {spacing.cells for spacing in measure_spacing(at(0))} == {0}


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=30, unique=True).map(sorted))
def test_any_looks_have_a_spacing_that_reaches_to_the_first_one(fractions: list[float]) -> None:
    for spacing in measure_spacing(np.array(fractions)):
        assert spacing.apart >= CLOSEST
        assert -math.log(fractions[0]) / CELL <= spacing.cells + 1e-5
        assert spacing.fractions == sorted(set(spacing.fractions))
        assert spacing.fractions[-1] == 1.0
