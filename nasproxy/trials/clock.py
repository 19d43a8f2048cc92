"""Time as an argument, so that tests and replays need not wait for it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

SAVING_SHARE = 0.02
"""Of the time between two checkpoints, what saving one may take."""


class Clock(Protocol):
    """Where seconds come from."""

    def now(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        ...


class SystemClock:
    """The machine's own monotonic clock."""

    def now(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        time.sleep(seconds)


class VirtualClock:
    """A clock that moves only when told; sleeping moves it."""

    def __init__(self, start: float = 0.0) -> None:
        self.seconds = start

    def now(self) -> float:
        """Seconds since the start."""
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Move the clock by `seconds`."""
        self.seconds += seconds


class Stopwatch:
    """Adds up the seconds of training while it runs; paused for validation."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._seconds = 0.0
        self._started: float | None = None

    def start(self) -> None:
        """Begin or continue to count; nothing happens if it already counts."""
        if self._started is None:
            self._started = self._clock.now()

    def pause(self) -> None:
        """Stop counting; nothing happens if it does not count."""
        if self._started is not None:
            self._seconds += self._clock.now() - self._started
            self._started = None

    @property
    def seconds(self) -> float:
        """Seconds counted since the last lap."""
        return self._seconds + (0.0 if self._started is None else self._clock.now() - self._started)

    def add(self, seconds: float) -> None:
        """Count seconds that passed elsewhere."""
        self._seconds += seconds

    def lap(self) -> float:
        """Seconds counted since the last lap; the count goes on as it was."""
        running = self._started is not None
        self.pause()
        seconds, self._seconds = self._seconds, 0.0
        if running:
            self.start()
        return seconds


class SavingTimer:
    """Says when another checkpoint is worth its time: it is so old, and saving takes little of what lies between."""

    def __init__(self, every_seconds: float, clock: Clock | None = None) -> None:
        self._every_seconds = every_seconds
        self._clock = clock or SystemClock()
        self._saved_at = self._clock.now()
        self._took = 0.0

    def is_due(self) -> bool:
        """Whether the last one is old enough."""
        return self._clock.now() - self._saved_at >= max(self._every_seconds, self._took / SAVING_SHARE)

    def restart(self) -> None:
        """Training has just begun."""
        self._saved_at = self._clock.now()

    @contextmanager
    def saving(self) -> Iterator[None]:
        """A checkpoint is saved within this block."""
        began = self._clock.now()
        yield
        self._saved_at = self._clock.now()
        self._took = self._saved_at - began
