"""The files of one trial: its config, its checks, and the end of a worker that could not write its own."""

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
    """A trial's config as YAML."""
    content = get_adapter(TrialSpec).dump_python(spec.applied(), mode="json")
    return yaml.safe_dump({"schema": SCHEMA, "key": spec.key, **content}, sort_keys=False, allow_unicode=True)


def read_spec(path: Path) -> TrialSpec:
    """Read a trial's config.

    Raises:
        CorruptFileError: It is missing, is no trial's, or does not give the key it bears.
    """
    try:
        content = yaml.load(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        key = content.pop("key")
        if content.pop("schema") != SCHEMA:
            raise make_corrupt_error(path, f"it is no config of schema {SCHEMA}")
        spec: TrialSpec = get_adapter(TrialSpec).validate_python(content)
    except (OSError, yaml.YAMLError, KeyError, AttributeError, TypeError, ValidationError) as error:
        raise make_corrupt_error(path, f"{type(error).__name__}: {error}".splitlines()[0]) from error
    if spec.key != key:
        raise make_corrupt_error(
            path, f"it bears the key {key} but its content gives {spec.key} (another version may have written it)"
        )
    return spec


def digest_config(text: str) -> str:
    """What a submission says of the config that it means."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_checks(path: Path) -> tuple[Check, ...]:
    """Read a trial's checks up to the last whole line.

    Raises:
        CorruptFileError: A whole line is no check.
    """
    lines = read_lines(path)
    try:
        return tuple(get_adapter(Check).validate_json(line) for line in lines)
    except ValidationError as error:
        raise make_corrupt_error(path, "a line is no check") from error


def append_check(path: Path, check: Check) -> None:
    """Append one check to a trial's metrics."""
    append_line(path, get_adapter(Check).dump_json(check).decode())


def settle_status(folder: TrialFolder, *, max_attempts: int, why: str = "its worker ended without a word") -> Status:
    """The status of a trial without a living worker: one that died counts as a lost attempt.

    Only whoever holds the trial's lock may call this, and write what it returns.

    Args:
        folder: The trial's.
        max_attempts: Failures after which it is given up.
        why: What is known of a worker's death.
    """
    status = read_record(folder.status, Status) or Status()
    if status.state is not State.RUNNING:
        return status
    lost = status.failed(Cause.LOST, why, step=read_last_step(folder), max_attempts=max_attempts)
    return replace(lost, wall_seconds=measure_wall_seconds(folder, status))


def read_last_step(folder: TrialFolder) -> int:
    """The last step of a trial that was checked; 0 before the first check."""
    checks = read_checks(folder.metrics)
    return checks[-1].step if checks else 0


def measure_wall_seconds(folder: TrialFolder, status: Status) -> float:
    """Time of a trial's workers, one that died without a word included, up to its last sign of life."""
    if status.started_at is None:
        return status.wall_seconds
    last_sign = max(path.stat().st_mtime for path in (folder.status, folder.metrics) if path.exists())
    return status.wall_seconds + max(0.0, last_sign - status.started_at)


def retry_failed_trials(root: Path) -> int:
    """Give trials that crashed or were lost another set of attempts; returns how many.

    Whoever runs the same command again has mended something, or hopes so; a model's own fault stays.
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
