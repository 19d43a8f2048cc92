"""Scaling of channels and repeats by multipliers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasproxy.errors import ConfigError
from nasproxy.models.scaling import scale_channels, scale_repeats

MULTIPLIERS = st.floats(0.01, 10)


@given(st.integers(1, 2000), MULTIPLIERS, st.integers(1, 32))
def test_channels_are_the_nearest_multiple_and_at_least_90_percent(channels, multiplier, divisor):
    scaled = scale_channels(channels, multiplier, divisor)
    assert scaled % divisor == 0
    assert scaled >= max(divisor, 0.9 * channels * multiplier)
    assert scaled <= max(divisor, channels * multiplier + divisor)


@given(st.integers(1, 200), st.integers(1, 32))
def test_width_1_does_not_change_multiples(factor, divisor):
    assert scale_channels(factor * divisor, 1.0, divisor) == factor * divisor


@pytest.mark.parametrize(
    ("channels", "multiplier", "expected"),
    [
        (32, 0.5, 16),
        (16, 0.75, 16),
        (24, 0.5, 16),
        (16, 0.25, 8),
        (32, 0.35, 16),
        (100, 1.0, 104),
        (8, 0.1, 8),
    ],
)
def test_known_values(channels, multiplier, expected):
    assert scale_channels(channels, multiplier) == expected


@given(st.integers(1, 100), MULTIPLIERS)
def test_repeats_are_rounded_up(repeats, multiplier):
    scaled = scale_repeats(repeats, multiplier)
    assert scaled >= 1
    assert scaled - 1 < max(1e-9, repeats * multiplier) <= scaled


@pytest.mark.parametrize("multiplier", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_multiplier_is_refused(multiplier):
    with pytest.raises(ConfigError, match="width must be a finite number above 0"):
        scale_channels(16, multiplier)
    with pytest.raises(ConfigError, match="depth must be a finite number above 0"):
        scale_repeats(2, multiplier)
