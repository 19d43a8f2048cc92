"""Read and write the files of one trial: config, checks, and the news of changes."""

import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from pydantic import ValidationError

from nasproxy.storage.files import (
    SCHEMA,
    append_line,
    get_adapter,
    make_corrupt_error,
    read_lines,
    read_record,
    replace_text,
    write_record,
)
from nasproxy.storage.locks import FileLock
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.trials.objective import Objective
from nasproxy.trials.records import Check, State, Status
from nasproxy.trials.spec import TrialSpec

NEWS = "news"
"""File beside the trials' folders with the keys of trials whose record changed, one per line, in order."""


def write_spec(spec: TrialSpec) -> str:
    """Return a trial's config as YAML."""
    content = get_adapter(TrialSpec).dump_python(spec.applied(), mode="json")
    return yaml.safe_dump({"schema": SCHEMA, "key": spec.key, **content}, sort_keys=False, allow_unicode=True)


def read_spec(path: Path) -> TrialSpec:
    """Read a trial's config.

    Raises:
        CorruptFileError: The file is missing or invalid, or its content does not give the key that it states.
    """
    try:
        content = yaml.load(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        key = content.pop("key")
        if content.pop("schema") != SCHEMA:
            raise make_corrupt_error(path, f"it is not a config of schema {SCHEMA}")
        spec: TrialSpec = get_adapter(TrialSpec).validate_python(content)
    except (OSError, yaml.YAMLError, KeyError, AttributeError, TypeError, ValidationError) as error:
        raise make_corrupt_error(path, f"{type(error).__name__}: {error}".splitlines()[0]) from error
    if spec.key != key:
        raise make_corrupt_error(
            path, f"it states the key {key}, but its content has {spec.key} (another version may have written it)"
        )
    return spec


def digest_config(text: str) -> str:
    """Return the SHA-256 (hex) of a config; a work order carries it, so that a changed config is not run."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class ReportedCheck:
    """A check as a trainer reported it, a line of a trial's metrics; attributes as in `Check`."""

    step: int
    metrics: Mapping[str, float | None]
    train_seconds: float
    reported_at: float | None = None


def read_checks(path: Path, metric: str = Objective.name) -> tuple[Check, ...]:
    """Read a trial's checks.

    Args:
        path: File of the trial's metrics.
        metric: Name of the metric that is the score.

    Raises:
        CorruptFileError: A complete line is not a check, or lacks the metric.
    """
    return tuple(
        Check(line.step, _get_score(path, line, metric), line.train_seconds, line.metrics, line.reported_at)
        for line in read_reported_checks(path)
    )


def read_reported_checks(path: Path) -> tuple[ReportedCheck, ...]:
    """Read a trial's checks with all their metrics; an incomplete last line is ignored.

    Raises:
        CorruptFileError: A complete line is not a check.
    """
    lines = read_lines(path)
    try:
        return tuple(get_adapter(ReportedCheck).validate_json(line) for line in lines)
    except ValidationError as error:
        raise make_corrupt_error(path, "a line is not a check") from error


def _get_score(path: Path, line: ReportedCheck, metric: str) -> float:
    score = line.metrics.get(metric)
    if score is None:
        raise make_corrupt_error(
            path, f"it has {', '.join(line.metrics) or 'no metric'} at step {line.step}, and the study needs {metric!r}"
        )
    return score


def append_check(path: Path, step: int, metrics: Mapping[str, float | None], train_seconds: float) -> None:
    """Append one check to a trial's metrics and announce it to the controller; arguments as in `Check`."""
    check = ReportedCheck(step, metrics, train_seconds, time.time())
    append_line(path, get_adapter(ReportedCheck).dump_json(check).decode())
    announce(TrialFolder(path.parent))


def announce(folder: TrialFolder) -> None:
    """Announce to the readers of the store that the trial's status or checks have changed.

    Does nothing if no reader has asked for news: then the file does not exist.
    """
    try:
        news = os.open(folder.path.parent / NEWS, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        os.write(news, f"{folder.path.name}\n".encode())  # one write: workers append at the same time
    finally:
        os.close(news)


def drop_checks_beyond(folder: TrialFolder, total_steps: int) -> int | None:
    """Remove the last checks of a trial whose trainer reported beyond its total, from the total on.

    The check at the total goes, too: it is no proof that the training and its schedule end there.

    Returns:
        The step beyond the total; None if there is none, and nothing was changed.

    Raises:
        CorruptFileError: A complete line is not a check.
    """
    checks = read_reported_checks(folder.metrics)
    if not checks or checks[-1].step <= total_steps:
        return None
    kept = [get_adapter(ReportedCheck).dump_json(check).decode() for check in checks if check.step < total_steps]
    replace_text(folder.metrics, "".join(f"{line}\n" for line in kept))
    return checks[-1].step


def read_last_check(folder: TrialFolder) -> ReportedCheck | None:
    """Read a trial's last check; None before the first one."""
    checks = read_reported_checks(folder.metrics)
    return checks[-1] if checks else None


def read_last_step(folder: TrialFolder) -> int:
    """Read the step of a trial's last check; 0 before the first one."""
    last = read_last_check(folder)
    return 0 if last is None else last.step


def measure_wall_seconds(folder: TrialFolder, status: Status) -> float:
    """Measure the wall time of a trial's workers, in seconds; a dead worker counts up to its last file change."""
    if status.started_at is None:
        return status.wall_seconds
    last_heartbeat = max(path.stat().st_mtime for path in (folder.status, folder.metrics) if path.exists())
    return status.wall_seconds + max(0.0, last_heartbeat - status.started_at)


def retry_failed_trials(root: Path) -> int:
    """Give trials that crashed or were lost a new set of attempts.

    Called when a command is run again: the cause may have been fixed. Out-of-memory and diverged trials stay failed.

    Args:
        root: Folder of the trials.

    Returns:
        The number of trials that get new attempts.
    """
    retried = 0
    for path in root.glob("*/status.json"):
        folder = TrialFolder(path.parent)
        status = read_record(path, Status)
        if status is None or status.state is not State.FAILED or status.cause is None or status.cause.is_models_fault:
            continue
        lock = FileLock(folder.lock)
        if lock.acquire():
            write_record(path, replace(status, state=State.PENDING, failures=0))
            lock.release()
            retried += 1
    return retried
