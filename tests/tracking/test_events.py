import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nasproxy.statistics.acceptance import Grade
from nasproxy.storage.object_study_store import ObjectStudyStore
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.tracking.cells import TableRows
from nasproxy.tracking.event_log import EventLog
from nasproxy.tracking.events import (
    KINDS,
    AcceptedTask,
    DecisionTaken,
    Event,
    JobEnded,
    JobStarted,
    Look,
    LookTaken,
    Noted,
    Progress,
    ReportWritten,
    StageEnded,
    StageProgressed,
    StageStarted,
    TrackerFailed,
    TrialEnded,
    TrialStarted,
    describe_start,
    from_json,
    read_events,
    to_json,
)
from nasproxy.trials.records import Cause, Check, State, Status, TrialRecord
from nasproxy.trials.spec import Split, TrialSpec

LOOK = Look("data50", 20, 60, 10, tau=0.6, needed=0.5, median_score=0.7, train_seconds=3.5, verdict="accepted")
ACCEPTED = AcceptedTask("data50", Grade.STRONG, tau=0.8, bound=0.6, raced_tau=0.9, is_confirmed=True)
EVERY_KIND = (
    JobStarted("design", ("measure_variance", "report"), at=1.0),
    JobEnded("design", "variance stopped the study", at=2.0),
    StageStarted("variance", at=3.0),
    StageProgressed(Progress("variance", "5 seeds", 1, 5, 20, 300, tau=None), running=2, at=4.0),
    StageEnded("variance", at=5.0),
    TrialStarted("variance", "3f9a", 20, "full", Split.SEARCH, 1, "cuda", at=5.5),
    TrialEnded("variance", "3f9a", State.FAILED, 20, 0.2, 10.0, Cause.OOM, "full", Split.SEARCH, 1, "77b0", at=6.0),
    LookTaken("proxy_search", LOOK, at=7.0),
    DecisionTaken("proxy_search", "data50: accepted\u2028in two lines\n", at=8.0),
    Noted("a note", at=9.0),
    ReportWritten(Path("report/index.html"), "Accepted: data50.", accepted=ACCEPTED, at=10.0),
    TrackerFailed("csv", "tracker csv stopped", at=11.0),
)


@pytest.mark.parametrize("event", EVERY_KIND, ids=lambda event: type(event).__name__)
def test_an_event_is_read_from_its_line_as_it_was(event: Event) -> None:
    line = to_json(event)
    assert "\n" not in line
    assert from_json(line) == event


def test_every_kind_is_known() -> None:
    assert {type(event) for event in EVERY_KIND} == set(KINDS.values())


def test_a_line_has_a_schema_a_kind_and_a_time() -> None:
    line = json.loads(to_json(LookTaken("proxy_search", LOOK, at=7.0)))
    assert (line["schema"], line["kind"], line["at"]) == (1, "look_taken", 7.0)
    assert line["look"]["tau"] == 0.6


def test_what_only_trackers_of_this_process_receive_is_not_in_the_line(
    make_spec: Callable[..., TrialSpec], end_trial: Callable[..., TrialEnded]
) -> None:
    event = end_trial(make_spec(seed=3, data_fraction=0.5), [20, 40], State.DONE)
    line = json.loads(to_json(event))
    assert not {"spec", "record"} & line.keys()
    assert (line["key"], line["state"], line["step"], line["score"], line["seed"]) == (event.key, "done", 40, 0.4, 3)
    assert (line["proxy_task"], line["split"], line["train_seconds"]) == ("data50", "search", 20.0)
    table = {"t": TableRows(("a",), [{"a": object()}])}
    assert "tables" not in to_json(ReportWritten(Path("index.html"), "accepted", table))


def test_kinds_and_fields_of_a_later_version_are_ignored() -> None:
    study = ObjectStudyStore("digits")
    study.append_event(json.dumps({"schema": 1, "kind": "reader_laughed", "at": 1.0, "why": "unknown"}))
    study.append_event(json.dumps({**json.loads(to_json(Noted("known", at=2.0))), "colour": "red"}))
    assert list(read_events(study)) == [Noted("known", at=2.0)]


NO_EVENTS = {
    "no_json": "no json",
    "list": "[]",
    "no_schema": '{"kind": "noted"}',
    "no_message": '{"schema": 1, "kind": "noted", "at": 1.0}',
    "nested_deeply": "[" * 100_000,
    "nested_deeply_in_a_field": f'{{"schema": 1, "kind": "noted", "message": {"[" * 5000}{"]" * 5000}}}',
    "kind_is_a_list": '{"schema": 1, "kind": ["a"]}',
    "kind_is_null": '{"schema": 1, "kind": null}',
    "schema_is_a_list": '{"schema": [1], "kind": "noted"}',
    "time_is_a_text": '{"schema": 1, "kind": "noted", "at": "noon", "message": "a"}',
    "step_is_infinite": '{"schema": 1, "kind": "look_taken", "stage": "a", "look": {"step": Infinity}}',
    "long_number": f'{{"schema": 1, "kind": "noted", "at": {"9" * 5000}, "message": "a"}}',
}


@pytest.mark.parametrize("line", NO_EVENTS.values(), ids=NO_EVENTS)
def test_a_line_that_is_no_event_is_left_out(tmp_path: Path, line: str) -> None:
    study = FolderStudyStore(tmp_path)
    assert list(read_events(study)) == []
    study.append_event(to_json(Noted("before", at=1.0)))
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write(line)  # as a process leaves it that was killed while it wrote
    assert list(read_events(study)) == [Noted("before", at=1.0)]
    study.append_event(to_json(Noted("after", at=2.0)))
    EventLog(study).receive(Noted("logged", at=3.0))
    assert [event.at for event in read_events(study)] == [1.0, 2.0, 3.0]


def test_objects_of_this_process_are_not_read_from_a_line() -> None:
    study = ObjectStudyStore("digits")
    event = next(event for event in EVERY_KIND if isinstance(event, TrialEnded))
    study.append_event(json.dumps({**json.loads(to_json(event)), "spec": {"architecture": 7}, "record": [[]]}))
    assert list(read_events(study)) == [event]


def test_the_start_of_an_attempt_is_described_once_whatever_it_reports(make_spec: Callable[..., TrialSpec]) -> None:
    spec = make_spec(seed=3, data_fraction=0.5)
    paused = TrialRecord(Status(State.PAUSED), (Check(20, 0.5, 1.0),))
    running = TrialRecord(Status(State.RUNNING, started_at=7.0), paused.checks)
    started = TrialStarted("variance", spec.key, 20, "data50", Split.SEARCH, 3, "cpu", at=7.0)
    assert describe_start(paused, running, spec, stage="variance") == started
    assert describe_start(None, running, spec, stage="variance") == started, "it started while no controller looked"
    later = replace(running, checks=(*running.checks, Check(40, 0.6, 2.0)))
    assert describe_start(running, later, spec, stage="variance") is None
    again = replace(later, status=replace(later.status, started_at=9.0))
    assert describe_start(later, again, spec, stage="variance") == replace(started, step=40, at=9.0)
    assert describe_start(again, paused, spec, stage="variance") is None
    assert "spec" not in json.loads(to_json(started))
