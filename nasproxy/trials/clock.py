"""Clocks that are passed as arguments, so that tests and replays run without waiting."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

SAVING_SHARE = 0.02
"""Largest share of the time between two checkpoints that saving one may take."""


class Clock(Protocol):
    """Source of time, in seconds."""

    def now(self) -> float:
        """Return the seconds since a fixed moment; never decreases."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""
        ...


class SystemClock:
    """The machine's monotonic clock."""

    def now(self) -> float:
        """Return the seconds since a fixed moment; never decreases."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""
        time.sleep(seconds)


class VirtualClock:
    """A clock that only `sleep` advances."""

    def __init__(self, start: float = 0.0) -> None:
        self.seconds = start

    def now(self) -> float:
        """Return the current value of the clock, in seconds."""
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Advance the clock by `seconds`."""
        self.seconds += seconds


class Stopwatch:
    """Measures the seconds of training; paused during validation."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._seconds = 0.0
        self._started: float | None = None

    def start(self) -> None:
        """Start or continue counting; does nothing while it is running."""
        if self._started is None:
            self._started = self._clock.now()

    def pause(self) -> None:
        """Stop counting; does nothing while it is paused."""
        if self._started is not None:
            self._seconds += self._clock.now() - self._started
            self._started = None

    @property
    def seconds(self) -> float:
        """Seconds counted since the last lap."""
        return self._seconds + (0.0 if self._started is None else self._clock.now() - self._started)

    def add(self, seconds: float) -> None:
        """Add seconds that were measured elsewhere, such as in an earlier attempt."""
        self._seconds += seconds

    def lap(self) -> float:
        """Return the seconds counted since the last lap and restart the count; stays running or paused."""
        running = self._started is not None
        self.pause()
        seconds, self._seconds = self._seconds, 0.0
        if running:
            self.start()
        return seconds


class SavingTimer:
    """Decides when to save the next checkpoint, so that saving takes at most `SAVING_SHARE` of the time.

    Args:
        every_seconds: Shortest time between two checkpoints, in seconds.
        clock: Source of time; None for the machine's own.
    """

    def __init__(self, every_seconds: float, clock: Clock | None = None) -> None:
        self._every_seconds = every_seconds
        self._clock = clock or SystemClock()
        self._saved_at = self._clock.now()
        self._saving_seconds = 0.0

    def is_due(self) -> bool:
        """Return whether the last checkpoint is old enough."""
        return self._clock.now() - self._saved_at >= max(self._every_seconds, self._saving_seconds / SAVING_SHARE)

    def restart(self) -> None:
        """Count from now, because training has just begun."""
        self._saved_at = self._clock.now()

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Measure how long the block, which saves a checkpoint, takes."""
        began = self._clock.now()
        yield
        self._saved_at = self._clock.now()
        self._saving_seconds = self._saved_at - began
