import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from nasproxy.errors import ConfigError, CorruptFileError, StudyBusyError, StudyChangedError, StudyVersionError
from nasproxy.storage.json_records import SCHEMA, read_record
from nasproxy.storage.locks import is_locked
from nasproxy.storage.study import StudyFolder, StudyRecord, list_differences, open_study
from nasproxy.storage.trial_stores import FolderTrialStore
from nasproxy.testing.store_contract import SPEC
from nasproxy.trials.records import Cause, Check, State, Status, TrialRecord

BASE: dict[str, Any] = {"seed": 0, "trainer.batch_size": 64, "trainer.lr": 0.1}


def create_study(root: Path, *, trials: bool = True) -> None:
    with open_study(root, "one", BASE, is_shared=False) as study:
        if trials:
            write_trial(study.folder, TrialRecord(Status(State.RUNNING), (Check(10, 0.5, 1.0),)))


def write_trial(folder: StudyFolder, record: TrialRecord) -> None:
    store = FolderTrialStore(folder.trials)
    store.create(SPEC)
    store.write(SPEC.key, record, generation=1)


def test_a_study_opens_again_with_the_same_base_configuration(tmp_path: Path) -> None:
    create_study(tmp_path)
    with open_study(tmp_path, "one", BASE, is_shared=False) as study:
        assert study.folder.path == tmp_path / "one"


@pytest.mark.parametrize("is_shared", [False, True])
def test_the_lock_file_of_a_killed_controller_is_removed_by_one_that_is_alone(tmp_path: Path, is_shared: bool) -> None:
    create_study(tmp_path)
    left = StudyFolder(tmp_path / "one").name_controller_lock()
    left.touch()
    with open_study(tmp_path, "one", BASE, is_shared=is_shared):
        assert not left.exists()
        left.touch()
        with open_study(tmp_path, "one", BASE, is_shared=True) if is_shared else nullcontext():
            assert left.exists(), "it may be of the other job"


def test_a_changed_base_configuration_is_refused_with_the_differences(tmp_path: Path) -> None:
    create_study(tmp_path)
    changed = {"seed": 0, "trainer.batch_size": 32, "trainer.lr": 0.1, "trainer.clip": 1}
    with (
        pytest.raises(StudyChangedError, match=r"trainer.batch_size: 64 -> 32; trainer.clip: absent -> 1"),
        open_study(tmp_path, "one", changed, is_shared=False),
    ):
        pass


def test_a_study_without_trials_takes_a_new_base_configuration(tmp_path: Path) -> None:
    create_study(tmp_path, trials=False)
    with open_study(tmp_path, "one", {"seed": 1}, is_shared=False) as study:
        record = read_record(study.folder.record, StudyRecord)
    assert record is not None
    assert record.base == {"seed": 1}


def test_a_sweep_over_the_base_configuration_is_refused(tmp_path: Path) -> None:
    with (
        open_study(tmp_path, "one", BASE, is_shared=True),
        pytest.raises(StudyChangedError, match="seed: 0 -> 1"),
        open_study(tmp_path, "one", {**BASE, "seed": 1}, is_shared=True),
    ):
        pass


FAILED_SETUP = Status(State.FAILED, failures=1, cause=Cause.SETUP, message="learning_rate must be a number, got fast")


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("trained", [False, True])
def test_a_study_in_which_no_trial_could_begin_takes_another_base_configuration(
    tmp_path: Path, is_shared: bool, trained: bool
) -> None:
    with open_study(tmp_path, "one", {**BASE, "trainer.lr": "fast"}, is_shared=is_shared) as study:
        if trained:
            write_trial(study.folder, TrialRecord(FAILED_SETUP))
    with open_study(tmp_path, "one", BASE, is_shared=is_shared) as study:
        record = read_record(study.folder.record, StudyRecord)
    assert record is not None
    assert record.base == BASE


@pytest.mark.parametrize("is_shared", [False, True])
def test_another_base_configuration_takes_what_was_computed_from_the_one_before_along(
    tmp_path: Path, is_shared: bool
) -> None:
    with open_study(tmp_path, "one", BASE, is_shared=is_shared) as study:
        files = [study.folder.path / name for name in ("estimate.json", "zero_cost.json")]
    for base, is_kept in ((BASE, True), ({**BASE, "seed": 1}, False)):
        for file in files:
            file.write_text("{}")
        with open_study(tmp_path, "one", base, is_shared=is_shared):
            assert [file.exists() for file in files] == [is_kept] * 2


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_study_whose_record_is_damaged_is_left_unlocked(tmp_path: Path, is_shared: bool) -> None:
    with open_study(tmp_path, "one", BASE, is_shared=is_shared) as study:
        study.folder.record.write_text("[" * 100_000)
    for _ in range(2):
        with (
            pytest.raises(CorruptFileError, match=r"study.json cannot be read"),
            open_study(tmp_path, "one", BASE, is_shared=is_shared),
        ):
            pass
    assert not is_locked(study.folder.lock)


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_result_of_a_model_keeps_the_base_configuration(tmp_path: Path, is_shared: bool) -> None:
    with open_study(tmp_path, "one", BASE, is_shared=is_shared) as study:
        write_trial(study.folder, TrialRecord(Status(State.FAILED, failures=1, cause=Cause.OOM, message="no memory")))
    with (
        pytest.raises(StudyChangedError, match="seed: 0 -> 1"),
        open_study(tmp_path, "one", {**BASE, "seed": 1}, is_shared=is_shared),
    ):
        pass


def test_jobs_of_a_sweep_share_a_study_and_block_other_controllers(tmp_path: Path) -> None:
    with (
        open_study(tmp_path, "one", BASE, is_shared=True),
        open_study(tmp_path, "one", BASE, is_shared=True),
        pytest.raises(StudyBusyError, match="study one is being worked on by process"),
        open_study(tmp_path, "one", BASE, is_shared=False),
    ):
        pass


def test_reading_a_study_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    create_study(tmp_path)
    with open_study(tmp_path, "one", None, is_shared=False) as study:
        assert study.folder.record.exists()
    with (
        pytest.raises(ConfigError, match=r"study two must exist to be looked at, and .* holds one"),
        open_study(tmp_path, "two", None, is_shared=False),
    ):
        pass
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize(("schema", "which"), [(SCHEMA - 1, "an earlier"), (SCHEMA + 1, "a later")])
@pytest.mark.parametrize("base", [BASE, {"seed": 1}, None])
@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("trials", [False, True])
def test_a_study_of_another_version_is_refused_and_not_changed(
    tmp_path: Path, schema: int, which: str, base: dict[str, object] | None, is_shared: bool, trials: bool
) -> None:
    create_study(tmp_path, trials=trials)
    rewrite_schema(tmp_path / "one" / "study.json", schema)
    before = read_files(tmp_path)
    with (
        pytest.raises(StudyVersionError, match=rf"study one was written by {which} version .*schema {schema},"),
        open_study(tmp_path, "one", base, is_shared=is_shared),
    ):
        pass
    assert read_files(tmp_path) == before


@pytest.mark.parametrize("schema", [None, "2", 1.5])
def test_a_record_without_a_schema_is_corrupt(tmp_path: Path, schema: object) -> None:
    create_study(tmp_path)
    rewrite_schema(tmp_path / "one" / "study.json", schema)
    with (
        pytest.raises(CorruptFileError, match=r"study.json cannot be read: it is not a record of schema"),
        open_study(tmp_path, "one", BASE, is_shared=False),
    ):
        pass


def rewrite_schema(path: Path, schema: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": schema}))


def read_files(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_a_setting_that_was_added_later_equals_its_default(tmp_path: Path) -> None:
    create_study(tmp_path)
    defaults = {"trainer.clip": 0}
    with open_study(tmp_path, "one", {**BASE, "trainer.clip": 0}, is_shared=False, defaults=defaults):
        pass
    changed = {**BASE, "trainer.clip": 1}
    with (
        pytest.raises(StudyChangedError, match=r"trainer.clip: absent -> 1"),
        open_study(tmp_path, "one", changed, is_shared=False, defaults=defaults),
    ):
        pass


def test_differences_name_both_values() -> None:
    assert list_differences({"a": 1, "b": [1, 2]}, {"a": 1.0, "b": (1, 2), "c": None}) == []
    assert list_differences({"a": 1}, {"a": "1"}) == ["a: 1 -> 1"]
