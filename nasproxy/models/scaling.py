"""Scaling of channels and repeats by width and depth multipliers."""

import math

from nasproxy.errors import ConfigError


def scale_channels(channels: int, multiplier: float, divisor: int = 8) -> int:
    """Scale a layer's channels and round them to a multiple of `divisor`.

    Args:
        channels: Channels at width 1.
        multiplier: Width multiplier, above 0.
        divisor: Channels are rounded to multiples of this.

    Returns:
        The multiple of `divisor` nearest to `channels * multiplier` (ties round up), at least `divisor`; one
        multiple more if that is below 90 % of the exact value.

    Raises:
        ConfigError: An argument is not positive.

    Source: `make_divisible` of the MobileNet reference code.

    >>> scale_channels(32, 0.5), scale_channels(24, 0.25), scale_channels(24, 0.75)
    (16, 8, 24)
    """
    _check_positive("channels", channels)
    _check_positive("width", multiplier)
    _check_positive("divisor", divisor)
    exact = channels * multiplier
    scaled = max(divisor, math.floor(exact / divisor + 0.5) * divisor)
    return scaled + divisor if scaled < 0.9 * exact else scaled


def scale_repeats(repeats: int, multiplier: float) -> int:
    """Scale the number of repeats of a block, rounding up.

    Args:
        repeats: Repeats at depth 1.
        multiplier: Depth multiplier, above 0.

    Raises:
        ConfigError: An argument is not positive.

    Source: `round_repeats` of EfficientNet (Tan and Le, 2019).

    >>> scale_repeats(3, 0.5), scale_repeats(1, 0.1), scale_repeats(2, 1.0)
    (2, 1, 2)
    """
    _check_positive("repeats", repeats)
    _check_positive("depth", multiplier)
    return max(1, math.ceil(repeats * multiplier))


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{name} must be a finite number above 0, got {value}: give 1 for no change")
