"""What a search space searches: architectures, augmentation, or both."""

from collections.abc import Collection, Iterable
from enum import Enum


class SearchKind(str, Enum):
    """What the choices of a space decide."""

    ARCHITECTURE = "architecture"
    AUGMENTATION = "augmentation"
    BOTH = "architecture and augmentation"


def find_search_kind(choices: Iterable[str], augmentation: Collection[str]) -> SearchKind:
    """Find what choices decide.

    Args:
        choices: Paths of the choices.
        augmentation: Paths of the choices, or of groups of choices, that decide augmentation.

    >>> find_search_kind(["policy.0.op", "depth"], ["policy"]).value
    'architecture and augmentation'
    """
    decides = [any(is_within(choice, path) for path in augmentation) for choice in choices]
    if not any(decides):
        return SearchKind.ARCHITECTURE
    return SearchKind.AUGMENTATION if all(decides) else SearchKind.BOTH


def is_within(choice: str, path: str) -> bool:
    """Return whether a choice has this path, or lies in the group of this path."""
    return choice == path or choice.startswith(f"{path}.")
