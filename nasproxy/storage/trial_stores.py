"""Stores of a study's trials: folders on a local disk, or this process's memory."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from nasproxy.storage.files import get_stamp, read_record, replace_text, write_record
from nasproxy.storage.trial_files import NEWS, digest_config, read_checks, read_spec, write_spec
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.trials.objective import Objective
from nasproxy.trials.records import Request, RetryLink, State, Status, TrialRecord, merge_records
from nasproxy.trials.spec import TrialSpec

PENDING = TrialRecord()
UNLIMITED = Request()


class TrialStore(Protocol):
    """Protocol of all stores of trials."""

    def create(self, spec: TrialSpec) -> str:
        """Create the trial if it does not exist and return the digest of its config."""
        ...

    def keys(self) -> list[str]:
        """List the keys of all trials, sorted."""
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

    def news(self) -> set[str]:
        """Return the keys of trials whose status or checks changed since the last call; none at the first call."""
        ...

    def link_retries(self, key: str, retries: tuple[RetryLink, ...]) -> None:
        """Link a failed trial to its retries, each for the trial before; replaces earlier links."""
        ...

    def request(self, key: str, request: Request) -> None:
        """Replace the trial's request."""
        ...


class _RetryReadingStore(ABC):
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


class FolderTrialStore(_RetryReadingStore):
    """Trials as folders on a local disk; a file is read again only if it has changed.

    Args:
        root: Folder of the trials.
        metric: Name of the metric that is the score of a check.
    """

    def __init__(self, root: Path, metric: str = Objective.name) -> None:
        super().__init__()
        self.root = root
        self._metric = metric
        self._cache: dict[str, tuple[tuple[int, ...], TrialRecord]] = {}
        self._news_read: int | None = None

    def folder(self, key: str) -> TrialFolder:
        """Return the paths of one trial's files."""
        return TrialFolder(self.root / key)

    def create(self, spec: TrialSpec) -> str:
        """Write the trial's config, unless it exists with the same content, and return the digest of the config."""
        text = write_spec(spec)
        path = self.folder(spec.key).config
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            replace_text(path, text)
        return digest_config(text)

    def keys(self) -> list[str]:
        """List the keys of all created trials, sorted."""
        return sorted(path.parent.name for path in self.root.glob("*/config.yaml"))

    def spec(self, key: str) -> TrialSpec:
        """Read the trial's specification.

        Raises:
            CorruptFileError: The config is missing or invalid.
        """
        return read_spec(self.folder(key).config)

    def read_alone(self, key: str) -> TrialRecord:
        """Read status and checks and, for a failed trial, the links to its retries."""
        folder = self.folder(key)
        version = (*get_stamp(folder.status), *get_stamp(folder.metrics), *get_stamp(folder.retries))
        cached = self._cache.get(key)
        if cached is None or cached[0] != version:
            cached = self._cache[key] = (version, _read_folder(folder, self._metric))
        return cached[1]

    def news(self) -> set[str]:
        """Return the keys of trials whose status or checks changed since the last call; none at the first call."""
        if self._news_read is None:
            self.root.mkdir(parents=True, exist_ok=True)
            with (self.root / NEWS).open("ab") as file:  # writers add to a file that exists
                self._news_read = file.tell()
            return set()
        with (self.root / NEWS).open("rb") as file:
            file.seek(self._news_read)
            lines = file.read()
        complete = lines[: lines.rfind(b"\n") + 1]
        self._news_read += len(complete)
        return set(complete.decode().split())

    def link_retries(self, key: str, retries: tuple[RetryLink, ...]) -> None:
        """Replace the links to the retries, atomically, if they differ."""
        if self.read_alone(key).retries != retries:
            write_record(self.folder(key).retries, _Retries(retries))

    def request(self, key: str, request: Request) -> None:
        """Replace the trial's request, atomically."""
        write_record(self.folder(key).request, request)


class MemoryTrialStore(_RetryReadingStore):
    """Trials in this process's memory, for replays, which can be repeated and need no files."""

    def __init__(self) -> None:
        super().__init__()
        self._specs: dict[str, TrialSpec] = {}
        self._records: dict[str, TrialRecord] = {}
        self._requests: dict[str, Request] = {}
        self._changed: set[str] | None = None

    def create(self, spec: TrialSpec) -> str:
        """Keep the trial and return its digest."""
        self._specs.setdefault(spec.key, spec)
        return spec.digest

    def keys(self) -> list[str]:
        """List the keys of all created trials, sorted."""
        return sorted(self._specs)

    def spec(self, key: str) -> TrialSpec:
        """Return the trial's specification.

        Raises:
            KeyError: The trial was never created.
        """
        return self._specs[key]

    def read_alone(self, key: str) -> TrialRecord:
        """Return the record of the trial without its retries' checks."""
        return self._records.get(key, PENDING)

    def news(self) -> set[str]:
        """Return the keys of trials whose record was written since the last call; none at the first call."""
        changed, self._changed = self._changed or set(), set()
        return changed

    def link_retries(self, key: str, retries: tuple[RetryLink, ...]) -> None:
        """Replace the links to the retries."""
        self._records[key] = replace(self.read_alone(key), retries=retries)

    def request(self, key: str, request: Request) -> None:
        """Replace the trial's request."""
        self._requests[key] = request

    def get_request(self, key: str) -> Request:
        """Return the trial's request; without one it runs to its end."""
        return self._requests.get(key, UNLIMITED)

    def write(self, key: str, record: TrialRecord) -> None:
        """Replace the trial's record; only its backend calls this."""
        self._records[key] = record
        if self._changed is not None:
            self._changed.add(key)


@dataclass(frozen=True)
class _Retries:
    retries: tuple[RetryLink, ...]


def _read_folder(folder: TrialFolder, metric: str) -> TrialRecord:
    status = read_record(folder.status, Status) or Status()
    linked = read_record(folder.retries, _Retries) if status.state is State.FAILED else None
    return TrialRecord(status, read_checks(folder.metrics, metric), () if linked is None else linked.retries)
