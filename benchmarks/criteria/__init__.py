"""The compared criteria: those of `conf/criterion`, and two for comparison only."""

from collections.abc import Callable

from benchmarks.criteria.alpha_spending import AlphaSpending
from benchmarks.criteria.weak_prior import WeakPrior
from nasproxy.statistics.acceptance import Criterion
from nasproxy.statistics.criteria.first_crossing import FirstCrossing
from nasproxy.statistics.criteria.group_sequential import GroupSequential

CRITERIA: dict[str, Callable[[float], Criterion]] = {
    "first_crossing": lambda target: FirstCrossing(target=target),
    "weak_prior": lambda target: WeakPrior(target=target),
    "alpha_spending": lambda target: AlphaSpending(target=target),
    "group_sequential": lambda target: GroupSequential(target=target),
}
"""Constructors by name, with the target as the argument and defaults otherwise."""
