"""Architectures that the model node of a search space fixes, in nested notation."""

from collections.abc import Mapping
from typing import Any

from nasproxy.trials.overrides import flatten, number_lists
from nasproxy.trials.spec import Choice


def spell_out(fixed: Mapping[str, Any]) -> dict[str, Choice]:
    """Flatten a nested architecture to choices by path.

    Args:
        fixed: Nested mappings and lists, or choices by path.

    >>> spell_out({"stem": {"kernel": 3}, "levels": [2, 4]})
    {'stem.kernel': 3, 'levels.0': 2, 'levels.1': 4}
    """
    return flatten(number_lists(fixed))
