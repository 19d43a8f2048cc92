"""A file of whole lines that the jobs of a sweep append to, one at a time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nasproxy.storage.files import append_line
from nasproxy.storage.leases import Lease


class SharedLines:
    """Reads only what is new, and appends whole lines; a line cut short by a kill never counts.

    Not for several threads at once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_to = 0

    @contextmanager
    def turn(self) -> Iterator[list[str]]:
        """Keep all others from appending; gives the lines that others wrote since the last turn."""
        lease = Lease(self.path.with_name(f".{self.path.name}.lock"))
        with lease.hold(str(self.path), wait_seconds=None):
            yield self._new_lines()

    def append(self, lines: Sequence[str]) -> None:
        """Append lines in one write, during a turn."""
        if lines:
            append_line(self.path, "\n".join(lines))
            self._read_to = self.path.stat().st_size

    def _new_lines(self) -> list[str]:
        try:
            with self.path.open("rb") as file:
                file.seek(self._read_to)
                content = file.read()
        except FileNotFoundError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self._read_to += len(whole)
        # Only \n ends a line: splitlines would also split at separators inside of texts.
        return whole.decode("utf-8").split("\n")[:-1]
