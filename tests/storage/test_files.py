import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasproxy.errors import CorruptFileError, StudyBusyError
from nasproxy.storage.files import append_line, read_lines
from nasproxy.storage.json_records import SCHEMA, read_record, write_record
from nasproxy.storage.locks import FileLock, is_locked
from nasproxy.storage.trial_files import append_check, read_checks, read_count, read_spec, write_spec
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.storage.trial_stores import FolderTrialStore, MemoryTrialStore
from nasproxy.testing import synthetic
from nasproxy.testing.store_contract import SPEC, StoreContract
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Cause, Check, State, Status
from nasproxy.trials.spec import Split, TrialSpec


def test_a_written_record_is_read_back_unchanged(tmp_path: Path) -> None:
    status = Status(State.FAILED, failures=2, wall_seconds=1.5, threads=1, cause=Cause.OOM, message="no <memory>")
    write_record(tmp_path / "status.json", status)
    assert read_record(tmp_path / "status.json", Status) == status
    assert read_record(tmp_path / "absent.json", Status) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 99}', '{"schema": 1, "state": "odd"}'])
def test_an_invalid_record_raises_and_is_not_changed(tmp_path: Path, text: str) -> None:
    path = tmp_path / "status.json"
    path.write_text(text)
    with pytest.raises(CorruptFileError, match=r"status.json cannot be read.*Nothing was changed"):
        read_record(path, Status)
    assert path.read_text() == text


def test_an_incomplete_line_is_ignored_and_removed_by_the_next_append(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    append_line(path, "one")
    path.write_bytes(path.read_bytes() + b"tw")
    assert read_lines(path) == ["one"]
    append_line(path, "three")
    assert read_lines(path) == ["one", "three"]


@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.floats(-1e6, 1e6), st.floats(0, 1e6)), max_size=5, unique_by=lambda r: r[0]
    ),
    st.integers(0, 40),
)
def test_a_truncated_file_of_checks_gives_a_prefix_of_the_checks(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, float, float]], cut: int
) -> None:
    folder = TrialFolder(tmp_path_factory.mktemp("checks"))
    path, checks = folder.metrics, [Check(*row) for row in sorted(rows)]
    for number, check in enumerate(checks, 1):
        append_check(folder, check.step, {"accuracy": check.score}, check.train_seconds, number=number)
    assert read_count(folder) == len(checks)
    if checks:
        path.write_bytes(path.read_bytes()[: -cut or None])
    read = list(read_checks(path))
    assert read == checks[: len(read)]


def test_a_complete_line_that_is_not_a_check_raises(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": "many"}\n')
    with pytest.raises(CorruptFileError, match="a line is not a check"):
        read_checks(path)


def _hold_lease(path: Path, ready: Any) -> None:
    FileLock(path).acquire()
    ready.set()
    signal.pause()


def _wait_until_ended(ready: Any, ended: Any) -> None:
    ready.set()
    ended.wait(30)


def test_a_lease_ends_with_its_process(tmp_path: Path) -> None:
    path, context = tmp_path / "lease", multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_hold_lease, args=(path, ready))
    process.start()
    assert ready.wait(30)
    assert is_locked(path)
    with (
        pytest.raises(StudyBusyError, match=rf"study x is being worked on by process {process.pid} on"),
        FileLock(path).hold("study x"),
    ):
        pass
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert not is_locked(path)
    with FileLock(path).hold("study x"):
        assert is_locked(path)


def test_processes_forked_by_the_owner_do_not_hold_the_lease(tmp_path: Path) -> None:
    lease, context = FileLock(tmp_path / "lease"), multiprocessing.get_context("fork")
    assert lease.acquire()
    ready, ended = context.Event(), context.Event()
    process = context.Process(target=_wait_until_ended, args=(ready, ended))
    process.start()
    assert ready.wait(30)
    assert is_locked(lease.path)
    lease.release()
    try:
        assert not is_locked(lease.path)
    finally:
        ended.set()
        process.join()


def test_a_shared_lease_blocks_an_exclusive_one(tmp_path: Path) -> None:
    first, second, alone = (FileLock(tmp_path / "lease") for _ in range(3))
    assert first.acquire(shared=True)
    assert second.acquire(shared=True)
    assert not alone.acquire()
    first.release()
    second.release()
    assert alone.acquire()


def test_a_written_spec_is_read_back_with_its_key_and_overrides_applied(tmp_path: Path) -> None:
    spec = TrialSpec(
        SPEC.architecture, ProxyTask(overrides={"trainer.noise": 5.0}), Split.FULL, 0, synthetic.make_recipe(noise=0.1)
    )
    (tmp_path / "config.yaml").write_text(write_spec(spec))
    read = read_spec(tmp_path / "config.yaml")
    assert read.key == spec.key
    assert read.recipe.trainer["noise"] == 5.0


@pytest.mark.parametrize(
    ("old", "new"), [("seed: 3", "seed: 4"), (f"schema: {SCHEMA}", "schema: 2"), ("key:", "lock:")]
)
def test_a_changed_config_is_refused(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(write_spec(SPEC).replace(old, new))
    with pytest.raises(CorruptFileError, match=r"config.yaml cannot be read"):
        read_spec(path)


class TestFolderTrialStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> FolderTrialStore:
        return FolderTrialStore(tmp_path)


class TestMemoryTrialStore(StoreContract):
    @pytest.fixture
    def store(self) -> MemoryTrialStore:
        return MemoryTrialStore()
