"""A study's folder and record; one controller, or the controllers of one sweep, work on it at a time."""

import errno
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nasproxy.errors import ConfigError, CorruptFileError, StudyChangedError, StudyVersionError
from nasproxy.storage.files import remove_file
from nasproxy.storage.json_records import SCHEMA, read_record, read_schema, write_record
from nasproxy.storage.locks import FileLock
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.storage.trial_files import read_last_check
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.storage.trial_index import TrialIndex
from nasproxy.storage.trial_stores import TrialStore
from nasproxy.trials.objective import Objective
from nasproxy.trials.proxy_task import NAME_PATTERN
from nasproxy.trials.records import Status

UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)

RECORD = "study"
"""Name of the `StudyRecord` in a study."""
COMPUTED_FROM_BASE = ("estimate.json", "zero_cost.json")
"""Files with what the base configuration alone decides; another base makes them wrong."""


@dataclass(frozen=True)
class StudyRecord:
    """Base configuration of a study and its preflighted trials.

    Attributes:
        base: The base configuration, by dotted path.
        preflighted: Digests of kinds of trials that have passed the preflight and need no other one.
    """

    base: Mapping[str, Any]
    preflighted: tuple[str, ...] = ()

    @property
    def objective(self) -> Objective:
        """The metric that the study's decisions are made on."""
        return Objective(self.base.get("metric.name", Objective.name), self.base.get("metric.mode", Objective.mode))


@dataclass(frozen=True)
class StudyFolder:
    """Paths of a study's files."""

    path: Path

    @property
    def record(self) -> Path:
        """The `StudyRecord`."""
        return self.path / "study.json"

    @property
    def lock(self) -> Path:
        """Lock file of the controllers that work on the study."""
        return self.locks / "study.lock"

    @property
    def locks(self) -> Path:
        """Folder of the lock files; a lock file that no process has locked has no effect."""
        return self.path / "locks"

    def name_controller_lock(self) -> Path:
        """Return a new path for the lock file of this process as a controller."""
        return self.locks / f"controller-{os.getpid()}-{time.time_ns()}.lock"

    def list_controller_locks(self) -> list[Path]:
        """List the lock files of controllers, of which those that were killed have left theirs."""
        return list(self.locks.glob("controller-*.lock"))

    @property
    def trials(self) -> Path:
        """Folder with one folder per trial."""
        return self.path / "trials"

    @property
    def replayed(self) -> Path:
        """Trials replayed from a table, one per line; they have no folders."""
        return self.path / "replayed.jsonl"


@dataclass
class OpenStudy:
    """An open study, locked by this controller or, in a sweep, by its jobs together.

    Attributes:
        folder: Paths of the study's files.
        is_shared: Whether the jobs of a sweep share the study.
        preflighted: Digests of kinds of trials that have passed the preflight.
    """

    folder: StudyFolder
    is_shared: bool = False
    preflighted: set[str] = field(default_factory=set)

    @contextmanager
    def hold_stage(self, name: str) -> Iterator[None]:
        """Hold the lock of one stage; in a sweep one job runs the stage and the others wait for its result.

        Raises:
            StudyBusyError: Another process holds it and the study is not shared.
        """
        lock = FileLock(self.folder.locks / f"{name}.lock")
        with lock.hold(f"stage {name} of study {self.folder.path.name}", wait_seconds=None if self.is_shared else 5.0):
            yield

    def add_preflighted(self, digests: Sequence[str]) -> None:
        """Record kinds of trials that have passed the preflight."""
        with self.hold_stage("record"):
            record = read_record(self.folder.record, StudyRecord)
            if record is not None:
                self.preflighted = {*record.preflighted, *digests}
                write_record(self.folder.record, StudyRecord(record.base, tuple(sorted(self.preflighted))))


def open_study_store(
    path: Path, *, trials: TrialStore | None = None, metric: str | None = None, durable: bool = True
) -> FolderStudyStore:
    """Open the store of a study in a folder.

    Args:
        path: The study's folder.
        trials: Store of the trials; None for folders.
        metric: Name of the metric that is the score of a check; None for that of the study's record.
        durable: Whether records outlast a loss of power.

    Raises:
        CorruptFileError: The study's record cannot be read.
    """
    if trials is None and metric is None:
        record = FolderStudyStore(path).read(RECORD, StudyRecord)
        metric = Objective.name if record is None else record.objective.name
    return FolderStudyStore(path, metric=metric or Objective.name, trials=trials, durable=durable)


def check_study_name(name: str) -> None:
    """Refuse a name that may lead out of the folder of the studies.

    Raises:
        ConfigError: The name is not valid.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise ConfigError(
            f"study must be a name of 1 to 64 letters, digits, '.', '_' or '-', a letter or digit first, got {name!r}"
        )


def check_study_version(folder: StudyFolder) -> None:
    """Refuse a study whose files this version does not read.

    Raises:
        StudyVersionError: Another version of nasproxy wrote it.
    """
    schema = read_schema(folder.record)
    if schema is None or schema == SCHEMA:
        return
    raise StudyVersionError(
        f"study {folder.path.name} was written by {'an earlier' if schema < SCHEMA else 'a later'} version of nasproxy "
        f"(schema {schema}, this version has {SCHEMA}), and nothing in it was changed: begin another study with "
        f"study=NAME, or read this one with the version that wrote it"
    )


@contextmanager
def open_study(
    root: Path,
    name: str,
    base: Mapping[str, Any] | None,
    *,
    is_shared: bool,
    defaults: Mapping[str, Any] | None = None,
) -> Iterator[OpenStudy]:
    """Open or create a study.

    Args:
        root: Folder of all studies.
        name: The study's name, which is also its folder's name.
        base: The base configuration by dotted path, which must not change during the study; None opens it read-only.
        is_shared: Share the study with the other jobs of a sweep.
        defaults: Values of the base configuration, by dotted path, that a study has which was created before they could
            be set.

    Raises:
        ConfigError: The name is not valid, the folder cannot be written, or a study to read does not exist.
        StudyBusyError: Another process works on it.
        StudyChangedError: It was created with another base configuration.
        StudyVersionError: It was written by another version of nasproxy.
    """
    check_study_name(name)
    folder = StudyFolder(root / name)
    check_study_version(folder)
    if base is None:
        yield _known(folder)
        return
    try:
        folder.trials.mkdir(parents=True, exist_ok=True)
        what, lock = f"study {name}", FileLock(folder.lock)
        if is_shared and lock.acquire():  # no other job of the sweep has begun, so that the record may be replaced
            try:
                _remove_left_locks(folder)
                _record_base(folder, base, is_replaceable=True)
            finally:
                lock.release()
        with lock.hold(what, shared=is_shared, wait_seconds=2.0):
            if not is_shared:
                _remove_left_locks(folder)
            yield _begin(folder, base, is_shared, defaults or {})
    except OSError as error:
        if error.errno not in UNWRITABLE or not str(error.filename).startswith(str(root)):
            raise
        raise ConfigError(
            f"study {name} needs a folder it can write to, got {folder.path}: {error.strerror}; choose another place "
            f"with studies_dir=FOLDER"
        ) from error


def _remove_left_locks(folder: StudyFolder) -> None:
    """Remove the lock files of controllers that were killed; called by the only controller of the study."""
    for path in folder.list_controller_locks():
        remove_file(path)


def _known(folder: StudyFolder) -> OpenStudy:
    if not folder.record.exists():
        others = list_studies(folder.path.parent)
        raise ConfigError(
            f"study {folder.path.name} must exist to be looked at, and {folder.path.parent} holds "
            f"{', '.join(others) or 'none'}: name one of them, or begin it with job=design"
        )
    return OpenStudy(folder)


def _begin(folder: StudyFolder, base: Mapping[str, Any], is_shared: bool, defaults: Mapping[str, Any]) -> OpenStudy:
    study = OpenStudy(folder, is_shared)
    with study.hold_stage("record"):
        record = _record_base(folder, base, is_replaceable=not is_shared)
    changed = list_differences(record.base, base, defaults)
    if changed:
        raise StudyChangedError(
            f"study {folder.path.name} was begun with another configuration ({'; '.join(changed)}): "
            f"set that back, or begin another study with study=NAME"
        )
    study.preflighted = set(record.preflighted)
    return study


def _record_base(folder: StudyFolder, base: Mapping[str, Any], *, is_replaceable: bool) -> StudyRecord:
    """Record the base configuration, unless there is a record on which trials depend; return the record."""
    record = read_record(folder.record, StudyRecord)
    if record is None or (is_replaceable and not _has_results(folder)):
        if record is not None and list_differences(record.base, base):
            for name in COMPUTED_FROM_BASE:
                remove_file(folder.path / name)
        record = StudyRecord(dict(base))
        write_record(folder.record, record)
    return record


def _has_results(folder: StudyFolder) -> bool:
    """Return whether a trial of the study has a result: a check, or a failure by the model's fault."""
    return folder.replayed.exists() or any(
        _has_result(TrialFolder(folder.trials / key)) for key in TrialIndex(folder.trials).read()
    )


def _has_result(trial: TrialFolder) -> bool:
    try:
        status = read_record(trial.status, Status)
        has_failed = status is not None and status.cause is not None and status.cause.is_models_fault
        return has_failed or read_last_check(trial) is not None
    except CorruptFileError:
        return True  # what cannot be read may be one


def list_studies(root: Path) -> list[str]:
    """List the names of the studies in a folder, sorted; empty if the folder does not exist."""
    return sorted(path.parent.name for path in root.glob("*/study.json"))


def list_differences(
    old: Mapping[str, Any], new: Mapping[str, Any], defaults: Mapping[str, Any] = MappingProxyType({})
) -> list[str]:
    """List the paths whose values differ, with both values; a missing path is `absent`.

    Args:
        old: Recorded values by dotted path.
        new: Present values by dotted path.
        defaults: Values of paths that one of the two does not have: a setting that was added later.
    """
    known = ({**defaults, **old}, {**defaults, **new})
    paths = [path for path in {**old, **new} if not _equal(known[0].get(path), known[1].get(path))]
    return [f"{path}: {old.get(path, 'absent')} -> {new.get(path, 'absent')}" for path in paths]


def _equal(old: Any, new: Any) -> bool:
    if isinstance(old, float) and isinstance(new, float):
        return math.isclose(old, new, rel_tol=1e-12)
    if isinstance(old, list | tuple) and isinstance(new, list | tuple):
        return list(old) == list(new)
    return bool(old == new)
