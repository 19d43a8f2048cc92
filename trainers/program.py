"""A program beside this process: its output line by line, and an end that leaves none of its processes behind."""

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
"""Leads the program's process group and kills it when its standard input ends, however this process ended."""
LOOK_SECONDS = 0.5
"""Between two looks whether the program has ended while a process that it started keeps its output open."""
STDERR = 2
"""Where the program's goes on to: in a worker, its log."""
KEPT_BYTES = 4000
"""Of the end of what the program wrote to stderr."""


class Program:
    """A running program in a process group of its own, which dies with this process, even with one that is killed.

    Attributes:
        is_stopping: Whether it was asked to end.
    """

    def __init__(
        self, command: Sequence[str], *, environment: Mapping[str, str], working_dir: Path, grace_seconds: float
    ) -> None:
        """Start it.

        Args:
            command: The program and its arguments.
            environment: All of its variables.
            working_dir: Where it runs.
            grace_seconds: Between the request to end and the kill.
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
        """Whether it was asked to end."""
        return self._kill_at is not None

    @property
    def exit_status(self) -> int:
        """How it ended, once `lines` has: negative for the signal that killed it."""
        return self._process.wait()

    @property
    def last_words(self) -> str:
        """The end of what it wrote to stderr."""
        return self._tail.decode(errors="replace").strip()

    def lines(self, look_seconds: float = LOOK_SECONDS) -> Iterator[str | None]:
        """Its output as it comes, until it has ended; stderr goes to this process's own.

        Args:
            look_seconds: Every so often, and at the end, a None is given: a moment to look after other things.

        Yields:
            A line of stdout, or None.
        """
        looked = time.monotonic()
        with selectors.DefaultSelector() as selector:
            for stream in (self._process.stdout, self._process.stderr):
                selector.register(stream, selectors.EVENT_READ)  # type: ignore[arg-type]
            while selector.get_map() or self._process.poll() is None:
                if not selector.get_map():  # it writes into files of its own
                    with suppress(subprocess.TimeoutExpired):
                        self._process.wait(self._patience(look_seconds))
                else:
                    for key, _ in selector.select(self._patience(look_seconds)):
                        yield from self._read(key.fileobj, selector)  # type: ignore[arg-type]
                self._kill_what_lingers()
                if time.monotonic() >= looked + look_seconds:
                    looked = time.monotonic()
                    yield None
        if self._line:
            yield self._line.decode(errors="replace")
        yield None

    def stop(self) -> None:
        """Ask the program and all that it started to end, and kill what has not after `grace_seconds`."""
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

    def _patience(self, seconds: float) -> float:
        left = 0.0 if self._kill_at is None else self._kill_at - time.monotonic()
        return min(seconds, left) if left > 0 else seconds

    def _kill_what_lingers(self) -> None:
        """Kill what outlives the program, or its grace."""
        if self._process.poll() is not None or (self._kill_at is not None and time.monotonic() >= self._kill_at):
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        """The keeper's id is its group's, and cannot be another's before the keeper is waited for."""
        try:
            os.killpg(self._keeper.pid, number)
        except ProcessLookupError:
            return

    def _end_keeper(self) -> None:
        self._keeper.kill()
        self._keeper.wait()
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()
