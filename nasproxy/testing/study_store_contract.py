"""The contract suite for study stores: inherit the test class and provide an `open_store` fixture."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from nasproxy.errors import ConfigError, CorruptFileError, StaleLeaseError
from nasproxy.storage.study_stores import StudyStore

OpenStore = Callable[[], StudyStore]
"""Opens the study under test as another process would: all stores that it returns are the same study."""


@dataclass(frozen=True)
class Decision:
    """A record for the tests."""

    step: int
    scores: Mapping[str, float | None] = field(default_factory=dict)


class StudyStoreContract:
    """Behaviour of study stores that controllers rely on."""

    def test_what_was_written_is_read_by_all(self, open_store: OpenStore) -> None:
        writer, reader = open_store(), open_store()
        assert reader.read("variance/state", Decision) is None
        for decision in (Decision(1, {"a": 0.5}), Decision(2, {"a <b>": None})):
            writer.write("variance/state", decision)
            assert reader.read("variance/state", Decision) == decision
        assert reader.read("variance/other", Decision) is None

    def test_a_record_of_another_kind_is_refused(self, open_store: OpenStore) -> None:
        @dataclass(frozen=True)
        class Other:
            name: str

        open_store().write("selection/state", Other("a"))
        with pytest.raises(CorruptFileError, match=r"fields are not valid for Decision"):
            open_store().read("selection/state", Decision)

    def test_the_version_changes_with_the_content(self, open_store: OpenStore) -> None:
        store, name = open_store(), "proxy_search/tasks/data50"
        assert store.version(name) is None
        versions = []
        for step in (1, 2, 1):
            store.write(name, Decision(step))
            versions.append(open_store().version(name))
        assert versions[0] == versions[2] != versions[1]

    def test_names_are_listed_below_their_prefix_only(self, open_store: OpenStore) -> None:
        store = open_store()
        assert store.list_names("proxy_search/tasks") == []
        for name in ("rules", "tasks/width50", "tasks/data50", "tasks/a/b"):
            store.write(f"proxy_search/{name}", Decision(1))
        store.write("proxy_search/tasks2/c", Decision(1))
        below = ["proxy_search/tasks/data50", "proxy_search/tasks/width50"]
        assert open_store().list_names("proxy_search/tasks") == below
        assert open_store().list_names("proxy_search") == ["proxy_search/rules"]

    @pytest.mark.parametrize("name", ["", "../x", "a/../x", "/a", "a//b", "a/", ".hidden", "a/.b", "a b", "a\nb", "-a"])
    def test_a_name_that_leads_elsewhere_is_refused(self, open_store: OpenStore, name: str) -> None:
        store = open_store()
        for use in (
            lambda: store.write(name, Decision(1)),
            lambda: store.read(name, Decision),
            lambda: store.version(name),
            lambda: store.list_names(name),
            lambda: store.write_file(name, b""),
            lambda: store.remove_file(name),
        ):
            with pytest.raises(ConfigError, match="a name in a study must have parts of letters"):
                use()

    def test_a_write_of_an_owner_that_was_taken_over_is_refused(self, open_store: OpenStore) -> None:
        old, new = open_store(), open_store()
        first = old.lease("variance")
        assert first.acquire()
        old.write("variance/state", Decision(1), lease=first)
        first.release()
        second = new.lease("variance")
        assert second.acquire()
        assert (first.generation, second.generation) == (1, 2)
        new.write("variance/state", Decision(2), lease=second)
        with pytest.raises(StaleLeaseError, match=r"needs generation 2, got 1"):
            old.write("variance/state", Decision(3), lease=first)
        assert new.read("variance/state", Decision) == Decision(2)
        open_store().write("variance/state", Decision(4))
        assert new.read("variance/state", Decision) == Decision(4), "a write without a lease is not compared"
        with pytest.raises(StaleLeaseError, match=r"needs generation 2, got 1"):
            old.write("variance/state", Decision(3), lease=first)

    def test_leases_of_other_names_are_other_leases(self, open_store: OpenStore) -> None:
        assert open_store().lease("variance").acquire()
        assert open_store().lease("references").acquire()
        assert not open_store().lease("variance").acquire()

    def test_events_are_read_from_where_a_reader_was(self, open_store: OpenStore) -> None:
        first, second, reader = open_store(), open_store(), open_store()
        lines, start = reader.read_events()
        assert list(lines) == []
        first.append_event('{"kind": "a", "text": "\u2028 é"}')
        second.append_event("b")
        lines, position = reader.read_events(start)
        assert list(lines) == ['{"kind": "a", "text": "\u2028 é"}', "b"]
        assert list(reader.read_events()[0]) == list(lines)
        assert list(reader.read_events(position)[0]) == []
        first.append_event("c")
        assert list(reader.read_events(position)[0]) == ["c"]

    def test_an_event_of_two_lines_is_refused(self, open_store: OpenStore) -> None:
        with pytest.raises(ConfigError, match="an event must be one line, got 2"):
            open_store().append_event("a\nb")

    def test_files_are_written_listed_and_removed(self, open_store: OpenStore) -> None:
        store = open_store()
        assert store.read_file("report/index.html") is None
        store.write_file("report/index.html", b"old")
        store.write_file("report/index.html", b"<html>")
        store.write_file("report/tau.png", b"\x89PNG")
        assert open_store().read_file("report/index.html") == b"<html>"
        assert open_store().list_files("report") == ["report/index.html", "report/tau.png"]
        store.remove_file("report/tau.png")
        store.remove_file("report/tau.png")
        assert open_store().list_files("report") == ["report/index.html"]

    def test_trials_are_those_of_the_study(self, open_store: OpenStore) -> None:
        assert open_store().trials.keys() == []
