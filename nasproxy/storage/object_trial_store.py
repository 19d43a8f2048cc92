"""Stores of a study's trials as objects: in a bucket, or in memory for tests."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

from pydantic import ValidationError

from nasproxy.errors import CorruptFileError, StudyBusyError
from nasproxy.storage.files import make_corrupt_error
from nasproxy.storage.json_records import encode_record, get_adapter, parse_record
from nasproxy.storage.leases import check_generation
from nasproxy.storage.object_leases import ObjectLease, read_lease
from nasproxy.storage.object_logs import ObjectLog
from nasproxy.storage.objects import Objects, VersionConflictError
from nasproxy.storage.trial_files import decode_config, digest_config, parse_spec, write_spec
from nasproxy.storage.trial_stores import PENDING, SET_ASIDE_SECONDS, UNLIMITED, RetryReadingStore, name_trial
from nasproxy.trials.records import Check, Request, RetryLink, Status, TrialPurpose, TrialRecord
from nasproxy.trials.spec import TrialSpec


@dataclass(frozen=True)
class StoredTrial:
    """What is stored of a trial, as one object that is replaced whole.

    Attributes:
        status: Its status, with the generation that wrote it.
        checks: Its learning curve.
        retries: Links to its retries.
    """

    status: Status = field(default_factory=Status)
    checks: tuple[Check, ...] = ()
    retries: tuple[RetryLink, ...] = ()


@dataclass(frozen=True)
class _Entry:
    key: str
    purpose: TrialPurpose | None = None


class ObjectTrialStore(RetryReadingStore):
    """Trials as objects: for each its config, its record and its request; an index, and news by writer.

    Args:
        objects: Where they are.
    """

    def __init__(self, objects: Objects) -> None:
        super().__init__()
        self._objects = objects
        self._index = ObjectLog(objects, "index")
        self._indexed = 0
        self._purposes: dict[str, TrialPurpose | None] = {}
        self._cache: dict[str, tuple[str, TrialRecord]] = {}
        self._own_news = ObjectLog(objects, f"news/{uuid.uuid4().hex}")
        self._news: dict[str, int] | None = None

    def create(self, spec: TrialSpec, purpose: TrialPurpose | None = None) -> str:
        """Write the trial's config, unless it exists with the same content, and return the digest of the config."""
        text, name = write_spec(spec), _place(spec.key, "config")
        try:
            self._objects.put(name, text.encode(), replaces=None)
        except VersionConflictError:
            found = self._objects.get(name)
            if found is None or found.content != text.encode():
                self._objects.overwrite(name, text.encode())
        known = self.purposes()
        if spec.key not in known or (known[spec.key] is None and purpose is not None):
            self._index.append(get_adapter(_Entry).dump_json(_Entry(spec.key, purpose)))
        return digest_config(text)

    def keys(self) -> list[str]:
        """List the keys of all created trials, sorted."""
        return sorted(self.purposes())

    def purposes(self) -> Mapping[str, TrialPurpose | None]:
        """Return what each trial was first created for, by key; None where that is unknown.

        The trials that a damaged entry of the index may have named are found by their objects.
        """
        entries, self._indexed = self._index.read(self._indexed)
        for content in entries:
            try:
                entry = get_adapter(_Entry).validate_json(content)
            except ValidationError:
                for place in self._objects.list_folders("trials/"):
                    self._purposes.setdefault(place.removeprefix("trials/"), None)
                continue
            if self._purposes.get(entry.key) is None:
                self._purposes[entry.key] = entry.purpose
        return self._purposes

    def spec(self, key: str) -> TrialSpec:
        """Read the trial's specification.

        Raises:
            CorruptTrialError: The config is missing or invalid.
        """
        path = Path(_place(key, "config"))
        with name_trial(key):
            found = self._objects.get(str(path))
            if found is None:
                raise make_corrupt_error(path, "it is missing")
            return parse_spec(path, decode_config(path, found.content))

    def read_alone(self, key: str) -> TrialRecord:
        """Read status and checks and, for a failed trial, the links to its retries.

        Raises:
            CorruptTrialError: The record is damaged.
        """
        return self._read(key)[0]

    def write(self, key: str, record: TrialRecord, *, generation: int) -> None:
        """Replace the trial's status and checks, as in `TrialStore.write`."""
        newest, _ = read_lease(self._objects, name_lease(key))
        check_generation(f"trial {key}", generation, newest.generation, newest.owner)

        def change(before: TrialRecord) -> TrialRecord:
            # The lease may have been taken over since it was read: what the new owner wrote is not replaced.
            check_generation(f"trial {key}", generation, before.status.generation)
            return replace(record, status=replace(record.status, generation=generation), retries=before.retries)

        self._change(key, change)

    def link_retries(self, key: str, retries: tuple[RetryLink, ...]) -> None:
        """Replace the links to the retries, if they differ."""
        if self.read_alone(key).retries != retries:
            self._change(key, lambda before: replace(before, retries=retries))

    def news(self) -> set[str]:
        """Return the keys of trials whose record has changed since the last call; none at the first call."""
        known, self._news = self._news, {}
        changed: set[str] = set()
        for writer in self._list_writers():
            log, after = ObjectLog(self._objects, f"news/{writer}"), (known or {}).get(writer, 0)
            if known is None:
                self._news[writer] = log.find_last()
            else:
                keys, self._news[writer] = log.read(after)
                changed |= {key.decode() for key in keys}
        return changed

    def request(self, key: str, request: Request) -> None:
        """Replace the trial's request."""
        self._objects.overwrite(_place(key, "request"), encode_record(request))

    def get_request(self, key: str) -> Request:
        """Return the trial's request; without one it runs to its end.

        Raises:
            CorruptTrialError: The request cannot be read.
        """
        found, name = self._objects.get(_place(key, "request")), _place(key, "request")
        with name_trial(key):
            return UNLIMITED if found is None else parse_record(Path(name), found.content, Request)

    def set_aside(self, key: str) -> str | None:
        """Move the objects of a damaged trial to `damaged`, as in `TrialStore.set_aside`."""
        lease = ObjectLease(self._objects, name_lease(key))
        if not lease.acquire(SET_ASIDE_SECONDS):
            raise StudyBusyError(
                f"trial {key} is damaged and must not run to be set aside, and {lease.owner()} runs it: stop that "
                f"process and run the command again"
            )
        try:
            if not self._is_damaged(key):
                return None
            numbered = (f"damaged/{key}-{number}/" for number in count(1))
            place = next(prefix for prefix in numbered if not self._objects.list_names(prefix))
            for name in self._objects.list_names(f"trials/{key}/"):
                found = self._objects.get(name)
                if found is not None:
                    self._objects.overwrite(place + name.removeprefix(f"trials/{key}/"), found.content)
                    self._objects.remove(name)
        finally:
            lease.release()
        self._own_news.append(key.encode())
        return place.rstrip("/")

    def _change(self, key: str, change: Callable[[TrialRecord], TrialRecord]) -> None:
        """Replace a trial's record by what a function makes of it, on condition that nobody else does so meanwhile."""
        while True:
            before, version = self._read(key)
            record = change(before)
            stored = StoredTrial(record.status, record.checks, record.retries)
            try:
                self._objects.put(_place(key, "record"), encode_record(stored), replaces=version)
            except VersionConflictError:
                continue
            self._own_news.append(key.encode())
            return

    def _read(self, key: str) -> tuple[TrialRecord, str | None]:
        """Read a trial's record, which is parsed again only if it has changed, and the version of its object."""
        name = _place(key, "record")
        found = self._objects.get(name)
        if found is None:
            return PENDING, None
        cached = self._cache.get(key)
        if cached is None or cached[0] != found.version:
            with name_trial(key):
                stored = parse_record(Path(name), found.content, StoredTrial)
            cached = self._cache[key] = found.version, TrialRecord(stored.status, stored.checks, stored.retries)
        return cached[1], found.version

    def _list_writers(self) -> list[str]:
        return [name.removeprefix("news/") for name in self._objects.list_folders("news/")]

    def _is_damaged(self, key: str) -> bool:
        try:
            self.get_request(key)
            self.read_alone(key)
            if self._objects.get(_place(key, "config")) is not None:
                self.spec(key)
        except CorruptFileError:
            return True
        return False


def name_lease(key: str) -> str:
    """Return the name of the lease on a trial."""
    return f"trials/{key}"


def _place(key: str, part: str) -> str:
    return f"trials/{key}/{part}"
