"""The contract suite for object stores: inherit the test class and provide an `open_objects` fixture."""

import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from nasproxy.storage.objects import Objects, VersionConflictError

OpenObjects = Callable[[], Objects]
"""Opens the empty store under test as another process would: all that it returns have the same objects."""


class ObjectsContract:
    """Behaviour of object stores that leases and records rely on."""

    def test_what_was_written_is_read_by_all(self, open_objects: OpenObjects) -> None:
        writer, reader = open_objects(), open_objects()
        assert reader.get("records/a") is None
        version = writer.put("records/a", b"one\n\x00", replaces=None)
        found = reader.get("records/a")
        assert found is not None
        assert (found.content, found.version) == (b"one\n\x00", version)

    def test_an_object_is_created_once(self, open_objects: OpenObjects) -> None:
        objects = open_objects()
        objects.put("a", b"first", replaces=None)
        with pytest.raises(VersionConflictError):
            open_objects().put("a", b"second", replaces=None)
        found = objects.get("a")
        assert found is not None
        assert found.content == b"first"

    def test_an_object_is_replaced_on_condition_of_its_version(self, open_objects: OpenObjects) -> None:
        objects = open_objects()
        first = objects.put("a", b"1", replaces=None)
        second = objects.put("a", b"2", replaces=first)
        assert second != first
        for version in (first, "another"):
            with pytest.raises(VersionConflictError):
                objects.put("a", b"3", replaces=version)
        with pytest.raises(VersionConflictError):
            objects.put("missing", b"3", replaces=second)
        found = open_objects().get("a")
        assert found is not None
        assert (found.content, found.version) == (b"2", second)
        assert open_objects().get("missing") is None

    def test_one_of_several_writers_creates_an_object_and_one_replaces_it(self, open_objects: OpenObjects) -> None:
        version: str | None = None
        for number in range(3):
            winners = self._race(open_objects, str(number).encode(), version)
            assert len(winners) == 1
            version = winners[0]

    def _race(self, open_objects: OpenObjects, content: bytes, replaces: str | None) -> list[str]:
        winners: list[str] = []

        def write() -> None:
            with suppress(VersionConflictError):
                winners.append(open_objects().put("a", content, replaces=replaces))

        threads = [threading.Thread(target=write) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return winners

    def test_a_version_is_never_that_of_an_earlier_content(self, open_objects: OpenObjects) -> None:
        objects = open_objects()
        versions = [objects.put("a", b"0", replaces=None)]
        for number in (1, 2, 3):
            versions.append(objects.put("a", str(number).encode(), replaces=versions[-1]))
        assert len(set(versions)) == 4

    def test_an_object_is_overwritten_whatever_it_was(self, open_objects: OpenObjects) -> None:
        objects = open_objects()
        for content in (b"old", b"new"):
            objects.overwrite("report/index.html", content)
        found = open_objects().get("report/index.html")
        assert found is not None
        assert found.content == b"new"

    def test_removing_twice_does_nothing(self, open_objects: OpenObjects) -> None:
        objects = open_objects()
        objects.overwrite("a", b"")
        objects.remove("a")
        objects.remove("a")
        assert objects.get("a") is None

    def test_names_below_a_prefix_are_listed_from_where_a_reader_was(self, open_objects: OpenObjects) -> None:
        objects = open_objects()
        for name in ("events/3", "events/1", "events/2", "events/2/x", "events2/1", "other"):
            objects.overwrite(name, b"")
        assert open_objects().list_names("events/") == ["events/1", "events/2", "events/2/x", "events/3"]
        assert open_objects().list_names("events/", after="events/2") == ["events/2/x", "events/3"]
        assert open_objects().list_names("events/", after="events/3") == []
        assert open_objects().list_names("nothing/") == []

    def test_folders_are_listed_without_what_is_below_them(self, open_objects: OpenObjects) -> None:
        objects = open_objects()
        for name in ("news/b/1", "news/a/1", "news/a/2/x", "news/file", "newest/c/1"):
            objects.overwrite(name, b"")
        assert open_objects().list_folders("news/") == ["news/a", "news/b"]
        assert open_objects().list_folders("nothing/") == []

    def test_names_are_kept_as_they_are(self, open_objects: OpenObjects) -> None:
        names = ["tasks/a=b,c@d", "tasks/a+b.json", "tasks/a_b-c"]
        for name in names:
            open_objects().put(name, name.encode(), replaces=None)
        assert open_objects().list_names("tasks/") == sorted(names)
        for name in names:
            found = open_objects().get(name)
            assert found is not None
            assert found.content == name.encode()
