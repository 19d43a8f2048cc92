"""Reports of a program, as lines of JSON, and their conversion to checks."""

import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from nasproxy.errors import ContractError, NasproxyError, NonFiniteScoreError
from nasproxy.execution.worker.context import TrialContext
from nasproxy.storage.trial_files import read_last_step, read_reported_checks
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.training.reporting import check_metrics, record_check, write_latency
from nasproxy.trials.check_steps import expect_next_step

NOT_METRICS = ("step", "train_seconds", "latency_ms")
"""Numbers of a report that are no metrics."""


class ProgramError(ContractError):
    """A program ended before its training, or gave an invalid report."""


class ScheduleError(ProgramError):
    """A program ended before its last step without a check, or trained on after it."""


class ProgramExitError(NasproxyError):
    """A program ended with an exit status other than 0, or by a signal."""


class LostReportError(NasproxyError):
    """A program resumed from a checkpoint beyond its last recorded check, whose report was lost with its reader."""


@dataclass(frozen=True)
class Report:
    """One check that a program reports.

    Attributes:
        step: Finished optimizer steps; 0 before training.
        metrics: Validation metrics by name, the study's metric among them; None (JSON null) for NaN.
        train_seconds: Training seconds since the start of the program, validation excluded; None uses the wall-clock
            time between reports.
        latency_ms: Latency of the model; None if not measured.
    """

    step: int
    metrics: Mapping[str, float | None]
    train_seconds: float | None = None
    latency_ms: float | None = None


@dataclass(frozen=True)
class ReportedFailure:
    """A failure of the model that a program reports: out of memory or diverged."""

    failure: Literal["oom", "nan"]
    message: str = ""


def read_line(line: str, metric: str) -> Report | ReportedFailure | None:
    """Parse a line of output; None if it is not a report.

    A report has a step and the study's metric; further numbers of it are metrics too.

    Args:
        line: The line.
        metric: Name of the study's metric.

    Raises:
        ProgramError: The line is a report with values of the wrong type.
    """
    content = _read_object(line)
    if content is None:
        return None
    if "failure" in content:
        return _validate(ReportedFailure, content, content, metric)
    if not {"step", metric} <= set(content):
        return None
    known = {name: content[name] for name in NOT_METRICS if name in content}
    metrics = {name: value for name, value in content.items() if name == metric or _is_metric(name, value)}
    return _validate(Report, {**known, "metrics": metrics}, content, metric)


def list_numbers(line: str) -> list[str]:
    """List the names of the numbers in a line that has a step, without those that are no metrics."""
    content = _read_object(line) or {}
    return [name for name, value in content.items() if "step" in content and _is_metric(name, value)]


def _read_object(line: str) -> dict[str, Any] | None:
    try:
        content = json.loads(line) if line.lstrip().startswith("{") else None
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _is_metric(name: str, value: object) -> bool:
    return name not in NOT_METRICS and isinstance(value, int | float) and not isinstance(value, bool)


Kind = TypeVar("Kind", Report, ReportedFailure)


def _validate(kind: type[Kind], fields: Mapping[str, object], content: dict[str, object], metric: str) -> Kind:
    try:
        return TypeAdapter(kind).validate_python(fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise ProgramError(
            f'the program must report lines such as {{"step": 10, "{metric}": 0.5}} or {{"failure": "oom"}}, got '
            f"{json.dumps(content)}: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from None


def make_length_error(total_steps: int, step: int) -> ScheduleError:
    """Make the error of a program that trains on after its last step."""
    return ScheduleError(
        f"the program must end after step {total_steps}, got a report of step {step}: pass it {{total_steps}}, and let "
        f"it end there"
    )


class Checks:
    """Records the checks that a program reports, at any steps.

    Known checks are ignored, since a program that resumes from a checkpoint may repeat some.
    """

    def __init__(self, trial: TrialContext, *, is_fresh: bool) -> None:
        """Start from the recorded checks.

        Args:
            trial: Trial that the program trains.
            is_fresh: Whether the program starts without a checkpoint.
        """
        self._trial = trial
        self._is_fresh = is_fresh
        self._first = self.step
        self._reported: int | None = None
        self._seconds = 0.0
        self._since = time.monotonic()
        self._unread: list[str] = []

    @property
    def step(self) -> int:
        """Step of the last recorded check."""
        return read_last_step(TrialFolder(self._trial.model_dir))

    @property
    def has_any(self) -> bool:
        """Whether a check is recorded, perhaps one of step 0."""
        return bool(read_reported_checks(TrialFolder(self._trial.model_dir).metrics))

    @property
    def has_grown(self) -> bool:
        """Whether checks were recorded since the start."""
        return self.step > self._first

    def begin(self) -> None:
        """Prepare for the first report of another run of the program."""
        self._reported, self._seconds, self._since = None, 0.0, time.monotonic()

    def recover(self, lines: list[str]) -> None:
        """Record unread reports of earlier runs of the program."""
        for line in lines:
            report = read_line(line, self._trial.objective.name)
            if isinstance(report, Report):
                if report.step <= (-1 if self._reported is None else self._reported):
                    self.begin()
                self._add(report)
        self.begin()

    def take(self, line: str, *, only_failures: bool = False) -> bool:
        """Record the report of a line, if it is one.

        Args:
            line: Line of the program's output.
            only_failures: Whether to ignore checks, because they are reported elsewhere.

        Returns:
            Whether the line is a report of a check.

        Raises:
            ProgramError: The report is invalid.
            NonFiniteScoreError: The score is not finite, or the program reported `nan`.
            MemoryError: The program reported `oom`.
            LostReportError: The program resumed beyond the check that was expected next.
        """
        report = None if only_failures and '"failure"' not in line else read_line(line, self._trial.objective.name)
        if isinstance(report, ReportedFailure):
            raise (MemoryError if report.failure == "oom" else NonFiniteScoreError)(report.message or report.failure)
        if report is None and not only_failures:
            self._unread = list_numbers(line) or self._unread
        if report is None or only_failures:
            return False
        if report.step <= (-1 if self._reported is None else self._reported):
            raise ProgramError(
                f"the program must report increasing steps, got step {report.step} after step {self._reported or 0}: "
                f"report the number of finished steps"
            )
        self._add(report)
        return True

    @property
    def lacks_metric(self) -> bool:
        """Whether lines would be reports if they held the study's metric."""
        return bool(self._unread)

    @property
    def hint(self) -> str:
        """What a report is, if the program made none; empty if it made one."""
        metric = self._trial.objective.name
        if self._reported is not None or self.has_grown:  # the hooks record without a line
            return ""
        if not self._unread:
            return f'; no report was read, such as the line {{"step": 10, "{metric}": 0.5}}'
        return (
            f"; lines with a step hold {', '.join(self._unread)}, and the study's metric is "
            f"{metric}: choose one of them with metric.name=NAME"
        )

    def miss(self, what: str) -> NasproxyError:
        """Return the error of a missing check: lost if the program resumed from a checkpoint, else never reported."""
        what = f"{what}{self.hint}"
        return ScheduleError(what) if self._is_fresh else LostReportError(what)

    def _add(self, report: Report) -> None:
        trial, now = self._trial, time.monotonic()
        known = [check.step for check in read_reported_checks(TrialFolder(trial.model_dir).metrics)]
        seconds = report.train_seconds
        if seconds is None:  # before step 0 nothing was trained: the program has started
            seconds = self._seconds + now - self._since if report.step > 0 else 0.0
        if not (math.isfinite(seconds) and seconds >= self._seconds):
            raise ProgramError(
                f"the program must report cumulative train_seconds since its start, at least {self._seconds:g}, got "
                f"{seconds:g} after step {report.step}: add up the seconds of training, without validation"
            )
        if report.step > trial.total_steps:
            raise make_length_error(trial.total_steps, report.step)
        if self._reported is None and not self._is_fresh:
            expected = expect_next_step([step for step in known if step > 0], trial.check_steps)
            if report.step > expected:
                raise LostReportError(f"the program resumed with a report of step {report.step} instead of {expected}")
        if not known or report.step > known[-1]:
            numbers = {name: math.nan if value is None else value for name, value in report.metrics.items()}
            metrics = check_metrics(numbers, trial.objective.name, report.step)
            record_check(TrialFolder(trial.model_dir), report.step, metrics, seconds - self._seconds)
        if report.latency_ms is not None:
            write_latency(TrialFolder(trial.model_dir), report.latency_ms)
        self._seconds, self._since = seconds, now
        self._reported = report.step


class ReportFile:
    """Reads a file that a program appends its reports to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def begin(self) -> list[str]:
        """Return the lines of earlier runs, and truncate an incomplete last line."""
        lines = list(self.new())
        if self._path.exists():
            with self._path.open("rb+") as file:
                file.truncate(self._offset)
        return lines

    def new(self) -> Iterator[str]:
        """Yield the complete lines since the last read; all lines if the program has truncated the file."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            if file.seek(0, 2) < self._offset:
                self._offset = 0
            file.seek(self._offset)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        yield from whole.decode(errors="replace").splitlines()
