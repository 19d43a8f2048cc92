"""A file of complete lines, to which the jobs of a sweep append one at a time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nasproxy.storage.files import append_line, get_size, read_from
from nasproxy.storage.locks import FileLock


class SharedLines:
    """Appends complete lines and reads the new lines of other processes; a line truncated by a kill is ignored.

    Not thread-safe.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_to = 0

    @contextmanager
    def turn(self) -> Iterator[list[str]]:
        """Hold the exclusive right to append; yields the lines that others wrote since the last turn."""
        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        with lock.hold(str(self.path), wait_seconds=None):
            yield self._read_new_lines()

    def append(self, lines: Sequence[str]) -> None:
        """Append lines in one write; only valid during a turn."""
        if lines:
            append_line(self.path, "\n".join(lines))
            self._read_to = get_size(self.path)

    def _read_new_lines(self) -> list[str]:
        content = read_from(self.path, self._read_to)
        whole = content[: content.rfind(b"\n") + 1]
        self._read_to += len(whole)
        # Only \n ends a line: splitlines would also split at separators inside strings.
        return whole.decode("utf-8").split("\n")[:-1]
