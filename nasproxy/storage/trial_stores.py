"""Where a study's trials live: folders on a local disk, or this process's memory."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from nasproxy.storage.files import get_stamp, read_record, replace_text, write_record
from nasproxy.storage.trial_files import digest_config, read_checks, read_spec, write_spec
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.trials.records import Request, RetryLink, State, Status, TrialRecord, merge_records
from nasproxy.trials.spec import TrialSpec

PENDING = TrialRecord()
UNLIMITED = Request()


class TrialStore(Protocol):
    """Where a study's trials live: folders or memory here; objects in a bucket elsewhere."""

    def create(self, spec: TrialSpec) -> str:
        """Make the trial known, once; the same spec again changes nothing. Returns the digest of its config."""
        ...

    def keys(self) -> list[str]:
        """Keys of all trials, sorted."""
        ...

    def spec(self, key: str) -> TrialSpec:
        """What the trial is."""
        ...

    def read(self, key: str) -> TrialRecord:
        """What is known of the trial and of those that stand in for it; an unknown one is pending without checks."""
        ...

    def read_alone(self, key: str) -> TrialRecord:
        """What the trial itself did, whichever stands in for it."""
        ...

    def link_retries(self, key: str, retries: tuple[RetryLink, ...]) -> None:
        """Have others stand in for a trial that has failed, each for the one before, in place of any that did."""
        ...

    def request(self, key: str, request: Request) -> None:
        """Ask something of the trial, in place of what was asked before."""
        ...


class _RetryReadingStore(ABC):
    """Reads a trial together with those that stand in for it."""

    def __init__(self) -> None:
        self._followed: dict[str, tuple[list[TrialRecord], TrialRecord]] = {}

    @abstractmethod
    def read_alone(self, key: str) -> TrialRecord:
        """What the trial itself did."""

    def read(self, key: str) -> TrialRecord:
        """What is known of the trial and of those that stand in for it."""
        first = self.read_alone(key)
        if not first.retries:
            return first
        records = [first, *(self.read_alone(by.key) for by in first.retries)]
        known, _ = self._followed.get(key, ([], PENDING))
        if len(known) != len(records) or any(a is not b for a, b in zip(known, records, strict=True)):
            self._followed[key] = records, merge_records(records)
        return self._followed[key][1]


class FolderTrialStore(_RetryReadingStore):
    """Trials as folders on a local disk, each file read again only when it has changed."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self._read: dict[str, tuple[tuple[int, ...], TrialRecord]] = {}

    def folder(self, key: str) -> TrialFolder:
        """The folder of one trial."""
        return TrialFolder(self.root / key)

    def create(self, spec: TrialSpec) -> str:
        """Write the trial's config unless it stands there already; returns the digest of the config."""
        text = write_spec(spec)
        path = self.folder(spec.key).config
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            replace_text(path, text)
        return digest_config(text)

    def keys(self) -> list[str]:
        """Keys of all trials that were created, sorted."""
        return sorted(path.parent.name for path in self.root.glob("*/config.yaml"))

    def spec(self, key: str) -> TrialSpec:
        """Read what the trial is.

        Raises:
            CorruptFileError: The config is missing or is no trial's.
        """
        return read_spec(self.folder(key).config)

    def read_alone(self, key: str) -> TrialRecord:
        """Read status and checks, and of a failed trial what stands in for it."""
        folder = self.folder(key)
        version = (*get_stamp(folder.status), *get_stamp(folder.metrics), *get_stamp(folder.retries))
        known = self._read.get(key)
        if known is None or known[0] != version:
            known = self._read[key] = (version, _record(folder))
        return known[1]

    def link_retries(self, key: str, retries: tuple[RetryLink, ...]) -> None:
        """Write which trials stand in, atomically, unless that is known."""
        if self.read_alone(key).retries != retries:
            write_record(self.folder(key).retries, _Retries(retries))

    def request(self, key: str, request: Request) -> None:
        """Replace the trial's request, atomically."""
        write_record(self.folder(key).request, request)


class MemoryTrialStore(_RetryReadingStore):
    """Trials in this process's memory: what is replayed can be replayed again, and needs no files."""

    def __init__(self) -> None:
        super().__init__()
        self._specs: dict[str, TrialSpec] = {}
        self._records: dict[str, TrialRecord] = {}
        self._requests: dict[str, Request] = {}

    def create(self, spec: TrialSpec) -> str:
        """Remember the trial; returns the digest of what it is."""
        self._specs.setdefault(spec.key, spec)
        return spec.digest

    def keys(self) -> list[str]:
        """Keys of all trials that were created, sorted."""
        return sorted(self._specs)

    def spec(self, key: str) -> TrialSpec:
        """What the trial is.

        Raises:
            KeyError: It was never created.
        """
        return self._specs[key]

    def read_alone(self, key: str) -> TrialRecord:
        """What the trial itself did."""
        return self._records.get(key, PENDING)

    def link_retries(self, key: str, retries: tuple[RetryLink, ...]) -> None:
        """Remember which trials stand in."""
        self._records[key] = replace(self.read_alone(key), retries=retries)

    def request(self, key: str, request: Request) -> None:
        """Replace the trial's request."""
        self._requests[key] = request

    def asked(self, key: str) -> Request:
        """What is asked of the trial: to run to its end, where nothing else is."""
        return self._requests.get(key, UNLIMITED)

    def write(self, key: str, record: TrialRecord) -> None:
        """Replace what is known of the trial; only its backend calls this."""
        self._records[key] = record


@dataclass(frozen=True)
class _Retries:
    retries: tuple[RetryLink, ...]


def _record(folder: TrialFolder) -> TrialRecord:
    status = read_record(folder.status, Status) or Status()
    linked = read_record(folder.retries, _Retries) if status.state is State.FAILED else None
    return TrialRecord(status, read_checks(folder.metrics), () if linked is None else linked.retries)
