"""How far a study is, on the terminal that runs it."""

import atexit
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import rich.console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nasproxy.tracking.standard_output import StandardOutput
from nasproxy.tracking.tracker import Progress
from nasproxy.trials.clock import Clock, SystemClock
from nasproxy.trials.records import TrialRecord
from nasproxy.trials.spec import TrialSpec

LINE_SECONDS = 10.0
"""Between two lines of the same stage where the output is no terminal."""
DRAW_SECONDS = 0.25
"""Between two redraws of the live display."""


class StepRate:
    """How fast a stage trains, judged by what this process has seen of it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.now()
        self._gained = 0
        self._last: Progress | None = None

    def see(self, progress: Progress) -> None:
        """Take note of where the stage is now."""
        if self._last is None or self._last.stage != progress.stage:
            self._began = self._clock.now()
            self._gained = 0
        elif self._last.detail == progress.detail:
            # Where the detail changes, other trials are counted, and some were trained long ago.
            self._gained += max(0, progress.steps_done - self._last.steps_done)
        self._last = progress

    @property
    def elapsed_seconds(self) -> float:
        """Since this process first saw the stage."""
        return self._clock.now() - self._began

    @property
    def seconds_left(self) -> float | None:
        """At most, at the pace so far; None before the first step."""
        if self._last is None or self._gained == 0:
            return None
        steps_left = max(0, self._last.steps_total - self._last.steps_done)
        return steps_left * self.elapsed_seconds / self._gained


class Console:
    """Shows a live display on a terminal, and plain lines anywhere else."""

    def __init__(
        self,
        *,
        console: rich.console.Console | None = None,
        live: bool | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Show nothing yet.

        Args:
            console: Where to write; None for standard output.
            live: Whether to redraw in place; None where the output is a terminal. Jobs that share a
                terminal must not.
            clock: Where seconds come from.
        """
        self._console = console or StandardOutput()
        self._is_live = _is_terminal(self._console) if live is None else live
        self._clock = clock or SystemClock()
        self._pace = StepRate(self._clock)
        self._live: Live | None = None
        self._shown: tuple[Progress, int] | None = None
        self._shown_at = 0.0

    def progress(self, progress: Progress, running: Set[str]) -> None:
        """Show how far the stage is, unless it was shown a moment ago."""
        self._pace.see(progress)
        now, present = self._clock.now(), (progress, len(running))
        if not self._is_due(now, present):
            return
        self._shown, self._shown_at = present, now
        if self._is_live:
            self._draw(progress, len(running))
        else:
            self._print(self._line(progress, len(running)))

    def trial(self, spec: TrialSpec, record: TrialRecord) -> None:
        """Nothing to show: the next progress counts it."""

    def say(self, message: str) -> None:
        """Print a line, above the live display."""
        self._print(message)

    def decided(self, state: object) -> None:
        """Do nothing: decisions are told in words."""

    def result(self, tables: Mapping[str, Sequence[Mapping[str, Any]]], pictures: Sequence[Path]) -> None:
        """Nothing to show: the report holds them."""

    def close(self) -> None:
        """Leave the terminal as it was found."""
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()
            atexit.unregister(self.close)

    def _is_due(self, now: float, present: tuple[Progress, int]) -> bool:
        if self._shown is None or _place(self._shown[0]) != _place(present[0]):
            return True
        if self._is_live:
            return now - self._shown_at >= DRAW_SECONDS
        return now - self._shown_at >= LINE_SECONDS and present != self._shown

    def _draw(self, progress: Progress, running: int) -> None:
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            # A hidden cursor must not outlive a program that ends without closing.
            atexit.register(self.close)
            self._live.start()
        self._live.update(self._display(progress, running), refresh=True)

    def _display(self, progress: Progress, running: int) -> Table:
        facts = ", ".join(_facts(progress, running))
        display = Table.grid(expand=False)
        display.add_row(Text(f"{_title(progress)}  {facts}", no_wrap=True, overflow="ellipsis"))
        bar = Table.grid(padding=(0, 1))
        total = max(1, progress.steps_total)
        done = min(progress.steps_done, total)
        share = Text(f"{done / total:4.0%}  {self._times()}", no_wrap=True, overflow="ellipsis")
        bar.add_row(ProgressBar(total=total, completed=done, width=30), share)
        display.add_row(bar)
        return display

    def _line(self, progress: Progress, running: int) -> str:
        steps = f"{progress.steps_done}/{progress.steps_total} steps"
        return ", ".join([_title(progress), *_facts(progress, running), steps, self._times()])

    def _times(self) -> str:
        elapsed, left = self._pace.elapsed_seconds, self._pace.seconds_left
        return f"{_duration(elapsed)} elapsed" + ("" if left is None else f", at most {_duration(left)} left")

    def _print(self, text: str) -> None:
        # A Text, not a string: brackets in messages are no markup.
        self._console.print(Text(text), soft_wrap=True)
        self._console.file.flush()


def _is_terminal(console: rich.console.Console) -> bool:
    # Asks the file too: colours forced on a log file do not make it a terminal.
    return console.is_interactive and console.file.isatty()


def _place(progress: Progress) -> tuple[str, str]:
    return progress.stage, progress.detail


def _title(progress: Progress) -> str:
    return f"{progress.stage}: {progress.detail}" if progress.detail else progress.stage


def _facts(progress: Progress, running: int) -> list[str]:
    facts = [f"{progress.trials_done}/{progress.trials_total} trials", f"{running} running"]
    return facts if progress.tau is None else [*facts, f"tau {progress.tau:.2f}"]


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> _duration(3725.4), _duration(9)
    ('1:02:05', '0:09')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
