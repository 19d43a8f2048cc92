"""A trainer that runs any program: arguments and environment come from the trial, reports become checks.

See docs/your_own_trainer.md for the interface of the program.
"""

import json
import math
import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from nasproxy.errors import ConfigError, NonFiniteScoreError
from nasproxy.execution.worker.context import TrialContext
from nasproxy.trainers import placeholders
from nasproxy.trainers.program import Program
from nasproxy.trainers.program_reports import (
    Checks,
    LostReportError,
    ProgramError,
    ProgramExitError,
    ReportFile,
    ScheduleError,
    make_length_error,
)
from nasproxy.training.reporting import METRIC_VARIABLE

Reports = Literal["stdout", "file", "hooks"]

POLL_SECONDS = 0.5
"""Seconds between two reads of the report file, or of the checks that the hooks wrote."""
NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class CommandSettings:
    """Settings for running the program, equal to the arguments of `train`."""

    command: Sequence[str]
    environment: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    reports: Reports = "stdout"
    report_file: str | None = None
    grace_seconds: float = 30.0
    working_dir: str | None = None

    def check(self, trial: TrialContext) -> None:
        """Validate the settings without starting the program.

        Raises:
            ConfigError: A setting is invalid.
        """
        if not isinstance(self.command, list | tuple) or not self.command:
            raise ConfigError(
                f"trainer.command must be a list of the program and its arguments, got {self.command!r}: give a list "
                f'such as [perl, train.pl, "--seed={{seed}}"]'
            )
        if self.reports not in ("stdout", "file", "hooks"):
            raise ConfigError(f"trainer.reports must be stdout, file or hooks, got {self.reports!r}: choose one")
        if (self.report_file is None) == (self.reports == "file"):
            raise ConfigError(
                f"trainer.report_file must be a file name if trainer.reports is file, and null otherwise, got "
                f"{self.report_file!r} with reports {self.reports}: change one of the two"
            )
        if not (math.isfinite(self.grace_seconds) and self.grace_seconds >= 0):
            raise ConfigError(f"trainer.grace_seconds must be at least 0, got {self.grace_seconds:g}: give seconds")
        if not self.folder.is_dir():
            raise ConfigError(
                f"trainer.working_dir must be a folder, got {self.working_dir}: create it, or give another"
            )
        filled, environment = self.filled(trial)
        path = environment.get("PATH", os.defpath)
        program = str(self.folder / filled[0]) if os.sep in filled[0] else filled[0]
        if shutil.which(program, path=path) is None:
            raise ConfigError(
                f"trainer.command must start with a program on PATH or in {self.folder}, got {filled[0]!r}: install "
                f"it, or give its path"
            )

    @property
    def folder(self) -> Path:
        """Working directory of the program."""
        return Path(self.working_dir or ".").resolve()

    def filled(self, trial: TrialContext) -> tuple[list[str], dict[str, str]]:
        """Fill the placeholders of the command and its environment for one trial.

        Raises:
            ConfigError: A placeholder is unknown.
        """
        known = placeholders.list_values(trial, self.values)
        command = [
            placeholders.fill_template(f"trainer.command[{i}]", part, known) for i, part in enumerate(self.command)
        ]
        own = {
            name: placeholders.fill_template(f"trainer.environment.{name}", placeholders.write_value(value), known)
            for name, value in self.environment.items()
        }
        told = placeholders.describe_trial(trial)
        return command, {
            **os.environ,
            "PYTHONUNBUFFERED": "1",  # unbuffered, so that reports arrive at once
            "OMP_NUM_THREADS": str(trial.threads),
            METRIC_VARIABLE: trial.objective.name,
            "NASPROXY_MODEL_DIR": told["model_dir"],
            "NASPROXY_CHECKPOINT_DIR": told["checkpoint_dir"],
            "NASPROXY_TRIAL": json.dumps({**told, "values": dict(self.values)}),
            **own,
        }


def train(
    trial: TrialContext,
    *,
    command: list[str],
    environment: Mapping[str, Any] = NOTHING,
    values: Mapping[str, Any] = NOTHING,
    reports: Reports = "stdout",
    report_file: str | None = None,
    grace_seconds: float = 30.0,
    working_dir: str | None = None,
) -> None:
    """Run the program until its training ends or the controller requests a stop.

    Args:
        trial: Trial to train.
        command: Program and arguments, with placeholders.
        environment: Environment variables of the program, with placeholders.
        values: User-defined values by the names of their placeholders.
        reports: Source of the checks: lines of JSON on `stdout` or in a `file`, or `hooks` that the program calls.
        report_file: Path of the file, relative to the trial's folder.
        grace_seconds: Seconds from SIGTERM to SIGKILL.
        working_dir: Working directory of the program; None for that of the study's command.

    Raises:
        ConfigError: An argument is invalid.
        ProgramError: The program ended before its training, or gave an invalid report.
        ProgramExitError: The program ended with an exit status other than 0, or by a signal.
        NonFiniteScoreError: A score is not finite, or the program reported `nan`.
        MemoryError: The program reported `oom`.
    """
    settings = CommandSettings(
        command=command,
        environment=environment,
        values=values,
        reports=reports,
        report_file=report_file,
        grace_seconds=grace_seconds,
        working_dir=working_dir,
    )
    settings.check(trial)
    checkpoints = trial.checkpoint_dir
    try:
        _run(trial, settings, Checks(trial, is_fresh=not any(checkpoints.iterdir())))
    except LostReportError as lost:
        aside = checkpoints.with_name(f"{checkpoints.name}.lost")
        print(
            f"{lost}; the check was lost with an earlier process: the program starts from scratch, earlier checkpoints "
            f"are kept in {aside.name}"
        )
        shutil.rmtree(aside, ignore_errors=True)
        checkpoints.rename(aside)
        checkpoints.mkdir()
        _run(trial, settings, Checks(trial, is_fresh=True))


def check(trial: TrialContext, **arguments: Any) -> None:
    """Validate the arguments of `train` before training.

    Raises:
        ConfigError: An argument is invalid.
    """
    CommandSettings(**arguments).check(trial)


def preflight(trial: TrialContext, *, seconds: float, **arguments: Any) -> list[str]:
    """Run the program until it ends, for so many seconds at most.

    Args:
        trial: A trial whose only check is its last step.
        seconds: Time limit.
        **arguments: Arguments of `train`.

    Returns:
        Notes on what could not be seen within the time limit, or on a model that failed.

    Raises:
        ProgramError: The program gave an invalid report, or ended without its last check.
        ProgramExitError: The program ended with an exit status other than 0, or by a signal.
    """
    settings, checks = CommandSettings(**{**arguments, "grace_seconds": 0.0}), Checks(trial, is_fresh=True)
    name = settings.filled(trial)[0][0]
    _ = trial.checkpoint_dir  # the program may look for it
    try:
        if _run(trial, settings, checks, seconds):
            if checks.step < trial.total_steps:
                raise checks.miss(_explain_early_end(trial, checks, name))
            return []
    except ScheduleError as error:
        advice = "" if checks.lacks_metric else f"; {EPOCHS}"
        raise ProgramError(f"{error}{advice}") from error
    except (MemoryError, NonFiniteScoreError) as failure:
        return [f"{name} could not train a model: {failure}"]
    if checks.step == 0:
        made = "no report" if not checks.has_any else "no report after that of step 0"
        checked = "so its reports are not checked: see preflight.seconds"
        return [f"{name} made {made} in {seconds:.0f} s, {checked}{checks.hint}"]
    return [
        f"{name} did not end in {seconds:.0f} s, after the report of its last step, {checks.step}: does it train for "
        f"{{total_steps}}?"
    ]


train.check = check  # type: ignore[attr-defined]  # called by the preflight, like the next
train.preflight = preflight  # type: ignore[attr-defined]


def _run(trial: TrialContext, settings: CommandSettings, checks: Checks, seconds: float = math.inf) -> bool:
    """Run the program once, for so many seconds at most, and return whether it ended by itself."""
    command, environment = settings.filled(trial)
    file = None if settings.report_file is None else ReportFile(trial.model_dir / settings.report_file)
    if file is not None:
        checks.recover(file.begin())
        if trial.should_stop(checks.step):
            return True  # the recovered checks suffice
    with Program(
        command, environment=environment, working_dir=settings.folder, grace_seconds=settings.grace_seconds
    ) as program:
        _follow(trial, settings, program, checks, file, time.monotonic() + seconds)
        if not program.is_stopping:
            _check_exit(trial, checks, command[0], program)
        return not program.is_stopping


def _follow(
    trial: TrialContext,
    settings: CommandSettings,
    program: Program,
    checks: Checks,
    file: ReportFile | None,
    deadline: float,
) -> None:
    """Process the program's reports until it ends, and stop it when the controller requests it or at the deadline."""
    # A program that calls the hooks stops by itself; it gets the grace period before it is terminated.
    patience = settings.grace_seconds if settings.reports == "hooks" else 0.0
    stop_at = math.inf
    for line in program.lines(POLL_SECONDS):
        is_news = line is None
        if line is not None:
            trial.report_alive()
        if line is None:
            for written in file.new() if file else ():
                trial.report_alive()
                checks.take(written)
        elif not (is_news := checks.take(line, only_failures=settings.reports != "stdout")):
            print(line, flush=True)
        if is_news:
            if checks.step > trial.total_steps:  # the hooks, called by the program, take any number of steps
                raise make_length_error(trial.total_steps, checks.step)
            is_wanted = not _is_stop_requested(trial, checks.step)
            stop_at = math.inf if is_wanted else min(stop_at, time.monotonic() + patience)
            if time.monotonic() >= min(stop_at, deadline):
                program.stop()


def _is_stop_requested(trial: TrialContext, step: int) -> bool:
    """Return whether to stop before the end; a completed training ends by itself."""
    return 0 < step < trial.total_steps and trial.should_stop(step)


def _check_exit(trial: TrialContext, checks: Checks, name: str, program: Program) -> None:
    status, step = program.exit_status, checks.step
    if status != 0:
        how = f"exit status {status}" if status > 0 else f"signal {signal.Signals(-status).name}"
        stderr = program.stderr_tail.rpartition("\n")[2].strip()  # of a traceback, the error; all is in worker.log
        raise ProgramExitError(f"{name} ended with {how} after step {step}" + (f": {stderr}" if stderr else ""))
    # A request may be extended after the program has stopped for it: only a run without new checks is an error.
    if not checks.has_grown and not trial.should_stop(step):
        raise checks.miss(_explain_early_end(trial, checks, name))


def _explain_early_end(trial: TrialContext, checks: Checks, name: str) -> str:
    return (
        f"{name} must train until step {trial.total_steps} or until it receives SIGTERM, got an end without a check "
        f"after step {checks.step}: report the last check before exiting"
    )


EPOCHS = "if it validates once an epoch, set training.check_every_steps to the steps of an epoch"
"""Advice for a program that does not report the first check in the preflight, or reports beyond it."""
