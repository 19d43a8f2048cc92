"""Read and write the files of one trial: config, checks, and the news of changes."""

import hashlib
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml
from pydantic import ValidationError

from nasproxy.errors import ConfigError, CorruptFileError, NasproxyError
from nasproxy.storage.files import (
    append_line,
    get_size,
    make_corrupt_error,
    move_path,
    overwrite_bytes,
    read_bytes,
    read_version,
    replace_text,
    split_lines,
    sync_file,
)
from nasproxy.storage.folder_leases import FolderLease, hold_generation
from nasproxy.storage.json_records import SCHEMA, get_adapter, read_record, write_record
from nasproxy.storage.locks import CONTROLLER
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.storage.trial_index import TrialIndex, add_news
from nasproxy.trials.objective import Objective
from nasproxy.trials.records import Check, State, Status
from nasproxy.trials.spec import TrialSpec

Progress = tuple[int, int, int, tuple[bytes, int] | None]
"""What changes while a worker trains: generation, sizes of metrics and log in bytes, and version of the heartbeat."""
MAX_STEP = 2**53
"""Largest step of a check; a larger one is damage, and no float holds it."""
GENERATION_VARIABLE = "NASPROXY_GENERATION"
"""Environment variable of workers, and of the programs that they start, with the generation of the worker's lease."""


def write_spec(spec: TrialSpec) -> str:
    """Return a trial's config as YAML."""
    content = get_adapter(TrialSpec).dump_python(spec.applied(), mode="json")
    return yaml.safe_dump({"schema": SCHEMA, "key": spec.key, **content}, sort_keys=False, allow_unicode=True)


def read_spec(path: Path) -> TrialSpec:
    """Read a trial's config.

    Raises:
        CorruptFileError: The file is missing or invalid, or its content does not give the key that it states.
    """
    return parse_spec(path, read_config(path))


def read_config(path: Path) -> str:
    """Read the text of a trial's config.

    Raises:
        CorruptFileError: The file is missing or not UTF-8.
    """
    content = read_bytes(path)
    if content is None:
        raise make_corrupt_error(path, "it is missing")
    return decode_config(path, content)


def decode_config(path: Path, content: bytes) -> str:
    """Decode the content of a trial's config.

    Raises:
        CorruptFileError: It is not UTF-8.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise make_corrupt_error(path, str(error)) from error


def parse_spec(path: Path, text: str) -> TrialSpec:
    """Parse the text of a trial's config.

    Raises:
        CorruptFileError: The text is invalid, or its content does not give the key that it states.
    """
    try:
        content = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        key = content.pop("key")
        if content.pop("schema") != SCHEMA:
            raise make_corrupt_error(path, f"it is not a config of schema {SCHEMA}")
        spec: TrialSpec = get_adapter(TrialSpec).validate_python(content)
        has_stated_key = spec.key == key
    except CorruptFileError:
        raise
    except RecursionError as error:
        raise make_corrupt_error(path, "it is nested too deeply") from error
    except (
        yaml.YAMLError,
        KeyError,
        AttributeError,
        TypeError,
        ValueError,  # also what pydantic raises
        OverflowError,
        NasproxyError,
    ) as error:
        raise make_corrupt_error(path, f"{type(error).__name__}: {error}".splitlines()[0]) from error
    if not has_stated_key:
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
    reported_at: float | None = field(default=None, compare=False)


def read_checks(path: Path, metric: str = Objective.name) -> tuple[Check, ...]:
    """Read a trial's checks.

    Args:
        path: File of the trial's metrics.
        metric: Name of the metric that is the score.

    Raises:
        CorruptFileError: A complete line is not a check, or lacks the metric.
    """
    return parse_checks(path, read_bytes(path) or b"", metric)


def parse_checks(path: Path, content: bytes, metric: str = Objective.name) -> tuple[Check, ...]:
    """Parse the content of a trial's metrics; arguments and errors as in `read_checks`."""
    return tuple(
        Check(line.step, _get_score(path, line, metric), line.train_seconds, line.metrics, line.reported_at)
        for line in parse_reported_checks(path, content)
    )


def read_reported_checks(path: Path) -> tuple[ReportedCheck, ...]:
    """Read a trial's checks with all their metrics; an incomplete last line is ignored.

    Raises:
        CorruptFileError: A complete line is not a check, or its step is not above the one before.
    """
    return parse_reported_checks(path, read_bytes(path) or b"")


def parse_reported_checks(path: Path, content: bytes) -> tuple[ReportedCheck, ...]:
    """Parse the content of a trial's metrics; errors as in `read_reported_checks`."""
    try:
        checks = tuple(get_adapter(ReportedCheck).validate_json(line) for line in split_lines(path, content))
    except ValidationError as error:
        raise make_corrupt_error(path, "a line is not a check") from error
    last = -1
    for check in checks:
        if not last < check.step <= MAX_STEP:
            raise make_corrupt_error(path, f"its steps must rise, got {check.step} after {max(last, 0)}")
        values = (check.train_seconds, check.reported_at or 0.0, *(value or 0.0 for value in check.metrics.values()))
        if not all(map(math.isfinite, values)):
            raise make_corrupt_error(path, f"a number at step {check.step} is not finite")
        last = check.step
    return checks


def _get_score(path: Path, line: ReportedCheck, metric: str) -> float:
    score = line.metrics.get(metric)
    if score is None:
        raise make_corrupt_error(
            path, f"it has {', '.join(line.metrics) or 'no metric'} at step {line.step}, and the study needs {metric!r}"
        )
    return score


def append_check(
    folder: TrialFolder, step: int, metrics: Mapping[str, float | None], train_seconds: float, *, number: int
) -> None:
    """Append one check to a trial's metrics, with the time of now.

    Args:
        folder: The trial's folder.
        step: As in `Check`, like the following.
        metrics: Metrics by name.
        train_seconds: Training time in seconds.
        number: Number of the trial's checks with this one.
    """
    append_line(folder.metrics, _write_line(ReportedCheck(step, metrics, train_seconds, time.time())))
    _write_count(folder, number)


def _write_count(folder: TrialFolder, checks: int) -> None:
    """Write how many checks a trial has, after these, so that a loss of some is noticed."""
    overwrite_bytes(folder.check_count, b"%010d\n" % checks)


def read_count(folder: TrialFolder) -> int:
    """Read how many checks a trial has at least; 0 if that is unknown.

    Raises:
        CorruptFileError: There is something else than a file.
    """
    content = (read_bytes(folder.check_count) or b"").strip()
    return int(content) if content.isdigit() else 0


def write_checks(folder: TrialFolder, checks: Sequence[Check], metric: str) -> None:
    """Make a trial's metrics hold these checks; only those that are missing are written, if the others are the same."""
    lines = [ReportedCheck(c.step, c.metrics or {metric: c.score}, c.train_seconds, c.reported_at) for c in checks]
    known = read_reported_checks(folder.metrics)
    if tuple(lines[: len(known)]) != known:
        _write_count(folder, 0)
        replace_text(folder.metrics, "".join(f"{_write_line(line)}\n" for line in lines))
    else:
        for line in lines[len(known) :]:
            append_line(folder.metrics, _write_line(line))
    _write_count(folder, len(lines))


def find_generation() -> int | None:
    """Return the generation of the worker that this process belongs to; None outside of a worker.

    Raises:
        ConfigError: The environment variable is no number.
    """
    text = os.environ.get(GENERATION_VARIABLE)
    if text is None:
        return None
    if not text.isdecimal():
        raise ConfigError(f"{GENERATION_VARIABLE} must be a whole number, got {text!r}: leave it as the worker set it")
    return int(text)


def write_status(folder: TrialFolder, status: Status, *, generation: int) -> None:
    """Write a trial's status as the holder of its lease.

    A status with which a trial ends or pauses outlasts a loss of power, as do the checks before it.

    Args:
        folder: The trial's folder.
        status: The status; its generation is filled in.
        generation: Generation of the lease.

    Raises:
        StaleLeaseError: Another process has taken over the trial; nothing is written.
        CorruptFileError: The checks cannot be read.
    """
    with hold_generation(folder.lock, generation):
        replace_status(folder, status, generation)
    add_news(folder)


def replace_status(folder: TrialFolder, status: Status, generation: int) -> None:
    """Write a trial's status under its guard, as `write_status` does."""
    if status.is_settled:
        sync_file(folder.metrics)
        sync_file(folder.check_count)
    write_record(folder.status, replace(status, generation=generation), durable=status.is_settled)


def write_heartbeat(folder: TrialFolder) -> None:
    """Show that the trial's worker is alive."""
    overwrite_bytes(folder.heartbeat, b"%020d" % time.monotonic_ns())


def read_generation(folder: TrialFolder) -> int:
    """Read the generation of the trial's status; 0 without one.

    Raises:
        CorruptFileError: The status cannot be read.
    """
    return (read_record(folder.status, Status) or Status()).generation


def read_progress(folder: TrialFolder, *, after: int) -> Progress | None:
    """Read what a worker changes while it trains.

    Args:
        folder: The trial's folder.
        after: Generation of the status before the worker was started.

    Returns:
        Values that differ after each check, heartbeat and output; None if the worker does not train (yet).

    Raises:
        CorruptFileError: A file cannot be read.
    """
    status = read_record(folder.status, Status)
    if status is None or status.state is not State.RUNNING or status.generation <= after:
        return None
    return status.generation, get_size(folder.metrics), get_size(folder.log), read_version(folder.heartbeat)


def _write_line(check: ReportedCheck) -> str:
    return get_adapter(ReportedCheck).dump_json(check).decode()


def drop_checks_beyond(folder: TrialFolder, total_steps: int) -> int | None:
    """Remove the last checks of a trial whose trainer reported beyond its total, from the total on.

    The check at the total goes, too: it is no proof that the training and its schedule end there.

    Returns:
        The step beyond the total; None if there is none, and nothing was changed.

    Raises:
        CorruptFileError: A complete line is not a check.
        StaleLeaseError: Another worker has taken over the trial; nothing is changed.
    """
    checks = read_reported_checks(folder.metrics)
    if not checks or checks[-1].step <= total_steps:
        return None
    with hold_generation(folder.lock, find_generation()):
        kept = [_write_line(check) for check in checks if check.step < total_steps]
        _write_count(folder, len(kept))
        replace_text(folder.metrics, "".join(f"{line}\n" for line in kept))
    add_news(folder)
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
    """Measure the wall time of a trial's workers, in seconds; a dead worker counts up to its last check."""
    if status.started_at is None:
        return status.wall_seconds
    last = read_last_check(folder)
    reported_at = None if last is None else last.reported_at
    return status.wall_seconds + max(0.0, (reported_at or status.started_at) - status.started_at)


def retry_failed_trials(root: Path) -> int:
    """Give trials that crashed or were lost a new set of attempts.

    Called when a command is run again: the cause may have been fixed. Out-of-memory and diverged trials stay failed.
    A trial whose status cannot be read is left to the stage that needs it.

    Args:
        root: Folder of the trials.

    Returns:
        The number of trials that get new attempts.
    """
    retried = 0
    for key in TrialIndex(root).read():
        folder = TrialFolder(root / key)
        try:
            status = read_record(folder.status, Status) or Status()
        except CorruptFileError:
            continue
        if status.state is not State.FAILED or status.cause is None or status.cause.is_models_fault:
            continue
        retried += _retry(folder, replace(status, state=State.PENDING, failures=0))
    return retried


def _retry(folder: TrialFolder, status: Status) -> bool:
    lease = FolderLease(folder.lock, role=CONTROLLER)
    try:
        if not lease.acquire():
            return False
        try:
            write_status(folder, status, generation=lease.generation)
        finally:
            lease.release()
    except CorruptFileError:
        return False
    return True


def discard_checkpoints(folder: TrialFolder) -> Path | None:
    """Move a trial's checkpoints away, so that its next attempt trains anew; its recorded checks stay.

    Returns:
        Where they are now; None if there are none.
    """
    if not folder.checkpoints.is_dir() or not any(folder.checkpoints.iterdir()):
        return None
    number, place = 1, folder.path / "checkpoints.damaged"
    while place.exists():
        number += 1
        place = folder.path / f"checkpoints.damaged-{number}"
    move_path(folder.checkpoints, place)
    return place
