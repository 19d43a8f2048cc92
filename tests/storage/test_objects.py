"""Objects in memory and in buckets, and the leases, trials and studies that are made of them."""

import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from helpers.damaged_files import CONTENTS
from helpers.s3_server import MakeBucket
from nasproxy.errors import ConfigError, CorruptTrialError, MissingExtraError, StorageUnavailableError
from nasproxy.storage.buckets import Bucket
from nasproxy.storage.leases import Lease
from nasproxy.storage.object_leases import ObjectLease
from nasproxy.storage.object_study_store import ObjectStudyStore
from nasproxy.storage.object_trial_store import ObjectTrialStore, name_lease
from nasproxy.storage.objects import MemoryObjects, Objects
from nasproxy.storage.study_stores import StudyStore
from nasproxy.storage.trial_stores import TrialStore
from nasproxy.testing.lease_contract import TTL_SECONDS, LeaseContract, MakeLease
from nasproxy.testing.objects_contract import ObjectsContract, OpenObjects
from nasproxy.testing.shared_place_contract import DamagedPlaceContract
from nasproxy.testing.store_contract import CHECKS, SPEC, StoreContract
from nasproxy.testing.study_store_contract import OpenStore, StudyStoreContract
from nasproxy.trials.clock import Clock
from nasproxy.trials.records import Cause, Request, RetryLink, State, Status, TrialRecord

PLACES = ["memory", "bucket in memory", pytest.param("s3", marks=pytest.mark.gate)]


@pytest.fixture(params=PLACES)
def open_objects(request: pytest.FixtureRequest) -> OpenObjects:
    """Return a function that opens the same empty place; in S3 each call makes a client of its own."""
    if request.param == "s3":
        url, options = request.getfixturevalue("make_bucket")()
        return lambda: Bucket(url, options)
    objects: Objects = MemoryObjects() if request.param == "memory" else Bucket("memory://study")
    return lambda: objects


class TestObjects(ObjectsContract):
    """All places are object stores."""


class TestObjectLease(LeaseContract):
    @pytest.fixture
    def make_lease(self, open_objects: OpenObjects) -> MakeLease:
        def make(node: str, *, ttl_seconds: float = TTL_SECONDS, clock: Clock | None = None) -> Lease:
            return ObjectLease(open_objects(), "x", ttl_seconds=ttl_seconds, clock=clock, node=node)

        return make


class TestObjectStudyStore(StudyStoreContract):
    @pytest.fixture
    def open_store(self, open_objects: OpenObjects) -> OpenStore:
        return lambda: ObjectStudyStore("study", objects=open_objects())


class TestObjectTrialStore(StoreContract):
    @pytest.fixture
    def store(self, open_objects: OpenObjects) -> TrialStore:
        return ObjectTrialStore(open_objects())


@dataclass(frozen=True)
class InBucket:
    """A study in a bucket, for other processes."""

    url: str
    options: Mapping[str, Any]

    def open(self) -> StudyStore:
        return ObjectStudyStore("digits", objects=Bucket(self.url, self.options))

    def lease(self, trial: str | None, node: str, ttl_seconds: float) -> Lease:
        name = "variance" if trial is None else name_lease(trial)
        return ObjectLease(Bucket(self.url, self.options), name, ttl_seconds=ttl_seconds, node=node)

    def damage(self, trial: str | None, way: str) -> None:
        part, _, content = way.partition(": ") if trial else ("", "", way)
        name = "records/variance/state" if trial is None else f"trials/{trial}/{part}"
        with tempfile.NamedTemporaryFile() as file:
            CONTENTS[content](Path(file.name))
            Bucket(self.url, self.options).overwrite(name, Path(file.name).read_bytes())


@pytest.mark.gate
class TestSharedBucket(DamagedPlaceContract):
    trial_damages = tuple(f"{part}: {way}" for part in ("config", "record") for way in CONTENTS)
    decision_damages = tuple(CONTENTS)

    @pytest.fixture
    def place(self, make_bucket: MakeBucket) -> InBucket:
        return InBucket(*make_bucket())


@pytest.fixture
def trials(open_objects: OpenObjects) -> Callable[[], ObjectTrialStore]:
    """Return a function that opens the store of a trial with two checks."""
    store = ObjectTrialStore(open_objects())
    store.create(SPEC)
    store.write(SPEC.key, TrialRecord(Status(State.PAUSED), CHECKS), generation=1)
    return lambda: ObjectTrialStore(open_objects())


@pytest.mark.parametrize("part", ["config", "record", "request"])
def test_a_damaged_trial_is_set_aside_and_begins_again(
    part: str, trials: Callable[[], ObjectTrialStore], open_objects: OpenObjects
) -> None:
    open_objects().overwrite(f"trials/{SPEC.key}/{part}", b'{"schema": 5')
    reads = {"config": TrialStore.spec, "record": TrialStore.read, "request": TrialStore.get_request}
    name = reads[part].__name__
    with pytest.raises(CorruptTrialError) as caught:
        getattr(trials(), name)(SPEC.key)
    assert caught.value.key == SPEC.key
    reader = trials()
    reader.news()
    assert trials().set_aside(SPEC.key) == f"damaged/{SPEC.key}-1"
    assert reader.news() == {SPEC.key}
    assert reader.read(SPEC.key) == TrialRecord()
    kept = open_objects().get(f"damaged/{SPEC.key}-1/{part}")
    assert kept is not None
    assert kept.content == b'{"schema": 5'
    reader.create(SPEC)
    assert reader.spec(SPEC.key).key == SPEC.key


def test_what_two_processes_change_of_a_record_is_kept_of_both(trials: Callable[[], ObjectTrialStore]) -> None:
    host, controller = trials(), trials()
    host.write(SPEC.key, TrialRecord(Status(State.FAILED, cause=Cause.OOM), CHECKS), generation=2)
    link = RetryLink("0" * 16, Cause.OOM, "")
    controller.link_retries(SPEC.key, (link,))
    host.write(SPEC.key, TrialRecord(Status(State.FAILED, cause=Cause.NAN), CHECKS), generation=2)
    record = trials().read_alone(SPEC.key)
    assert (record.retries, record.status.cause) == ((link,), Cause.NAN)


def test_a_poll_reads_news_and_no_trial(open_objects: OpenObjects) -> None:
    counted = Counted(open_objects())
    reader = ObjectTrialStore(counted)
    writers = [ObjectTrialStore(open_objects()) for _ in range(2)]
    for writer in writers:
        for number in range(5):
            writer.write(f"{number:016d}", TrialRecord(Status(State.RUNNING)), generation=1)
    reader.news()
    counted.requests.clear()
    assert reader.news() == set()
    assert counted.requests == ["list_folders", "list_names", "list_names"], "by writers, not by trials"
    writers[1].write(SPEC.key, TrialRecord(Status(State.RUNNING)), generation=1)
    counted.requests.clear()
    assert reader.news() == {SPEC.key}
    assert sorted(counted.requests) == ["get", "list_folders", "list_names", "list_names"]


def test_a_change_of_a_trial_takes_four_requests(open_objects: OpenObjects) -> None:
    counted = Counted(open_objects())
    writer = ObjectTrialStore(counted)
    for number in (1, 2):
        counted.requests.clear()
        writer.write(SPEC.key, TrialRecord(Status(State.RUNNING), CHECKS[:number]), generation=1)
        assert counted.requests == ["get", "get", "put", "put"], "its lease, its record, the new record, the news"


class Counted:
    """Objects that list the requests of a test."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.requests: list[str] = []

    def __getattr__(self, name: str) -> object:
        self.requests.append(name)
        return getattr(self._objects, name)


@pytest.mark.parametrize("url", ["http://x/y", "studies/digits", "s4://x", "s3:/x"])
def test_a_url_of_no_bucket_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"a bucket's URL must begin with one of s3://, gs://, az://, memory://"):
        Bucket(url)


def test_an_option_that_is_unknown_is_refused_in_a_sentence() -> None:
    bucket = Bucket("s3://bucket/study", {"config": {"colour": "blue"}})
    with pytest.raises(
        ConfigError, match=r"^s3://bucket/study needs options that obstore knows for it: [^\n]*colour[^\n]*$"
    ):
        bucket.get("a")


@pytest.mark.gate
@pytest.mark.parametrize("use", ["put", "overwrite", "list_names", "list_folders"])
def test_a_bucket_that_does_not_exist_is_unavailable_in_a_sentence(use: str, make_bucket: MakeBucket) -> None:
    _, options = make_bucket()
    bucket = Bucket("s3://nosuch/study", {**options, "retry_config": {"max_retries": 0}})
    uses: dict[str, Callable[[], object]] = {
        "put": lambda: bucket.put("a/", b"", replaces=None),
        "overwrite": lambda: bucket.overwrite("a/", b""),
        "list_names": lambda: bucket.list_names("a/"),
        "list_folders": lambda: bucket.list_folders("a/"),
    }
    with pytest.raises(StorageUnavailableError, match=r"^s3://nosuch/study did not (write|list) a/: [^\n]+$"):
        uses[use]()


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(MissingExtraError, match=r"^a study at s3://b/x needs obstore, .*'nasproxy\[buckets\]'"):
        Bucket("s3://b/x").get("a")


def test_a_damaged_entry_of_the_index_loses_no_trial(
    trials: Callable[[], ObjectTrialStore], open_objects: OpenObjects
) -> None:
    open_objects().overwrite(open_objects().list_names("index/")[0], b"{")
    assert trials().keys() == [SPEC.key]
    assert trials().purposes() == {SPEC.key: None}


def test_a_request_is_read_as_it_was_written(trials: Callable[[], ObjectTrialStore]) -> None:
    trials().request(SPEC.key, Request(until_step=10))
    assert trials().get_request(SPEC.key) == Request(until_step=10)
