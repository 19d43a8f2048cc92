"""Read and write the files of one trial: config, checks, and the status after a worker died."""

import hashlib
from dataclasses import replace
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
    write_record,
)
from nasproxy.storage.leases import Lease
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.trials.records import Cause, Check, State, Status
from nasproxy.trials.spec import TrialSpec


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


def read_checks(path: Path) -> tuple[Check, ...]:
    """Read a trial's checks; an incomplete last line is ignored.

    Raises:
        CorruptFileError: A complete line is not a check.
    """
    lines = read_lines(path)
    try:
        return tuple(get_adapter(Check).validate_json(line) for line in lines)
    except ValidationError as error:
        raise make_corrupt_error(path, "a line is not a check") from error


def append_check(path: Path, check: Check) -> None:
    """Append one check to a trial's metrics."""
    append_line(path, get_adapter(Check).dump_json(check).decode())


def settle_status(folder: TrialFolder, *, max_attempts: int, why: str = "its worker ended without a status") -> Status:
    """Compute the status of a trial without a living worker; a worker that died counts as a lost attempt.

    Only the holder of the trial's lock may call this and write the result.

    Args:
        folder: Folder of the trial.
        max_attempts: Consecutive failures without a new check after which the trial fails.
        why: Reason of the worker's death, for the status message.
    """
    status = read_record(folder.status, Status) or Status()
    if status.state is not State.RUNNING:
        return status
    lost = status.failed(Cause.LOST, why, step=read_last_step(folder), max_attempts=max_attempts)
    return replace(lost, wall_seconds=measure_wall_seconds(folder, status))


def read_last_step(folder: TrialFolder) -> int:
    """Read the step of a trial's last check; 0 before the first one."""
    checks = read_checks(folder.metrics)
    return checks[-1].step if checks else 0


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
        lock = Lease(folder.lock)
        if lock.acquire():
            write_record(path, replace(status, state=State.PENDING, failures=0))
            lock.release()
            retried += 1
    return retried
