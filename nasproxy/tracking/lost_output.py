"""Standard output that can no longer be written: a study goes on without it, and the command's exit status says so."""

import os
import sys
from contextlib import suppress

_error: OSError | None = None


def discard_output(error: OSError) -> None:
    """Send to the null device what this process and its children still write to standard output.

    Otherwise what could not be written raises the error again wherever the stream is flushed, which Python does
    at each start of a worker.

    Args:
        error: The error of writing to it.
    """
    global _error
    _error = _error or error
    try:
        number = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):  # a stream of a notebook or a test, which is no file
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    os.close(null)


def is_full(error: OSError) -> bool:
    """Return whether an error says that the disk of an open stream is full; that of a file is a `StorageFullError`."""
    from nasproxy.storage.files import FULL  # slow to import, and the command asks about every stream at its end

    return error.errno in FULL and error.filename is None


def find_lost_output() -> OSError | None:
    """Return the error after which standard output was discarded; None if it was not."""
    return _error


def print_error(text: str) -> None:
    """Print a line to standard error at once; if that cannot be written, the exit status alone tells."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def print_line(text: str) -> None:
    """Print a line at once, unless standard output cannot be written."""
    try:
        print(text, flush=True)
    except OSError as error:
        discard_output(error)
