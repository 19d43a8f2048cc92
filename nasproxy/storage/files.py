"""Files that survive a kill: atomic replacement, whole-line appends, leases held by living processes."""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from nasproxy.errors import CorruptFileError, StudyBusyError
from nasproxy.trials.records import Cause, Check, State, Status, TrialFolder
from nasproxy.trials.spec import TrialSpec

SCHEMA = 1
"""Version of every file the project writes; another version is refused, never guessed at."""


Record = TypeVar("Record")


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def _adapter(kind: Any) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def replace_text(path: Path, text: str) -> None:
    """Replace a file as one act: readers see the old text or the new, never a part of either."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def write_record(path: Path, record: Any) -> None:
    """Write a dataclass as JSON with the schema version, atomically."""
    content = _adapter(type(record)).dump_python(record, mode="json")
    replace_text(path, json.dumps({"schema": SCHEMA, **content}, indent=1, allow_nan=False) + "\n")


def read_record(path: Path, kind: type[Record]) -> Record | None:
    """Read a dataclass that `write_record` wrote.

    Returns:
        The record, or None where there is no file.

    Raises:
        CorruptFileError: The file is there but is not such a record.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise _corrupt(path, str(error)) from error
    if not isinstance(content, dict) or content.pop("schema", None) != SCHEMA:
        raise _corrupt(path, f"it is no record of schema {SCHEMA}")
    try:
        record: Record = _adapter(kind).validate_python(content)
    except ValidationError as error:
        raise _corrupt(path, f"{error.error_count()} fields do not fit {kind.__name__}") from error
    return record


def append_line(path: Path, text: str) -> None:
    """Append one line in one write; a part of a line left by a killed writer is cut off first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                # A line cut short holds nothing that was ever read, so dropping it loses nothing.
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        file.write(text.encode() + b"\n")


def read_lines(path: Path) -> list[str]:
    """Read up to the last whole line; empty where there is no file."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    return content[: content.rfind(b"\n") + 1].decode("utf-8").splitlines()


def _corrupt(path: Path, why: str) -> CorruptFileError:
    return CorruptFileError(
        f"{path} cannot be read: {why}. Nothing was changed; restore the file, or move its folder away "
        f"to have that part done again."
    )


_HELD: set[int] = set()
"""Descriptors of the leases that this process holds."""


def _let_go() -> None:
    """Close what a fork has copied: the kernel holds a lock for as long as anybody has its descriptor."""
    for descriptor in _HELD:
        os.close(descriptor)
    _HELD.clear()


os.register_at_fork(after_in_child=_let_go)


class Lease:
    """A lock on a file that lasts as long as its process holds it, and not longer.

    One owner at a time, or several that share it; processes that the owner forks do not hold it on. The file
    names the last owner for the error message only: whether the lease is held is the kernel's word, so a dead
    owner never blocks anyone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self, *, shared: bool = False, wait_seconds: float | None = 0.0) -> bool:
        """Take the lease.

        Args:
            shared: Hold it together with others that share it.
            wait_seconds: How long to try; None waits for ever.

        Returns:
            Whether it is held now.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        if not _lock(descriptor, kind, wait_seconds):
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        _HELD.add(descriptor)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
        return True

    def release(self) -> None:
        """Give the lease back; nothing happens if it is not held."""
        if self._descriptor is not None:
            _HELD.discard(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def owner_pid(self) -> int | None:
        """Process id of whoever took it last, if that was on this machine."""
        words = self.owner().split()
        is_here = len(words) == 4 and words[3] == os.uname().nodename
        return int(words[1]) if is_here else None

    def owner(self) -> str:
        """Who took it last, in words."""
        try:
            return self.path.read_text(encoding="utf-8").strip() or "another process"
        except OSError:
            return "another process"

    @contextmanager
    def hold(self, what: str, *, shared: bool = False, wait_seconds: float | None = 0.0) -> Iterator[None]:
        """Hold the lease for a block.

        Raises:
            StudyBusyError: Somebody else holds it; `what` says of what.
        """
        if not self.acquire(shared=shared, wait_seconds=wait_seconds):
            raise StudyBusyError(
                f"{what} is being worked on by {self.owner()}: wait until it is done, stop it, "
                f"or name another study with study=NAME"
            )
        try:
            yield
        finally:
            self.release()


def _lock(descriptor: int, kind: int, wait_seconds: float | None) -> bool:
    """Lock an open file within so many seconds; the kernel lets those in who wait for ever in the order they came."""
    if wait_seconds is None:
        fcntl.flock(descriptor, kind)
        return True
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        else:
            return True


def is_held(path: Path) -> bool:
    """Whether a living process holds the lease on `path`, alone or with others."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def stamp(path: Path) -> tuple[int, ...]:
    """What tells a file's versions apart without reading it; the same for every file that is not there."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return (0, 0, 0)
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)


def write_spec(spec: TrialSpec) -> str:
    """A trial's config as YAML."""
    content = _adapter(TrialSpec).dump_python(spec.applied(), mode="json")
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
            raise _corrupt(path, f"it is no config of schema {SCHEMA}")
        spec: TrialSpec = _adapter(TrialSpec).validate_python(content)
    except (OSError, yaml.YAMLError, KeyError, AttributeError, TypeError, ValidationError) as error:
        raise _corrupt(path, f"{type(error).__name__}: {error}".splitlines()[0]) from error
    if spec.key != key:
        raise _corrupt(
            path, f"it bears the key {key} but its content gives {spec.key} (another version may have written it)"
        )
    return spec


def config_digest(text: str) -> str:
    """What a submission says of the config that it means."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_checks(path: Path) -> tuple[Check, ...]:
    """Read a trial's checks up to the last whole line.

    Raises:
        CorruptFileError: A whole line is no check.
    """
    lines = read_lines(path)
    try:
        return tuple(_adapter(Check).validate_json(line) for line in lines)
    except ValidationError as error:
        raise _corrupt(path, "a line is no check") from error


def append_check(path: Path, check: Check) -> None:
    """Append one check to a trial's metrics."""
    append_line(path, _adapter(Check).dump_json(check).decode())


def settle(folder: TrialFolder, *, max_attempts: int, why: str = "its worker ended without a word") -> Status:
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
    lost = status.failed(Cause.LOST, why, step=last_step(folder), max_attempts=max_attempts)
    return replace(lost, wall_seconds=wall_seconds(folder, status))


def last_step(folder: TrialFolder) -> int:
    """The last step of a trial that was checked; 0 before the first check."""
    checks = read_checks(folder.metrics)
    return checks[-1].step if checks else 0


def wall_seconds(folder: TrialFolder, status: Status) -> float:
    """Time of a trial's workers, one that died without a word included, up to its last sign of life."""
    if status.started_at is None:
        return status.wall_seconds
    last_sign = max(path.stat().st_mtime for path in (folder.status, folder.metrics) if path.exists())
    return status.wall_seconds + max(0.0, last_sign - status.started_at)


def revive(root: Path) -> int:
    """Give trials that crashed or were lost another set of attempts; returns how many.

    Whoever runs the same command again has mended something, or hopes so; a model's own fault stays.
    """
    revived = 0
    for path in root.glob("*/status.json"):
        folder = TrialFolder(path.parent)
        status = read_record(path, Status)
        if status is None or status.state is not State.FAILED or status.cause is None or status.cause.is_models_fault:
            continue
        lock = Lease(folder.lock)
        if lock.acquire():
            write_record(path, replace(status, state=State.PENDING, failures=0))
            lock.release()
            revived += 1
    return revived
