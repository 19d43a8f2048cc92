"""Each kind of file of a study with each kind of damage: a sentence, and a damaged trial costs that trial."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from helpers.damaged_files import CONTENTS, PLACES, Damage, empty, replace_by_folder
from nasproxy.errors import (
    ConfigError,
    CorruptFileError,
    CorruptTrialError,
    StorageFullError,
    StorageUnavailableError,
    StudyBusyError,
)
from nasproxy.execution.host.devices import find_lease_folder
from nasproxy.stages.study_results import read_results
from nasproxy.storage.files import append_line, append_shared_line, replace_text
from nasproxy.storage.folder_leases import FolderLease
from nasproxy.storage.json_records import read_record, write_record
from nasproxy.storage.locks import FileLock, is_locked
from nasproxy.storage.study import RECORD, StudyRecord
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.storage.trial_files import discard_checkpoints, retry_failed_trials, write_status
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.storage.trial_stores import FolderTrialStore
from nasproxy.testing.store_contract import CHECKS, FIRST, OTHERS, SPEC
from nasproxy.trials.records import Cause, Check, Request, State, Status, TrialPurpose, TrialRecord

NUMBERS: dict[str, Damage] = {
    "NaN": lambda path: path.write_text('{"schema": 5, "state": "running", "wall_seconds": NaN}'),
    "infinity": lambda path: path.write_text('{"schema": 5, "state": "running", "wall_seconds": 1e999}'),
    "huge": lambda path: path.write_text('{"schema": 5, "state": "running", "wall_seconds": 1' + "0" * 5000 + "}"),
    "empty": lambda path: path.write_text(""),
}
CHECK = '{"step": %s, "metrics": {"accuracy": %s}, "train_seconds": %s}\n'
LINES: dict[str, Damage] = {
    "steps back": lambda path: path.write_text(CHECK % (20, 0.5, 1.0) + CHECK % (10, 0.5, 2.0)),
    "step twice": lambda path: path.write_text(CHECK % (10, 0.5, 1.0) * 2),
    "NaN": lambda path: path.write_text(CHECK % (10, "NaN", 1.0)),
    "infinity": lambda path: path.write_text(CHECK % (10, 0.5, "1e999")),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-10]),
    "empty": empty,
    "lost": Path.unlink,
    "a line less": lambda path: path.write_text("".join(path.read_text().splitlines(keepends=True)[1:])),
    "huge step": lambda path: path.write_text(CHECK % ("1" + "0" * 30, 0.5, 1.0)),
}
CASES = [
    *(("status", name, damage) for name, damage in {**CONTENTS, **PLACES, **NUMBERS}.items()),
    *(("metrics", name, damage) for name, damage in {**CONTENTS, **PLACES, **LINES}.items()),
    *(("config", name, damage) for name, damage in {**CONTENTS, **PLACES}.items()),
]
STATES = {
    "unfinished": TrialRecord(Status(State.RUNNING, started_at=1.0), CHECKS[:1]),
    "paused": TrialRecord(Status(State.PAUSED), CHECKS[:1]),
    "finished": TrialRecord(Status(State.DONE), CHECKS),
    "failed": TrialRecord(Status(State.FAILED, failures=1, cause=Cause.OOM, message="no memory"), CHECKS),
}


def make_trial(root: Path, record: TrialRecord) -> FolderTrialStore:
    store = FolderTrialStore(root)
    store.create(SPEC, TrialPurpose("variance"))
    lease = FolderLease(store.folder(SPEC.key).lock)
    lease.acquire()
    store.write(SPEC.key, record, generation=lease.generation)
    lease.release()
    return store


def read_all(store: FolderTrialStore) -> TrialRecord:
    store.spec(SPEC.key)
    return store.read(SPEC.key)


@pytest.mark.parametrize("place", ["file", "dangling link", "link"])
def test_something_else_in_place_of_a_trials_folder_costs_that_trial(tmp_path: Path, place: str) -> None:
    store = make_trial(tmp_path / "trials", STATES["finished"])
    folder = store.folder(SPEC.key).path
    folder.rename(tmp_path / "elsewhere")
    if place == "file":
        folder.write_text("")
    else:
        folder.symlink_to(tmp_path / ("nowhere" if place == "dangling link" else "elsewhere"))
    with pytest.raises(CorruptTrialError, match="cannot be read"):
        store.create(SPEC)
    moved = store.set_aside(SPEC.key)
    assert moved is not None
    assert Path(moved).is_symlink() == (place != "file")
    store.create(SPEC)
    assert read_all(store) == TrialRecord()
    assert store.keys() == [SPEC.key]


def begin_again(store: FolderTrialStore) -> str:
    """Do what a controller does with a damaged trial; return where its files are."""
    with pytest.raises(CorruptTrialError, match=r"cannot be read: .*") as caught:
        read_all(store)
    assert caught.value.key == SPEC.key
    place = store.set_aside(SPEC.key)
    assert place is not None
    store.create(SPEC)
    assert store.read(SPEC.key) == TrialRecord()
    return place


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(("file", "name", "damage"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_damaged_trial_costs_that_trial(tmp_path: Path, file: str, name: str, damage: Damage, state: str) -> None:
    store = make_trial(tmp_path, STATES[state])
    folder = store.folder(SPEC.key)
    damage(getattr(folder, file))
    before = {path.name for path in folder.path.iterdir()}
    place = Path(begin_again(FolderTrialStore(tmp_path)))
    assert place == tmp_path / "damaged" / f"{SPEC.key}-1"
    assert {path.name for path in place.iterdir()} == before, "nothing is deleted"
    assert store.keys() == [SPEC.key]
    assert store.purposes()[SPEC.key] == TrialPurpose("variance")


def test_a_trial_is_set_aside_as_often_as_it_is_damaged_and_its_generation_goes_on(tmp_path: Path) -> None:
    for number in (1, 2):
        store = make_trial(tmp_path, STATES["finished"])
        store.folder(SPEC.key).status.write_text("{")
        assert begin_again(store) == str(tmp_path / "damaged" / f"{SPEC.key}-{number}")
    lease = FolderLease(store.folder(SPEC.key).lock)
    assert lease.acquire()
    assert lease.generation == 5, "two workers, two that set it aside, and now a fifth"


def test_a_damaged_trial_that_still_runs_is_not_set_aside(tmp_path: Path) -> None:
    store = make_trial(tmp_path, STATES["unfinished"])
    store.folder(SPEC.key).status.write_text("{")
    worker = FileLock(store.folder(SPEC.key).lock)
    assert worker.acquire()
    with (
        mock.patch("nasproxy.storage.trial_stores.SET_ASIDE_SECONDS", 0.0),
        pytest.raises(StudyBusyError, match=rf"trial {SPEC.key} is damaged and must not run"),
    ):
        store.set_aside(SPEC.key)
    worker.release()


@pytest.mark.parametrize("file", ["guard", "lease"])
def test_a_trial_whose_lease_is_damaged_while_it_runs_is_not_set_aside_and_later_begins_above_it(
    tmp_path: Path, file: str
) -> None:
    store = make_trial(tmp_path, STATES["unfinished"])
    folder = store.folder(SPEC.key)
    lease = FolderLease(folder.lock)
    assert lease.acquire()
    path: Path = getattr(folder, file)
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StudyBusyError, match=rf"trial {SPEC.key} is damaged and must not run"):
        store.set_aside(SPEC.key)
    FileLock(folder.lock).take_over()  # the worker is killed
    folder.lock.unlink()
    assert store.set_aside(SPEC.key) is not None
    later = FolderLease(folder.lock)
    assert later.acquire()
    assert later.generation > lease.generation + 1, "in case that the worker lives, its writes are refused"


@pytest.mark.parametrize("file", ["heartbeat", "log", "lock", "lease", "guard", "checkpoints", "request", "retries"])
def test_a_link_among_a_trials_files_is_found_before_it_runs(tmp_path: Path, file: str) -> None:
    store = make_trial(tmp_path, STATES["paused"])
    (tmp_path / "precious").write_text("text")
    path: Path = getattr(store.folder(SPEC.key), file)
    path.unlink(missing_ok=True)
    path.symlink_to(tmp_path / "precious")
    with pytest.raises(CorruptTrialError, match=rf"{path.name} cannot be read: it is a symbolic link") as caught:
        store.create(SPEC)
    assert store.set_aside(caught.value.key) is not None
    store.create(SPEC)
    assert (tmp_path / "precious").read_text() == "text"


def test_damaged_links_to_retries_cost_the_failed_trial(tmp_path: Path) -> None:
    store = make_trial(tmp_path, STATES["failed"])
    store.link_retries(SPEC.key, (FIRST,))
    store.folder(SPEC.key).retries.write_text("{")
    begin_again(store)


def test_a_damaged_request_is_replaced_by_the_next_one(tmp_path: Path) -> None:
    store = make_trial(tmp_path, STATES["paused"])
    store.folder(SPEC.key).request.write_text("{")
    with pytest.raises(CorruptTrialError, match=r"request.json cannot be read"):
        store.get_request(SPEC.key)
    store.request(SPEC.key, Request(until_step=5))
    assert store.get_request(SPEC.key) == Request(until_step=5)


def test_new_attempts_leave_damaged_trials_to_the_stage_that_needs_them(tmp_path: Path) -> None:
    store = make_trial(tmp_path, STATES["failed"])
    store.folder(SPEC.key).status.write_text("{")
    assert retry_failed_trials(tmp_path) == 0
    store = make_trial(tmp_path / "locked", replace(STATES["failed"], status=Status(State.FAILED, cause=Cause.CRASH)))
    replace_by_folder(store.folder(SPEC.key).lock)
    assert retry_failed_trials(tmp_path / "locked") == 0


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"\xff\n")])
def test_a_damaged_index_is_made_up_for_by_the_folders(tmp_path: Path, damage: Damage) -> None:
    make_trial(tmp_path, STATES["finished"])
    damage(tmp_path / "index.jsonl")
    assert FolderTrialStore(tmp_path).keys() == [SPEC.key]
    store = FolderTrialStore(tmp_path)
    store.create(SPEC, TrialPurpose("references"))
    assert store.purposes()[SPEC.key] == TrialPurpose("references")


@pytest.mark.parametrize("is_same_process", [True, False])
def test_a_new_trial_in_a_lost_index_brings_the_others_with_it(tmp_path: Path, is_same_process: bool) -> None:
    store = make_trial(tmp_path, STATES["finished"])
    (tmp_path / "index.jsonl").unlink()
    store = store if is_same_process else FolderTrialStore(tmp_path)
    store.create(OTHERS[0], TrialPurpose("references"))
    for each in (store, FolderTrialStore(tmp_path)):
        assert each.keys() == sorted([SPEC.key, OTHERS[0].key])
        assert each.purposes()[OTHERS[0].key] == TrialPurpose("references")


def test_a_file_that_cannot_be_read_now_is_not_damaged(tmp_path: Path) -> None:
    store = make_trial(tmp_path, STATES["finished"])
    index = FolderTrialStore(tmp_path)
    for number, advice in ((errno.EMFILE, "run the command again once"), (errno.EACCES, "let this user read")):
        refuse = mock.patch("nasproxy.storage.files.os.open", side_effect=OSError(number, os.strerror(number)))
        for use in (lambda: store.read(SPEC.key), index.keys, lambda: store.request(SPEC.key, Request())):
            message = rf"cannot be used: {os.strerror(number)}. Nothing was changed: {advice}"
            with refuse, pytest.raises(StorageUnavailableError, match=message):
                use()
    assert store.read(SPEC.key) == STATES["finished"]


def test_news_that_cannot_be_written_undo_no_end(tmp_path: Path) -> None:
    store = make_trial(tmp_path, STATES["unfinished"])
    full = mock.patch("nasproxy.storage.trial_index.append_shared_line", side_effect=StorageFullError("full"))
    with full:
        write_status(store.folder(SPEC.key), Status(State.PAUSED), generation=1)
    assert store.read(SPEC.key).status.state is State.PAUSED


def test_a_report_shows_a_damaged_trial_as_pending_with_a_note(tmp_path: Path) -> None:
    folder = FolderStudyStore(tmp_path / "study")
    folder.write(RECORD, StudyRecord({}))
    make_trial(folder.path / "trials", STATES["finished"])
    TrialFolder(folder.path / "trials" / SPEC.key).metrics.write_text("")
    results = read_results(folder, time_tolerance=0.0)
    record = results.trials[SPEC.key].record
    assert record.status.state is State.PENDING
    assert "it has 0 checks, and the trial had 2" in str(record.status.message)
    assert list(results.damaged) == [SPEC.key]


@pytest.mark.parametrize("damage", [*CONTENTS.values(), *PLACES.values(), *NUMBERS.values()])
def test_a_damaged_decision_is_a_sentence_and_not_repaired(tmp_path: Path, damage: Damage) -> None:
    path = tmp_path / "state.json"
    write_record(path, StudyRecord({"seed": 0}))
    damage(path)
    with pytest.raises(
        CorruptFileError, match=r"state.json cannot be read: .*\. Nothing was changed: .*run the command again"
    ):
        read_record(path, StudyRecord)


def test_a_lock_file_that_is_a_link_is_refused_and_its_target_neither_locked_nor_changed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("text")
    (tmp_path / "study.lock").symlink_to(tmp_path / "precious")
    for use in (lambda: FileLock(tmp_path / "study.lock").acquire(), lambda: is_locked(tmp_path / "study.lock")):
        with pytest.raises(CorruptFileError, match=r"study.lock cannot be read: it is a symbolic link"):
            use()
    assert (tmp_path / "precious").read_text() == "text"
    assert not is_locked(tmp_path / "precious")


def test_a_record_replaces_a_link_and_not_its_target(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("text")
    (tmp_path / "state.json").symlink_to(tmp_path / "precious")
    write_record(tmp_path / "state.json", StudyRecord({}))
    assert (tmp_path / "precious").read_text() == "text"
    assert not (tmp_path / "state.json").is_symlink()


def test_the_folder_of_gpu_leases_belongs_to_this_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = find_lease_folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    assert find_lease_folder().stat().st_mode & 0o777 == 0o700
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"must be a folder of user \d+, got a symbolic link.*: remove it, or set"):
        find_lease_folder()
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB that another file fills; a patched write where none can be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    if (
        os.getuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=400k", "nasproxy-test", place], capture_output=True, check=False
        ).returncode
    ):
        try:
            yield place
        finally:
            subprocess.run(["umount", place], check=True)
        return
    size, write = 0, os.write

    def write_until_full(descriptor: int, content: bytes) -> int:
        nonlocal size
        size += len(content)
        if size > 400_000:
            raise OSError(28, "No space left on device")
        return write(descriptor, content)

    with mock.patch("os.write", write_until_full):
        yield place


WRITES: dict[str, Callable[[Path, str], object]] = {
    "record": lambda path, text: write_record(path, StudyRecord({"text": text})),
    "text": replace_text,
    "line": append_line,
    "shared line": append_shared_line,
}


@pytest.mark.parametrize("name", WRITES)
def test_a_full_disk_is_a_sentence_and_leaves_what_was_there(full_disk: Path, name: str) -> None:
    path, write = full_disk / "folder" / "file", WRITES[name]
    write(path, "first")
    before = path.read_bytes()
    with pytest.raises(
        StorageFullError, match=r"file cannot be written: .*Free space and run the command again"
    ) as error:
        write(path, "x" * 500_000)
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__
    assert sorted(each.name for each in path.parent.iterdir()) == ["file"], "no temporary file is left"
    if name != "shared line":  # others may have appended after it
        assert path.read_bytes() == before


def test_crashes_with_a_checkpoint_move_it_away(tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path)
    crash = {"cause": Cause.CRASH, "message": "invalid checkpoint", "step": 40, "max_attempts": 5}
    once = Status().failed(**crash)
    twice = once.failed(**crash)
    assert (once.suspects_checkpoint, twice.suspects_checkpoint) == (False, True)
    assert not once.failed(**{**crash, "step": 60}).suspects_checkpoint, "it made progress"
    assert not once.failed(**{**crash, "cause": Cause.LOST}).suspects_checkpoint, "it may have been killed by anything"
    assert discard_checkpoints(folder) is None
    for number in ("", "-2"):
        folder.checkpoints.mkdir()
        (folder.checkpoints / "last.pt").write_text("x")
        assert discard_checkpoints(folder) == tmp_path / f"checkpoints.damaged{number}"
        assert not folder.checkpoints.exists()


def test_ends_and_decisions_are_synced_and_news_of_a_running_trial_is_not(tmp_path: Path) -> None:
    store = FolderTrialStore(tmp_path)
    store.create(SPEC)
    synced: list[str] = []
    sync = os.fsync

    def record_sync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        sync(descriptor)

    with mock.patch("os.fsync", record_sync):
        store.write(SPEC.key, TrialRecord(Status(State.RUNNING), (Check(10, 0.5, 1.0),)), generation=1)
        store.request(SPEC.key, Request(stop=True))
        assert synced == []
        store.write(SPEC.key, TrialRecord(Status(State.PAUSED), (Check(10, 0.5, 1.0),)), generation=1)
        assert synced[:2] == ["metrics.jsonl", "check_count"], "the checks before the end"
        assert synced[2].startswith(".status.json")
        assert synced[3:] == [SPEC.key, tmp_path.name], "the folders, so that the files are found"
        synced.clear()
        write_record(tmp_path / "state.json", StudyRecord({}))
        assert len(synced) == 3
