import csv
import json
import os
import signal
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest

from nasproxy.errors import CorruptFileError
from nasproxy.tracking.cells import TableRows
from nasproxy.tracking.csv_files import FIELDS, CsvTracker
from nasproxy.tracking.events import ReportWritten, TrialEnded, describe_trial
from nasproxy.trials.records import Cause, RetryLink, State, TrialRecord
from nasproxy.trials.spec import TrialSpec

Make = Callable[..., TrialSpec]
End = Callable[..., TrialEnded]
Report = Callable[..., ReportWritten]


def rows(study: Path, name: str = "trials") -> list[dict[str, str]]:
    with (study / "tracking" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_check_is_a_row_with_all_fields_of_its_trial(study: Path, make_spec: Make, end_trial: End) -> None:
    spec = make_spec(seed=3, data_fraction=0.5, overrides={"trainer.batch_size": 32})
    CsvTracker(study=study).receive(end_trial(spec, [20, 40]))
    first, second = rows(study)
    assert first["key"] == spec.key
    assert (first["seed"], first["split"], first["data_fraction"], first["state"]) == ("3", "search", "0.5", "paused")
    assert json.loads(first["architecture"]) == {"width": 8, "kind": "a,b"}
    assert json.loads(first["overrides"]) == {"trainer.batch_size": 32}
    assert [(row["step"], row["score"], row["train_seconds"]) for row in (first, second)] == [
        ("20", "0.2", "10.0"),
        ("40", "0.4", "20.0"),
    ]


def test_repeated_events_and_restarts_duplicate_no_row(study: Path, make_spec: Make, end_trial: End) -> None:
    spec, other = make_spec(), make_spec(seed=1)
    tracker = CsvTracker(study=study)
    tracker.receive(end_trial(spec, [20]))
    tracker.receive(end_trial(spec, [20, 40]))
    tracker.receive(end_trial(other, [20]))
    tracker.close()
    again = CsvTracker(study=study)
    again.receive(end_trial(other, [20]))
    again.receive(end_trial(spec, [20, 40, 60], State.DONE))
    again.receive(end_trial(spec, [20, 40, 60], State.DONE))
    assert [(row["key"], row["step"], row["state"]) for row in rows(study)] == [
        (spec.key, "20", "paused"),
        (spec.key, "40", "paused"),
        (other.key, "20", "paused"),
        (spec.key, "60", "done"),
    ]


def test_a_check_of_step_0_is_a_row(study: Path, make_spec: Make, end_trial: End) -> None:
    tracker = CsvTracker(study=study)
    tracker.receive(end_trial(make_spec(), [0]))
    tracker.receive(end_trial(make_spec(), [0, 20]))
    CsvTracker(study=study).receive(end_trial(make_spec(), [0, 20]))
    assert [row["step"] for row in rows(study)] == ["0", "20"]


def test_a_failed_trial_is_linked_to_its_retry_which_has_its_own_micro_batch(
    study: Path, make_spec: Make, end_trial: End
) -> None:
    small = make_spec(overrides={"training.micro_batch": 8})
    tracker = CsvTracker(study=study)
    by = RetryLink(small.key, Cause.OOM, "8 instead of 16")
    tracker.receive(end_trial(make_spec(), [], State.FAILED, Cause.OOM, (by,)))
    tracker.receive(end_trial(small, [20]))
    assert [(row["key"], row["micro_batch"], row["replaced_by"]) for row in rows(study)] == [
        (make_spec().key, "", small.key),
        (small.key, "8", ""),
    ]


def test_a_failure_without_a_new_check_is_one_row_without_a_score(study: Path, make_spec: Make, end_trial: End) -> None:
    for _ in range(2):
        tracker = CsvTracker(study=study)
        tracker.receive(end_trial(make_spec(), [20]))
        tracker.receive(end_trial(make_spec(), [20], State.FAILED, Cause.NAN))
        tracker.receive(end_trial(make_spec(), [20], State.FAILED, Cause.NAN))
    assert [(row["step"], row["score"], row["state"], row["cause"]) for row in rows(study)] == [
        ("20", "0.2", "paused", ""),
        ("", "", "failed", "nan"),
    ]


def test_a_line_truncated_by_a_kill_is_written_again(study: Path, make_spec: Make, end_trial: End) -> None:
    CsvTracker(study=study).receive(end_trial(make_spec(), [20, 40]))
    path = study / "tracking" / "trials.csv"
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        CsvTracker(study=study).receive(end_trial(make_spec(), [20, 40]))
        assert path.read_bytes() == whole


def test_jobs_of_a_sweep_share_the_file(study: Path, make_spec: Make, end_trial: End) -> None:
    one, two = CsvTracker(study=study), CsvTracker(study=study)
    one.receive(end_trial(make_spec(), [20]))
    two.receive(end_trial(make_spec(), [20, 40]))
    one.receive(end_trial(make_spec(), [20, 40]))
    assert [row["step"] for row in rows(study)] == ["20", "40"]


def write_for_ever(study: Path, spec: TrialSpec, record: TrialRecord) -> None:
    tracker = CsvTracker(study=study)
    for length in range(1, len(record.checks) + 1):
        tracker.receive(describe_trial(spec, TrialRecord(record.status, record.checks[:length]), stage="variance"))
        if length == 50:
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_file_of_a_killed_writer_is_continued(study: Path, make_spec: Make, end_trial: End) -> None:
    whole = end_trial(make_spec(), range(1, 101))
    writer = get_context("fork").Process(target=write_for_ever, args=(study, make_spec(), whole.record))
    writer.start()
    writer.join()
    assert writer.exitcode == -signal.SIGKILL
    CsvTracker(study=study).receive(whole)
    assert [int(row["step"]) for row in rows(study)] == list(range(1, 101))


def test_tables_are_replaced_completely(study: Path, write_report: Report) -> None:
    tracker = CsvTracker(study=study)
    tracker.receive(write_report({"proxy_tasks": [{"name": "full"}, {"name": "old"}]}))
    shown = [{"name": "full", "tau": None}, {"name": "a\nb", "tau": 0.5, "w": {"x": 1}}]
    tracker.receive(write_report({"proxy_tasks": shown}))
    assert rows(study, "proxy_tasks") == [
        {"name": "full", "tau": "", "w": ""},
        {"name": "a\nb", "tau": "0.5", "w": '{"x":1}'},
    ]


def test_a_table_without_rows_has_its_header(study: Path) -> None:
    empty = TableRows(("proxy_task", "tau"), [])
    CsvTracker(study=study).receive(ReportWritten(study / "index.html", "not finished", {"proxy_tasks": empty}))
    assert (study / "tracking" / "proxy_tasks.csv").read_text() == "proxy_task,tau\n"


def test_a_table_named_trials_does_not_overwrite_the_checks(
    study: Path, make_spec: Make, end_trial: End, write_report: Report
) -> None:
    tracker = CsvTracker(study=study)
    tracker.receive(end_trial(make_spec(), [20]))
    tracker.receive(write_report({"trials": [{"key": "x"}]}))
    assert rows(study, "trials_table") == [{"key": "x"}]
    assert len(rows(study)) == 1


def test_a_file_with_other_columns_is_refused(study: Path, make_spec: Make, end_trial: End) -> None:
    (study / "tracking").mkdir()
    (study / "tracking" / "trials.csv").write_text("key,score\n")
    with pytest.raises(CorruptFileError, match=r"needs the columns key, split.*got 'key,score'.*move it away"):
        CsvTracker(study=study).receive(end_trial(make_spec(), [20]))


def test_a_damaged_row_is_refused(study: Path, make_spec: Make, end_trial: End) -> None:
    (study / "tracking").mkdir()
    row = ",".join("x" for _ in FIELDS)
    (study / "tracking" / "trials.csv").write_text(f"{','.join(FIELDS)}\n{row}\n")
    with pytest.raises(CorruptFileError, match=r"needs an integer or an empty cell as step"):
        CsvTracker(study=study).receive(end_trial(make_spec(), [20]))
