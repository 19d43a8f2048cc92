"""Show a study's progress on the console."""

import atexit
import sys

import rich.console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nasproxy.statistics.acceptance import Grade
from nasproxy.tracking.events import (
    DecisionTaken,
    Event,
    Noted,
    Progress,
    ReportWritten,
    StageProgressed,
    TrackerFailed,
)
from nasproxy.tracking.lost_output import discard_output
from nasproxy.tracking.standard_output import StandardOutput
from nasproxy.trials.clock import Clock, SystemClock

LINE_SECONDS = 10.0
"""Minimum time between two lines of the same stage if the output is not a terminal."""
GRADE_STYLES = {Grade.STRONG: "bold green", Grade.MODERATE: "bold yellow", Grade.WEAK: "bold red"}
DRAW_SECONDS = 0.25
"""Minimum time between two redraws of the live display."""


class StepRate:
    """Training speed of a stage, measured over the steps that this process has observed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.now()
        self._gained = 0
        self._last: Progress | None = None

    def see(self, progress: Progress) -> None:
        """Update with the stage's current progress."""
        if self._last is None or self._last.stage != progress.stage:
            self._began = self._clock.now()
            self._gained = 0
        elif self._last.detail == progress.detail:
            # When the detail changes, other trials are counted, and some of them were trained earlier.
            self._gained += max(0, progress.steps_done - self._last.steps_done)
        self._last = progress

    @property
    def elapsed_seconds(self) -> float:
        """Seconds since this process first observed the stage."""
        return self._clock.now() - self._began

    @property
    def seconds_left(self) -> float | None:
        """Upper estimate of the remaining seconds at the speed so far; None before the first step."""
        if self._last is None or self._gained == 0:
            return None
        steps_left = max(0, self._last.steps_total - self._last.steps_done)
        return steps_left * self.elapsed_seconds / self._gained


class Console:
    """Shows a live display on a terminal, and prints plain lines to any other output."""

    def __init__(
        self,
        *,
        console: rich.console.Console | None = None,
        live: bool | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Create a tracker that has printed nothing yet.

        Args:
            console: Console to write to; None for standard output.
            live: Whether to redraw in place; None to do so if the output is a terminal. Must be False for jobs
                that share a terminal.
            clock: Clock that measures elapsed time.
        """
        self._console = console or StandardOutput()
        self._is_live = _is_terminal(self._console) if live is None else live
        self._clock = clock or SystemClock()
        self._rate = StepRate(self._clock)
        self._live: Live | None = None
        self._shown: tuple[Progress, int] | None = None
        self._shown_at = 0.0

    def receive(self, event: Event) -> None:
        """Show progress, and print messages above it; other events have none, or are counted in the progress.

        Raises:
            OSError: Standard output cannot be written; it is discarded from then on.
        """
        try:
            self._render(event)
        except OSError as error:
            if self._console.file is sys.stdout:
                discard_output(error)
            raise

    def _render(self, event: Event) -> None:
        match event:
            case StageProgressed():
                self._show(event.progress, event.running)
            case Noted(message) | TrackerFailed(message=message) | DecisionTaken(message=str(message)):
                self._print(message)
            case ReportWritten():
                self._print_verdict(event)
                self._print(f"report: {event.path}")

    def close(self) -> None:
        """Stop the live display and restore the terminal."""
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()
            atexit.unregister(self.close)

    def _show(self, progress: Progress, running: int) -> None:
        """Show the stage's progress, unless it was shown just before."""
        self._rate.see(progress)
        now, current = self._clock.now(), (progress, running)
        if not self._is_due(now, current):
            return
        self._shown, self._shown_at = current, now
        if self._is_live:
            self._draw(progress, running)
        else:
            self._print(self._make_line(progress, running))

    def _is_due(self, now: float, current: tuple[Progress, int]) -> bool:
        if self._shown is None or _identify_activity(self._shown[0]) != _identify_activity(current[0]):
            return True
        if self._is_live:
            return now - self._shown_at >= DRAW_SECONDS
        return now - self._shown_at >= LINE_SECONDS and current != self._shown

    def _draw(self, progress: Progress, running: int) -> None:
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            # The cursor must be shown again if the program ends without closing the tracker.
            atexit.register(self.close)
            self._live.start()
        self._live.update(self._make_display(progress, running), refresh=True)

    def _make_display(self, progress: Progress, running: int) -> Table:
        facts = ", ".join(_list_facts(progress, running))
        display = Table.grid(expand=False)
        display.add_row(Text(f"{_format_title(progress)}  {facts}", no_wrap=True, overflow="ellipsis"))
        bar = Table.grid(padding=(0, 1))
        total = max(1, progress.steps_total)
        done = min(progress.steps_done, total)
        share = Text(f"{done / total:4.0%}  {self._format_times()}", no_wrap=True, overflow="ellipsis")
        bar.add_row(ProgressBar(total=total, completed=done, width=30), share)
        display.add_row(bar)
        return display

    def _make_line(self, progress: Progress, running: int) -> str:
        steps = f"{progress.steps_done}/{progress.steps_total} steps"
        return ", ".join([_format_title(progress), *_list_facts(progress, running), steps, self._format_times()])

    def _format_times(self) -> str:
        elapsed, left = self._rate.elapsed_seconds, self._rate.seconds_left
        return f"{_format_duration(elapsed)} elapsed" + (
            "" if left is None else f", at most {_format_duration(left)} left"
        )

    def _print_verdict(self, report: ReportWritten) -> None:
        """Print the verdict; on a terminal the word of its grade has a colour."""
        text = Text(report.verdict)
        if report.accepted is not None:
            grade = report.accepted.grade
            text.highlight_regex(rf"(?<=, grade ){grade.value}(?=, stopped)", GRADE_STYLES[grade])
        self._console.print(text, soft_wrap=True)
        self._console.file.flush()

    def _print(self, text: str) -> None:
        # A Text, not a string: brackets in messages are not markup.
        self._console.print(Text(text), soft_wrap=True)
        self._console.file.flush()


def _is_terminal(console: rich.console.Console) -> bool:
    # Check the file too: forced colours make a console interactive even if it writes to a log file.
    return console.is_interactive and console.file.isatty()


def _identify_activity(progress: Progress) -> tuple[str, str]:
    return progress.stage, progress.detail


def _format_title(progress: Progress) -> str:
    return f"{progress.stage}: {progress.detail}" if progress.detail else progress.stage


def _list_facts(progress: Progress, running: int) -> list[str]:
    facts = [f"{progress.trials_done}/{progress.trials_total} trials", f"{running} running"]
    return facts if progress.tau is None else [*facts, f"tau {progress.tau:.2f}"]


def _format_duration(seconds: float) -> str:
    """Format seconds as hours, minutes and seconds.

    >>> _format_duration(3725.4), _format_duration(9)
    ('1:02:05', '0:09')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
