from pathlib import Path

import pytest

from nasproxy.errors import CorruptFileError
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.testing.study_store_contract import Decision, OpenStore, StudyStoreContract


class TestFolderStudyStore(StudyStoreContract):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> OpenStore:
        return lambda: FolderStudyStore(tmp_path / "study")

    def test_a_record_is_a_file_and_its_name_the_path(self, tmp_path: Path) -> None:
        store = FolderStudyStore(tmp_path)
        store.write("proxy_search/tasks/data50", Decision(1))
        assert (tmp_path / "proxy_search" / "tasks" / "data50.json").is_file()
        assert store.name == tmp_path.name

    def test_a_part_of_an_event_that_a_killed_writer_left_is_a_line_of_its_own(self, tmp_path: Path) -> None:
        store = FolderStudyStore(tmp_path)
        store.append_event("a")
        with (tmp_path / "events.jsonl").open("ab") as file:
            file.write(b"half")
        assert list(store.read_events()[0]) == ["a"]
        store.append_event("b")
        assert list(store.read_events()[0]) == ["a", "half", "b"]

    def test_links_are_not_listed_and_not_read(self, tmp_path: Path) -> None:
        store = FolderStudyStore(tmp_path)
        store.write("confirmation/a", Decision(1))
        (tmp_path / "confirmation" / "b.json").symlink_to(tmp_path / "confirmation" / "a.json")
        assert store.list_names("confirmation") == ["confirmation/a"]
        with pytest.raises(CorruptFileError, match=r"b.json cannot be read: it is a symbolic link"):
            store.read("confirmation/b", Decision)
