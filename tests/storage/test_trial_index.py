"""The index of a study's trials, and the news of their records, after losses of their files."""

from pathlib import Path

import pytest

from nasproxy.storage.trial_stores import FolderTrialStore
from nasproxy.testing.store_contract import OTHERS, SPEC
from nasproxy.trials.records import TrialPurpose

PURPOSE = TrialPurpose("references")


@pytest.fixture
def store(tmp_path: Path) -> FolderTrialStore:
    made = FolderTrialStore(tmp_path)
    for spec in (SPEC, *OTHERS):
        made.create(spec, PURPOSE)
    return made


@pytest.mark.parametrize("n_lines", [0, 1, 2])
def test_an_index_that_lost_its_last_lines_hides_no_trial(
    tmp_path: Path, store: FolderTrialStore, n_lines: int
) -> None:
    path = tmp_path / "index.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:n_lines]))
    later = FolderTrialStore(tmp_path)
    assert later.keys() == store.keys() == sorted(spec.key for spec in (SPEC, *OTHERS))
    assert later.purposes()[SPEC.key] == (PURPOSE if n_lines else None)
    later.create(SPEC, TrialPurpose("confirmation"))
    assert FolderTrialStore(tmp_path).keys() == store.keys()


def test_a_folder_that_is_no_trial_is_not_listed(tmp_path: Path, store: FolderTrialStore) -> None:
    (tmp_path / "damaged" / f"{SPEC.key}-1").mkdir(parents=True)
    (tmp_path / "0123456789abcdef").mkdir()
    assert FolderTrialStore(tmp_path).keys() == store.keys()


def test_news_are_read_from_the_beginning_of_a_file_that_was_replaced(tmp_path: Path, store: FolderTrialStore) -> None:
    store.news()
    (tmp_path / "news").write_text(f"{SPEC.key}\n" * 3)
    assert store.news() == {SPEC.key}
    (tmp_path / "news").write_text(f"{OTHERS[0].key}\n")
    assert store.news() == {OTHERS[0].key}
