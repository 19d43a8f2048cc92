"""Stores of a study's trials: folders that processes share, or this process's memory."""

import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Protocol

from nasproxy.errors import CorruptFileError, CorruptTrialError, StudyBusyError
from nasproxy.storage.files import digest_bytes, make_misplaced_error, move_path, read_bytes, replace_bytes
from nasproxy.storage.folder_leases import FolderLease, begin_above, hold_generation
from nasproxy.storage.json_records import parse_record, read_record, write_record
from nasproxy.storage.leases import check_generation
from nasproxy.storage.locks import CONTROLLER, FileLock, is_locked
from nasproxy.storage.trial_files import (
    digest_config,
    parse_checks,
    read_count,
    read_spec,
    replace_status,
    write_checks,
    write_spec,
)
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.storage.trial_index import TrialIndex, TrialNews, add_news
from nasproxy.trials.objective import Objective
from nasproxy.trials.records import Request, RetryLink, State, Status, TrialPurpose, TrialRecord, merge_records
from nasproxy.trials.spec import TrialSpec

PENDING = TrialRecord()
UNLIMITED = Request()
SET_ASIDE_SECONDS = 10.0
"""Seconds to wait for the worker of a damaged trial to end."""


class TrialStore(Protocol):
    """Protocol of all stores of trials.

    A method that reads files raises `CorruptTrialError` if those of one trial are damaged: `set_aside` then lets the
    trial begin again.
    """

    def create(self, spec: TrialSpec, purpose: TrialPurpose | None = None) -> str:
        """Create the trial if it does not exist and return the digest of its config; the first purpose is kept."""
        ...

    def keys(self) -> list[str]:
        """List the keys of all trials, sorted."""
        ...

    def purposes(self) -> Mapping[str, TrialPurpose | None]:
        """Return what each trial was first created for, by key; None where that is unknown."""
        ...

    def spec(self, key: str) -> TrialSpec:
        """Read the trial's specification."""
        ...

    def read(self, key: str) -> TrialRecord:
        """Read the record of the trial merged with those of its retries; an unknown trial is pending without checks."""
        ...

    def read_alone(self, key: str) -> TrialRecord:
        """Read the record of the trial without its retries' checks."""
        ...

    def write(self, key: str, record: TrialRecord, *, generation: int) -> None:
        """Replace the trial's status and checks, for a host that writes records itself; links to retries stay.

        Args:
            key: Key of the trial.
            record: Its new record.
            generation: Generation of the host's lease on the trial.

        Raises:
            StaleLeaseError: A newer generation has written or holds the trial; nothing is changed.
        """
        ...

    def news(self) -> set[str]:
        """Return the keys of trials whose record has changed since the last call; none at the first call.

        The cost follows the number of changes, not of trials. It may hold keys of other controllers' trials.
        """
        ...

    def link_retries(self, key: str, retries: tuple[RetryLink, ...]) -> None:
        """Link a failed trial to its retries, each for the trial before; replaces earlier links."""
        ...

    def request(self, key: str, request: Request) -> None:
        """Replace the trial's request."""
        ...

    def get_request(self, key: str) -> Request:
        """Return the trial's request; without one it runs to its end."""
        ...

    def set_aside(self, key: str) -> str | None:
        """Move a damaged trial out of the way, so that it begins again; nothing is deleted.

        Returns:
            Where its files are; None if it is not damaged (any more), and nothing was moved.

        Raises:
            StudyBusyError: A worker still runs it.
        """
        ...


def read_intact(store: TrialStore, key: str) -> TrialRecord | None:
    """Read a trial's record; None if it is damaged: it stays where it is until a stage trains it again."""
    try:
        return store.read(key)
    except CorruptTrialError:
        return None


def read_intact_spec(store: TrialStore, key: str) -> TrialSpec | None:
    """Read a trial's specification; None if it is damaged."""
    try:
        return store.spec(key)
    except CorruptTrialError:
        return None


class RetryReadingStore(ABC):
    """Merges the record of a trial with those of its retries; subclasses read single records."""

    def __init__(self) -> None:
        self._merged: dict[str, tuple[list[TrialRecord], TrialRecord]] = {}

    @abstractmethod
    def read_alone(self, key: str) -> TrialRecord:
        """Read the record of the trial without its retries' checks."""

    def read(self, key: str) -> TrialRecord:
        """Read the record of the trial merged with those of its retries; merged again only after a change."""
        first = self.read_alone(key)
        if not first.retries:
            return first
        records = [first, *(self.read_alone(retry.key) for retry in first.retries)]
        cached, _ = self._merged.get(key, ([], PENDING))
        if len(cached) != len(records) or any(old is not new for old, new in zip(cached, records, strict=True)):
            self._merged[key] = records, merge_records(records)
        return self._merged[key][1]


class FolderTrialStore(RetryReadingStore):
    """Trials as folders that controller and workers share; a file is parsed again only if its content has changed.

    Args:
        root: Folder of the trials.
        metric: Name of the metric that is the score of a check.
    """

    def __init__(self, root: Path, metric: str = Objective.name) -> None:
        super().__init__()
        self.root = root
        self._metric = metric
        self._index = TrialIndex(root)
        self._news = TrialNews(root)
        self._cache: dict[str, tuple[tuple[int | str | None, ...], TrialRecord]] = {}

    def folder(self, key: str) -> TrialFolder:
        """Return the paths of one trial's files."""
        return TrialFolder(self.root / key)

    def create(self, spec: TrialSpec, purpose: TrialPurpose | None = None) -> str:
        """Write the trial's config, unless it exists with the same content, and return the digest of the config.

        Raises:
            CorruptTrialError: There is a link or a folder in place of one of the trial's files.
        """
        text, folder = write_spec(spec), self.folder(spec.key)
        with name_trial(spec.key):
            _check_folder(folder)
            if read_bytes(folder.config) != text.encode():
                replace_bytes(folder.config, text.encode())
        self._index.add(spec.key, purpose)  # last, so that every trial of the index has a config
        self._news.open()
        return digest_config(text)

    def keys(self) -> list[str]:
        """List the keys of all created trials, sorted."""
        return sorted(self._index.read())

    def purposes(self) -> Mapping[str, TrialPurpose | None]:
        """Return what each trial was first created for, by key; None where that is unknown."""
        return self._index.read()

    def spec(self, key: str) -> TrialSpec:
        """Read the trial's specification.

        Raises:
            CorruptTrialError: The config is missing or invalid.
        """
        with name_trial(key):
            return read_spec(self.folder(key).config)

    def read_alone(self, key: str) -> TrialRecord:
        """Read status and checks and, for a failed trial, the links to its retries.

        Raises:
            CorruptTrialError: A file is damaged, or checks are missing that the status states.
        """
        folder = self.folder(key)
        with name_trial(key):
            # The count first, then the status: both are written after the checks that they speak of.
            count = read_count(folder)
            contents = tuple(read_bytes(path) for path in (folder.status, folder.metrics, folder.retries))
            version = (count, *(None if content is None else digest_bytes(content) for content in contents))
            cached = self._cache.get(key)
            if cached is None or cached[0] != version:
                cached = self._cache[key] = version, _parse_trial(folder, contents, self._metric, count)
        return cached[1]

    def write(self, key: str, record: TrialRecord, *, generation: int) -> None:
        """Replace the trial's status and checks, as in `TrialStore.write`.

        Raises:
            StaleLeaseError: A newer generation has written or holds the trial; nothing is changed.
            CorruptTrialError: The checks or the status before cannot be read.
        """
        folder = self.folder(key)
        with name_trial(key), hold_generation(folder.lock, generation):
            before = read_record(folder.status, Status) or Status()
            check_generation(f"trial {key}", generation, before.generation)
            write_checks(folder, record.checks, self._metric)
            replace_status(folder, record.status, generation)
        add_news(folder)

    def news(self) -> set[str]:
        """Return the keys of trials whose record has changed since the last call; none at the first call."""
        return self._news.read_new()

    def link_retries(self, key: str, retries: tuple[RetryLink, ...]) -> None:
        """Replace the links to the retries, atomically, if they differ."""
        if self.read_alone(key).retries != retries:
            write_record(self.folder(key).retries, _Retries(retries))
            add_news(self.folder(key))

    def request(self, key: str, request: Request) -> None:
        """Replace the trial's request, atomically."""
        with name_trial(key):
            write_record(self.folder(key).request, request, durable=False)

    def get_request(self, key: str) -> Request:
        """Return the trial's request; without one it runs to its end.

        Raises:
            CorruptTrialError: The request cannot be read.
        """
        with name_trial(key):
            return read_record(self.folder(key).request, Request) or UNLIMITED

    def set_aside(self, key: str) -> str | None:
        """Move the folder of a damaged trial to `damaged`, as in `TrialStore.set_aside`."""
        folder = self.folder(key)
        lease = FolderLease(folder.lock, role=CONTROLLER)
        try:
            is_free, is_lease_damaged = lease.acquire_or_outwait(SET_ASIDE_SECONDS), False
        except CorruptFileError:
            is_free, is_lease_damaged = _is_unlocked(folder.lock), True
        if not is_free:
            worker = FileLock(folder.lock).owner()
            raise StudyBusyError(
                f"trial {key} is damaged and must not run to be set aside, and {worker} runs it: stop "
                f"that process and run the command again"
            )
        try:
            if not self._is_damaged(key):
                return None
            numbered = (self.root / "damaged" / f"{key}-{number}" for number in count(1))
            place = next(path for path in numbered if not path.exists())
            move_path(folder.path, place)
            if is_lease_damaged:
                begin_above(folder.lock)
        finally:
            lease.release()
        add_news(folder)
        return str(place)

    def _is_damaged(self, key: str) -> bool:
        folder = self.folder(key)
        try:
            _check_folder(folder)
            self.get_request(key)
            self.read_alone(key)
            if folder.config.exists():
                self.spec(key)
        except CorruptFileError:
            return True
        return False


def _is_unlocked(path: Path) -> bool:
    try:
        return not is_locked(path)
    except CorruptFileError:
        return True  # a worker holds a file, and this is none


class MemoryTrialStore(RetryReadingStore):
    """Trials in this process's memory, for replays, which can be repeated and need no files."""

    def __init__(self) -> None:
        super().__init__()
        self._specs: dict[str, TrialSpec] = {}
        self._purposes: dict[str, TrialPurpose | None] = {}
        self._records: dict[str, TrialRecord] = {}
        self._requests: dict[str, Request] = {}
        self._news: set[str] | None = None

    def create(self, spec: TrialSpec, purpose: TrialPurpose | None = None) -> str:
        """Keep the trial and return its digest."""
        self._specs.setdefault(spec.key, spec)
        self._purposes.setdefault(spec.key, purpose)
        return spec.digest

    def keys(self) -> list[str]:
        """List the keys of all created trials, sorted."""
        return sorted(self._specs)

    def purposes(self) -> Mapping[str, TrialPurpose | None]:
        """Return what each trial was first created for, by key; None where that is unknown."""
        return self._purposes

    def spec(self, key: str) -> TrialSpec:
        """Return the trial's specification.

        Raises:
            KeyError: The trial was never created.
        """
        return self._specs[key]

    def read_alone(self, key: str) -> TrialRecord:
        """Return the record of the trial without its retries' checks."""
        return self._records.get(key, PENDING)

    def write(self, key: str, record: TrialRecord, *, generation: int) -> None:
        """Replace the trial's status and checks, as in `TrialStore.write`."""
        before = self.read_alone(key)
        check_generation(f"trial {key}", generation, before.status.generation)
        status = record.status
        if status.generation != generation:
            status = replace(status, generation=generation)
        if status is not record.status or record.retries != before.retries:
            record = replace(record, status=status, retries=before.retries)
        self._records[key] = record
        self._add_news(key)

    def news(self) -> set[str]:
        """Return the keys of trials whose record has changed since the last call; none at the first call."""
        news, self._news = self._news or set(), set()
        return news

    def link_retries(self, key: str, retries: tuple[RetryLink, ...]) -> None:
        """Replace the links to the retries."""
        self._records[key] = replace(self.read_alone(key), retries=retries)
        self._add_news(key)

    def request(self, key: str, request: Request) -> None:
        """Replace the trial's request."""
        self._requests[key] = request

    def get_request(self, key: str) -> Request:
        """Return the trial's request; without one it runs to its end."""
        return self._requests.get(key, UNLIMITED)

    def set_aside(self, key: str) -> str | None:
        """Return None: memory has no damaged trials."""
        return None

    def _add_news(self, key: str) -> None:
        if self._news is not None:
            self._news.add(key)


@dataclass(frozen=True)
class _Retries:
    retries: tuple[RetryLink, ...]


@contextmanager
def name_trial(key: str) -> Iterator[None]:
    """Say which trial a damaged file belongs to."""
    try:
        yield
    except CorruptTrialError:
        raise
    except CorruptFileError as error:
        raise CorruptTrialError(str(error), error.reason, key) from error


def _parse_trial(
    folder: TrialFolder, contents: tuple[bytes | None, ...], metric: str, least_checks: int
) -> TrialRecord:
    written, lines, links = contents
    status = Status() if written is None else parse_record(folder.status, written, Status)
    checks = parse_checks(folder.metrics, lines or b"", metric)
    if len(checks) < least_checks:
        reason = f"{folder.metrics} cannot be read: it has {len(checks)} checks, and the trial had {least_checks}"
        raise CorruptFileError(
            f"{reason}. Nothing was changed: restore the file, or run the study's command again to repeat the trial.",
            reason,
        )
    is_linked = links is not None and status.state is State.FAILED
    retries = parse_record(folder.retries, links, _Retries).retries if is_linked and links is not None else ()
    return TrialRecord(status, checks, retries)


def _check_folder(folder: TrialFolder) -> None:
    """Check that a trial's folder has no links, and files and folders where they belong.

    Raises:
        CorruptFileError: Something else is there.
    """
    expected = {folder.path: stat.S_ISDIR, folder.checkpoints: stat.S_ISDIR}
    for path in (folder.path, folder.checkpoints, *folder.files):
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            if path == folder.path:
                return  # a new trial
            continue
        if not expected.get(path, stat.S_ISREG)(mode):
            raise make_misplaced_error(path)
