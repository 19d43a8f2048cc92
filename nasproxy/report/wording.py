"""Format numbers, architectures and messages for readers; missing values are shown as a dash."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nasproxy.statistics.rank_correlation import RankCorrelation

MISSING = "\N{EN DASH}"
TIME_UNITS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))


@dataclass(frozen=True)
class Remark:
    """A note on a verdict: a title of a few words, and an explanation in a few sentences."""

    title: str
    text: str


def choose_time_unit(seconds: float) -> tuple[float, str]:
    """Choose a unit for a duration; return its length in seconds and its name.

    >>> choose_time_unit(90)
    (60.0, 'min')
    """
    return next((unit for unit in TIME_UNITS if seconds >= unit[0]), TIME_UNITS[-1])


def format_duration(seconds: float | None) -> str:
    """Format a duration in the unit that suits it.

    >>> format_duration(5400)
    '1.5 h'
    """
    if seconds is None:
        return MISSING
    size, unit = choose_time_unit(seconds)
    return f"{seconds / size:.3g} {unit}" if seconds < 1000 * size else f"{seconds / size:,.0f} {unit}"


def format_number(value: float | None, digits: int = 4) -> str:
    """Format a number with `digits` significant digits, an integer with all of its digits.

    >>> format_number(0.123456), format_number(500)
    ('0.1235', '500')
    """
    return MISSING if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.{digits}g}"


def format_about(value: float) -> str:
    """Format a mean or an estimate with one decimal place, or with none from 100 on.

    >>> format_about(1.54), format_about(412.3), format_about(12345.0)
    ('1.5', '412', '12,345')
    """
    rounded = round(value + 1e-9, 1)  # the float nearest to 18.15 lies slightly below it
    return f"{rounded:,.1f}" if rounded < 100 else f"{value:,.0f}"


def format_tau(value: float | None) -> str:
    """Format a correlation with two decimal places and a true minus sign.

    >>> format_tau(0.648)
    '0.65'
    """
    return MISSING if value is None else f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def format_interval(low: float | None, high: float | None) -> str:
    """Format the confidence interval of a correlation."""
    return MISSING if low is None or high is None else f"{format_tau(low)} to {format_tau(high)}"


def format_p_value(value: float | None) -> str:
    """Format a p-value.

    >>> format_p_value(0.00001)
    '<0.001'
    """
    return MISSING if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def write_p_value(value: float) -> str:
    """Write a p-value for use in a sentence.

    >>> write_p_value(0.00001), write_p_value(0.25)
    ('p < 0.001', 'p = 0.250')
    """
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def write_tau(found: RankCorrelation) -> str:
    """Write tau-b with its number of models, without an interval: none holds for a tau that was selected."""
    return f"tau-b {format_tau(found.tau)} on {format_count(found.n, 'model')}"


def write_saving(ratio: float, by: str, than: str = " than full training") -> str:
    """Write how much less time a proxy task takes than full training, by a kind of time.

    >>> write_saving(0.5, "by wall time")
    '2.0\N{MULTIPLICATION SIGN} slower than full training by wall time'
    """
    return f"{format_times(max(ratio, 1 / ratio))} {'faster' if ratio >= 1 else 'slower'}{than} {by}"


def format_speedup(ratio: float | None) -> str:
    """Format the ratio of a longer time to a shorter one; a ratio below 1 is no speedup.

    >>> format_speedup(8.26), format_speedup(0.5)
    ('8.3\N{MULTIPLICATION SIGN}', 'none (2.0\N{MULTIPLICATION SIGN} slower)')
    """
    return format_times(ratio) if ratio is None or ratio >= 1 else f"none ({format_times(1 / ratio)} slower)"


def format_times(ratio: float | None) -> str:
    """Format a ratio.

    >>> format_times(8.26)
    '8.3\N{MULTIPLICATION SIGN}'
    """
    if ratio is None:
        return MISSING
    return f"{ratio:.1f}\N{MULTIPLICATION SIGN}" if ratio < 100 else f"{ratio:,.0f}\N{MULTIPLICATION SIGN}"


def format_count(number_of: int, noun: str) -> str:
    """Format a count with its noun, in the plural unless it is 1.

    >>> format_count(1, "model"), format_count(2, "model")
    ('1 model', '2 models')
    """
    return f"{number_of:,} {noun}{'' if number_of == 1 else 's'}"


def format_architecture(choices: Mapping[str, Any]) -> str:
    """Format an architecture in one line.

    >>> format_architecture({"depth": 3, "kernel": 5})
    'depth=3 kernel=5'
    """
    return format_line(" ".join(f"{name}={value}" for name, value in choices.items()))


def format_line(text: str, longest: int | None = None) -> str:
    """Format free text as one line of printable characters, cut to `longest` characters.

    >>> format_line("out of" + chr(10) + "memory", longest=8)
    'out of \N{HORIZONTAL ELLIPSIS}'
    """
    line = "".join(character if character.isprintable() else " " for character in text)
    if longest is None or len(line) <= longest:
        return line
    return line[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"
