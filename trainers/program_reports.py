"""What a program reports of its training: lines of JSON, and the checks that they become."""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from nasproxy.errors import NasproxyError, NonFiniteScoreError
from nasproxy.execution.worker.context import TrialContext
from nasproxy.storage.trial_files import read_last_step
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.training.hooks import update_trial_training_accuracy_metric, update_trial_training_latency_metric


class ProgramError(NasproxyError):
    """A program ended before its training did, or reported what cannot be."""


class LostReportError(NasproxyError):
    """A program continued behind a check that never arrived: whoever read it was killed before it was written down."""


@dataclass(frozen=True)
class Report:
    """One check as a program reports it.

    Attributes:
        step: Finished optimizer steps.
        score: Validation metric, higher is better; None, as some write NaN, for one that is no number.
        train_seconds: Seconds of training since the program was started, validation excluded; None counts all the
            time between two reports.
        latency_ms: Latency of the model, where it was measured.
    """

    step: int
    score: float | None
    train_seconds: float | None = None
    latency_ms: float | None = None


@dataclass(frozen=True)
class ReportedFailure:
    """The model's own failure as a program reports it."""

    failure: Literal["oom", "nan"]
    message: str = ""


def read_line(line: str) -> Report | ReportedFailure | None:
    """Read a line of output; None for one that is no report.

    Raises:
        ProgramError: It is a report, but its values are of other kinds.
    """
    try:
        content = json.loads(line) if line.lstrip().startswith("{") else None
    except ValueError:
        return None
    if not isinstance(content, dict):
        return None
    if "failure" in content:
        return _validated(ReportedFailure, content)
    return _validated(Report, content) if {"step", "score"} <= set(content) else None


Kind = TypeVar("Kind", Report, ReportedFailure)


def _validated(kind: type[Kind], content: dict[str, object]) -> Kind:
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise ProgramError(
            f'the program must report lines such as {{"step": 10, "score": 0.5}} or {{"failure": "oom"}}, got '
            f"{json.dumps(content)}: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from None


class Checks:
    """A trial's checks, written down as a program reports them.

    Checks that are known already change nothing: a program that continues from a checkpoint may repeat some.
    """

    def __init__(self, trial: TrialContext, *, is_fresh: bool) -> None:
        """Begin with what is known.

        Args:
            trial: What is trained.
            is_fresh: Whether the program starts without a checkpoint.
        """
        self._trial = trial
        self._is_fresh = is_fresh
        self._first = self.step
        self._reported = 0
        self._seconds = 0.0
        self._since = time.monotonic()

    @property
    def step(self) -> int:
        """The last step that is known to be checked."""
        return read_last_step(TrialFolder(self._trial.model_dir))

    @property
    def has_grown(self) -> bool:
        """Whether there are more than at first."""
        return self.step > self._first

    def begin(self) -> None:
        """The next report is the first of another run of the program."""
        self._reported, self._seconds, self._since = 0, 0.0, time.monotonic()

    def recover(self, lines: list[str]) -> None:
        """Take what earlier runs of the program reported and nobody has read."""
        for line in lines:
            report = read_line(line)
            if isinstance(report, Report):
                if report.step <= self._reported:
                    self.begin()
                self._add(report)
        self.begin()

    def take(self, line: str, *, only_failures: bool = False) -> bool:
        """Write down what a line reports.

        Args:
            line: Of the program's output.
            only_failures: Whether checks are reported elsewhere.

        Returns:
            Whether it reports anything.

        Raises:
            ProgramError: What it reports cannot be.
            NonFiniteScoreError: The score is no finite number, or the model failed so.
            MemoryError: The model did not fit into memory.
            LostReportError: A check before it is missing, which an earlier run of the program had reported.
        """
        report = None if only_failures and '"failure"' not in line else read_line(line)
        if isinstance(report, ReportedFailure):
            raise (MemoryError if report.failure == "oom" else NonFiniteScoreError)(report.message or report.failure)
        if report is None or only_failures:
            return False
        if report.step <= self._reported:
            raise ProgramError(
                f"the program must report rising counts of finished steps, got step {report.step} after step "
                f"{self._reported}"
            )
        self._add(report)
        return True

    def miss(self, what: str) -> NasproxyError:
        """The error of a check that is missing: lost on the way, or never reported."""
        return ProgramError(what) if self._is_fresh else LostReportError(what)

    def _add(self, report: Report) -> None:
        trial, known = self._trial, self.step
        now = time.monotonic()
        seconds = report.train_seconds if report.train_seconds is not None else self._seconds + now - self._since
        if not (math.isfinite(seconds) and seconds >= self._seconds):
            raise ProgramError(
                f"the program must report train_seconds since its start, {self._seconds:g} or more by now, got "
                f"{seconds:g} after step {report.step}: leave validation out, and add up"
            )
        expected = next((step for step in trial.check_steps if step > known), None)
        if expected is not None and report.step > expected:
            raise self.miss(
                f"the program must report a check after step {expected}, got none before step {report.step}: "
                f"report after each of {{check_steps}}, in finished steps"
            )
        if report.step == expected:
            score = math.nan if report.score is None else report.score
            update_trial_training_accuracy_metric(
                trial.model_dir, score, known, report.step - 1, seconds - self._seconds, trial.total_steps
            )
        elif expected is None and report.step > trial.total_steps:
            raise ProgramError(
                f"the program must end after step {trial.total_steps}, got a report of step {report.step}: "
                f"give it {{total_steps}}"
            )
        if report.latency_ms is not None:
            update_trial_training_latency_metric(trial.model_dir, report.latency_ms)
        if report.step in trial.check_steps:
            self._seconds, self._since = seconds, now
        self._reported = report.step


class ReportFile:
    """A file that a program appends its reports to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def begin(self) -> list[str]:
        """What earlier runs wrote; half a line at the end, of one that was killed, is cut off."""
        lines = list(self.new())
        if self._path.exists():
            with self._path.open("rb+") as file:
                file.truncate(self._offset)
        return lines

    def new(self) -> Iterator[str]:
        """Whole lines since the last look; all of them where the program began the file anew."""
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
