"""The log of a worker: its output and that of all processes that it starts, bounded to a head and a tail.

The processes of a trial write to the file themselves, which costs nothing and loses nothing in a crash; a thread of the
worker shortens the file in the middle when it has grown beyond its limit. All open it for appending, so that they go on
at the new end.
"""

import os
import re
import threading
import time
from pathlib import Path

from nasproxy.errors import NasproxyError
from nasproxy.storage.files import open_file

KEPT_BYTES = 2**20
"""Bytes that are kept of the beginning of a log, and of its end."""
SPARE_BYTES = 2**21
"""Bytes beyond these before the log is shortened, so that little is copied often."""
POLL_SECONDS = 0.5
"""Seconds between two looks at the size of the log."""
NOTICE = re.compile(rb"\n\[(\d+) bytes of output were left out here\]\n")


def open_log(path: Path) -> int:
    """Open a log for appending and return its descriptor.

    Raises:
        CorruptFileError: There is something else than a regular file at `path`.
    """
    return open_file(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def keep_bounded(path: Path) -> None:
    """Keep a log bounded as long as this process lives, in a thread of its own."""
    threading.Thread(target=_watch, args=(path,), daemon=True, name="log").start()


def bound_log(path: Path) -> None:
    """Shorten a log that is too long: keep its head and its tail, with a line that says how much was left out."""
    try:
        log = open_file(path, os.O_RDWR | os.O_APPEND)
    except (OSError, NasproxyError):
        return  # no worker has written any, or its file system does not answer now
    try:
        size = os.fstat(log).st_size
        if size <= 2 * KEPT_BYTES + SPARE_BYTES:
            return
        earlier = NOTICE.match(os.pread(log, 100, KEPT_BYTES))
        left_out = size - 2 * KEPT_BYTES
        if earlier is not None:
            left_out += int(earlier[1]) - len(earlier[0])
        tail = os.pread(log, KEPT_BYTES, size - KEPT_BYTES)
        # What is written between the next two lines is lost; what is written later follows.
        tail += os.pread(log, KEPT_BYTES, size)
        os.ftruncate(log, KEPT_BYTES)
        os.write(log, b"\n[%d bytes of output were left out here]\n" % left_out + tail)
    finally:
        os.close(log)


def _watch(path: Path) -> None:
    while True:
        time.sleep(POLL_SECONDS)
        bound_log(path)
