"""Subprocesses in their own process group: output line by line, and termination of the whole group."""

import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

KEEPER = "trap '' TERM; read -r _; kill -KILL 0"
"""Leader of the program's process group; kills the group when its standard input closes as this process ends."""
POLL_SECONDS = 0.5
"""Seconds between two polls of the program, whose output a child process may keep open after it ends."""
STDERR = 2
"""File descriptor that the program's stderr is forwarded to: the log, in a worker."""
KEPT_BYTES = 4000
"""Bytes of the end of the program's stderr that are kept."""


class Program:
    """A running program in its own process group, which ends with this process, even if this process is killed."""

    def __init__(
        self, command: Sequence[str], *, environment: Mapping[str, str], working_dir: Path, grace_seconds: float
    ) -> None:
        """Start the program.

        Args:
            command: Program and arguments.
            environment: All environment variables of the program.
            working_dir: Working directory of the program.
            grace_seconds: Seconds from SIGTERM to SIGKILL.
        """
        self._grace_seconds = grace_seconds
        self._kill_at: float | None = None
        self._tail = b""
        self._line = b""
        self._keeper = subprocess.Popen(
            ["/bin/sh", "-c", KEEPER], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, preexec_fn=os.setpgrp
        )
        group = self._keeper.pid
        try:
            self._process = subprocess.Popen(
                list(command),
                env=dict(environment),
                cwd=working_dir,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                preexec_fn=lambda: os.setpgid(0, group),
            )
        except BaseException:
            self._end_keeper()
            raise

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._kill_at is not None

    @property
    def exit_status(self) -> int:
        """Exit status after `lines` is exhausted; negative for the signal that killed the program."""
        return self._process.wait()

    @property
    def stderr_tail(self) -> str:
        """End of the program's stderr."""
        return self._tail.decode(errors="replace").strip()

    def lines(self, poll_seconds: float = POLL_SECONDS) -> Iterator[str | None]:
        """Yield the lines of stdout until the program ends; stderr is forwarded to that of this process.

        Args:
            poll_seconds: Seconds between two None that are yielded, also at the end, so that the caller can poll.

        Yields:
            A line of stdout, or None.
        """
        polled = time.monotonic()
        with selectors.DefaultSelector() as selector:
            for stream in (self._process.stdout, self._process.stderr):
                selector.register(stream, selectors.EVENT_READ)  # type: ignore[arg-type]
            while selector.get_map() or self._process.poll() is None:
                if not selector.get_map():  # both streams are closed
                    with suppress(subprocess.TimeoutExpired):
                        self._process.wait(self._compute_timeout(poll_seconds))
                else:
                    for key, _ in selector.select(self._compute_timeout(poll_seconds)):
                        yield from self._read(key.fileobj, selector)  # type: ignore[arg-type]
                self._kill_remaining()
                if time.monotonic() >= polled + poll_seconds:
                    polled = time.monotonic()
                    yield None
        if self._line:
            yield self._line.decode(errors="replace")
        yield None

    def stop(self) -> None:
        """Send SIGTERM to the process group, and SIGKILL after `grace_seconds`."""
        if self._kill_at is None:
            self._kill_at = time.monotonic() + self._grace_seconds
            self._signal(signal.SIGTERM)

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._end_keeper()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def _read(self, stream: IO[bytes], selector: selectors.BaseSelector) -> Iterator[str]:
        chunk = os.read(stream.fileno(), 65536)
        if not chunk:
            selector.unregister(stream)
        elif stream is self._process.stderr:
            os.write(STDERR, chunk)
            self._tail = (self._tail + chunk)[-KEPT_BYTES:]
        else:
            *lines, self._line = re.split(rb"\r?\n|\r", self._line + chunk)
            yield from (line.decode(errors="replace") for line in lines)

    def _compute_timeout(self, seconds: float) -> float:
        left = 0.0 if self._kill_at is None else self._kill_at - time.monotonic()
        return min(seconds, left) if left > 0 else seconds

    def _kill_remaining(self) -> None:
        """Kill the process group after the program has ended or its grace period is over."""
        if self._process.poll() is not None or (self._kill_at is not None and time.monotonic() >= self._kill_at):
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        """Send a signal to the process group; its id cannot be reused before the keeper is waited for."""
        try:
            os.killpg(self._keeper.pid, number)
        except ProcessLookupError:
            return

    def _end_keeper(self) -> None:
        self._keeper.kill()
        self._keeper.wait()
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()
