import errno
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest

from helpers.reported_curves import ComputedStudy, report_epochs
from nasproxy.errors import StorageUnavailableError
from nasproxy.stages import runner
from nasproxy.stages.proxy_search.state import read_tasks
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.tracking.event_log import EventLog
from nasproxy.tracking.events import (
    Event,
    LookTaken,
    Noted,
    Progress,
    StageEnded,
    StageProgressed,
    StageStarted,
    TrialEnded,
    TrialStarted,
    describe_start,
    read_events,
)
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import State, Status, TrialRecord
from nasproxy.trials.spec import TrialSpec

START = Progress("proxy_search", "data50", steps_done=0, steps_total=100)


@pytest.fixture
def study(tmp_path: Path) -> FolderStudyStore:
    return FolderStudyStore(tmp_path / "digits")


def read(study: FolderStudyStore) -> list[Event]:
    return list(read_events(study))


def test_a_resumed_study_appends(study: FolderStudyStore) -> None:
    for stage in ("variance", "selection"):
        log = EventLog(study)
        log.receive(StageStarted(stage))
        log.close()
    assert [event.stage for event in read(study) if isinstance(event, StageStarted)] == ["variance", "selection"]


def test_what_a_file_system_that_does_not_answer_held_up_is_written_later(
    study: FolderStudyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = EventLog(study)
    log.receive(StageStarted("variance"))
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", raise_input_output_error)
        log.receive(StageStarted("references"))
        with pytest.raises(StorageUnavailableError, match=r"events.jsonl cannot be used: Input/output error"):
            log.close()
    log.receive(StageStarted("proxy_search"))
    stages = [event.stage for event in read(study) if isinstance(event, StageStarted)]
    assert stages == ["variance", "references", "proxy_search"]


def raise_input_output_error(*_: object) -> int:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_progress_is_written_every_ten_seconds_and_when_the_activity_changes(study: FolderStudyStore) -> None:
    log = EventLog(study)
    for second in range(25):
        log.receive(StageProgressed(replace(START, steps_done=second), at=1000.0 + second))
    log.receive(StageProgressed(replace(START, detail="data75"), at=1025.0))
    log.receive(StageProgressed(Progress("confirmation"), at=1025.5))
    log.receive(StageProgressed(Progress("confirmation"), at=500.0))
    assert [event.at for event in read(study)] == [1000.0, 1010.0, 1020.0, 1025.0, 1025.5, 500.0]


def test_the_end_of_an_attempt_is_written_once_also_after_a_restart_and_by_another_job(
    study: FolderStudyStore, make_spec: Callable[..., TrialSpec], end_trial: Callable[..., TrialEnded]
) -> None:
    spec = make_spec()
    one, two = EventLog(study), EventLog(study)
    for log in (one, two, one, EventLog(study)):
        log.receive(end_trial(spec, [20]))
    for log in (two, one, EventLog(study)):
        log.receive(end_trial(spec, [20, 40], State.DONE))
    ends = [event for event in read(study) if isinstance(event, TrialEnded)]
    assert [(event.key, event.step, event.state) for event in ends] == [
        (spec.key, 20, State.PAUSED),
        (spec.key, 40, State.DONE),
    ]


def test_the_start_of_an_attempt_is_written_once_also_after_a_restart_and_by_another_job(
    study: FolderStudyStore, make_spec: Callable[..., TrialSpec]
) -> None:
    def start(moment: float) -> TrialStarted:
        status = Status(State.RUNNING, started_at=moment)
        started = describe_start(None, TrialRecord(status), make_spec(), stage="variance")
        assert started is not None
        return started

    one, two = EventLog(study), EventLog(study)
    for log in (one, two, one, EventLog(study)):
        log.receive(start(7.25))
    for log in (two, one, EventLog(study)):
        log.receive(start(9.5))
    assert read(study) == [start(7.25), start(9.5)]


def test_a_search_tells_its_looks_and_decisions_and_a_resumed_one_repeats_no_end_of_a_trial(tmp_path: Path) -> None:
    store, study = FolderStudyStore(tmp_path), ComputedStudy(tmp_path, report_epochs(10))
    stage = study.make_search({"half": ProxyTask(width=0.5)})
    runner.run_stage(stage, replace(study.make_runtime(), tracker=EventLog(store)))
    events = read(store)
    assert (type(events[0]), type(events[-1])) == (StageStarted, StageEnded)
    task = read_tasks(store)["half"]
    looks = [event.look for event in events if isinstance(event, LookTaken)]
    assert [(look.step, look.tau) for look in looks] == [
        (check.step, None if check.correlation is None else check.correlation.tau) for check in task.checks
    ]
    assert looks[-1].verdict == "accepted"
    ends = [event for event in events if isinstance(event, TrialEnded)]
    assert {event.key for event in ends} == set(task.keys)
    again = study.make_search({"half": ProxyTask(width=0.5), "full": ProxyTask()}, early_stop_if_not_best=False)
    runner.run_stage(again, replace(study.make_runtime(), tracker=EventLog(store)))
    keys = [(event.key, event.step, event.state) for event in read(store) if isinstance(event, TrialEnded)]
    assert len(keys) == len(set(keys)) > len(ends)


def write_many(study: FolderStudyStore, name: str, count: int, is_killed: bool) -> None:
    log = EventLog(study)
    for number in range(count):
        log.receive(Noted(f"{name} {number}"))
    if is_killed:
        with (study.path / "events.jsonl").open("ab") as file:
            file.write(b'{"schema": 1, "kind": "no')
        os.kill(os.getpid(), signal.SIGKILL)


def test_jobs_of_a_sweep_append_whole_lines_and_a_killed_one_leaves_a_readable_file(study: FolderStudyStore) -> None:
    writers = [
        get_context("fork").Process(target=write_many, args=(study, name, 30, name == "killed"))
        for name in ("killed", "a", "b")
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    EventLog(study).receive(Noted("after"))
    messages = [event.message for event in read(study) if isinstance(event, Noted)]
    for name in ("killed", "a", "b"):
        assert [m for m in messages if m.startswith(f"{name} ")] == [f"{name} {number}" for number in range(30)]
    assert messages[-1] == "after"
