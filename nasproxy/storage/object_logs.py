"""Lines that several processes add and read from where they were: an object for each addition, named by its number."""

from collections.abc import Sequence

from nasproxy.storage.objects import Objects, VersionConflictError

DIGITS = 12
"""Digits of a number in a name, so that names sort as numbers do."""


class ObjectLog:
    """Additions in order; a reader's cost follows what is new to it.

    Args:
        objects: Where it is.
        name: Its name, below which the objects lie.
    """

    def __init__(self, objects: Objects, name: str) -> None:
        self._objects = objects
        self._name = name
        self._last = 0

    def append(self, content: bytes) -> None:
        """Add an object after the last one."""
        while True:
            try:
                self._objects.put(self._place(self._last + 1), content, replaces=None)
            except VersionConflictError:
                self._last = self.find_last()
                continue
            self._last += 1
            return

    def read(self, after: int = 0) -> tuple[Sequence[bytes], int]:
        """Read what was added after a number that an earlier call returned.

        Returns:
            The additions, and the number of the last one.
        """
        names = self._list(after)
        found = [self._objects.get(name) for name in names]
        return [each.content for each in found if each is not None], self._read_number(names, after)

    def find_last(self) -> int:
        """Find the number of the last addition, from the last one that is known on; 0 without any."""
        return self._read_number(self._list(self._last), self._last)

    def _read_number(self, names: Sequence[str], before: int) -> int:
        return int(names[-1].removeprefix(f"{self._name}/")) if names else before

    def _list(self, after: int) -> list[str]:
        return self._objects.list_names(f"{self._name}/", after=self._place(after))

    def _place(self, number: int) -> str:
        return f"{self._name}/{number:0{DIGITS}d}"
