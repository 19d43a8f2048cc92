"""Suggestions for misspelt names in error messages."""

import difflib
from collections.abc import Collection, Sequence

SHOWN_NAMES = 12
"""Maximum number of names that a message lists."""


def find_nearest(name: str, names: Collection[str]) -> str | None:
    """Find the name with the most similar spelling or beginning; None if none is similar.

    >>> find_nearest("totalsteps", ["seed", "total_steps"]), find_nearest("search", ["search_proxy_task"])
    ('total_steps', 'search_proxy_task')
    """
    letters, by_letters = _letters(name), {_letters(other): other for other in names}
    longer = [other for other in by_letters if len(letters) > 1 and other.startswith(letters)]
    nearest = difflib.get_close_matches(letters, by_letters, n=1) or longer
    return by_letters[nearest[0]] if nearest else None


def list_names(names: Sequence[str]) -> str:
    """Join names with commas; of a long list, only the first ones.

    >>> list_names(["a", "b"])
    'a, b'
    """
    more = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def _letters(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()
