"""An architecture that a search space's model node holds fixed, as people write it."""

from collections.abc import Mapping
from typing import Any

from nasproxy.trials.overrides import flatten, number_lists
from nasproxy.trials.spec import Choice


def spell_out(fixed: Mapping[str, Any]) -> dict[str, Choice]:
    """Write an architecture by path, as builders take it.

    Args:
        fixed: Nested mappings and lists, or paths.

    >>> spelled_out({"stem": {"kernel": 3}, "levels": [2, 4]})
    {'stem.kernel': 3, 'levels.0': 2, 'levels.1': 4}
    """
    return flatten(number_lists(fixed))
