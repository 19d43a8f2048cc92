"""Numbers, architectures and messages as a reader wants them; what is missing is a dash."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MISSING = "\N{EN DASH}"
TIME_UNITS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))


@dataclass(frozen=True)
class Remark:
    """Something to bear in mind: a few words, and a few sentences."""

    title: str
    text: str


def choose_time_unit(seconds: float) -> tuple[float, str]:
    """The unit that makes a time easy to read: its seconds and its name.

    >>> time_unit(90)
    (60.0, 'min')
    """
    return next((unit for unit in TIME_UNITS if seconds >= unit[0]), TIME_UNITS[-1])


def format_duration(seconds: float | None) -> str:
    """A time in words.

    >>> duration(5400)
    '1.5 h'
    """
    if seconds is None:
        return MISSING
    size, unit = choose_time_unit(seconds)
    return f"{seconds / size:.3g} {unit}" if seconds < 1000 * size else f"{seconds / size:,.0f} {unit}"


def format_number(value: float | None, digits: int = 4) -> str:
    """A number with so many significant digits.

    >>> number(0.123456), number(500)
    ('0.1235', '500')
    """
    return MISSING if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.{digits}g}"


def format_about(value: float) -> str:
    """A mean or an estimate, with no more than one figure behind the point, and none from 100 on.

    >>> about(1.54), about(412.3), about(12345.0)
    ('1.5', '412', '12,345')
    """
    rounded = round(value + 1e-9, 1)  # 18.15 is a little less than itself
    return f"{rounded:,.1f}" if rounded < 100 else f"{value:,.0f}"


def format_tau(value: float | None) -> str:
    """A correlation, with a true minus sign.

    >>> tau(0.648)
    '0.65'
    """
    return MISSING if value is None else f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def format_interval(low: float | None, high: float | None) -> str:
    """A 95 % interval of a correlation."""
    return MISSING if low is None or high is None else f"{format_tau(low)} to {format_tau(high)}"


def format_p_value(value: float | None) -> str:
    """A probability.

    >>> p_value(0.00001)
    '<0.001'
    """
    return MISSING if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def format_times(ratio: float | None) -> str:
    """How many times cheaper.

    >>> times(8.26)
    '8.3\N{MULTIPLICATION SIGN}'
    """
    if ratio is None:
        return MISSING
    return f"{ratio:.1f}\N{MULTIPLICATION SIGN}" if ratio < 100 else f"{ratio:,.0f}\N{MULTIPLICATION SIGN}"


def format_count(number_of: int, noun: str) -> str:
    """A count with its noun.

    >>> count(1, "model"), count(2, "model")
    ('1 model', '2 models')
    """
    return f"{number_of:,} {noun}{'' if number_of == 1 else 's'}"


def format_architecture(choices: Mapping[str, Any]) -> str:
    """An architecture in one line.

    >>> architecture({"depth": 3, "kernel": 5})
    'depth=3 kernel=5'
    """
    return format_line(" ".join(f"{name}={value}" for name, value in choices.items()))


def format_line(text: str, longest: int | None = None) -> str:
    """Free text in one line of printable characters, cut where it is too long.

    >>> one_line("out of" + chr(10) + "memory", longest=8)
    'out of \N{HORIZONTAL ELLIPSIS}'
    """
    line = "".join(character if character.isprintable() else " " for character in text)
    if longest is None or len(line) <= longest:
        return line
    return line[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"
