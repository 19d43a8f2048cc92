"""Typed events of a study: everything a person may want to watch, as lines of `events.jsonl` and for trackers.

An event is a line of JSON with `schema`, `kind` (the class's name in snake case), `at` and the event's own fields.
What trackers in this process receive beside that, such as a trial's whole record, is not part of the line.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nasproxy.statistics.acceptance import Grade
from nasproxy.storage.json_records import get_adapter
from nasproxy.storage.study_stores import StudyStore
from nasproxy.tracking.cells import TableRows
from nasproxy.trials.records import Cause, State, TrialRecord
from nasproxy.trials.spec import Split, TrialSpec

SCHEMA = 1
"""Schema of a line. New kinds and new fields leave it as it is: readers ignore those that they do not know."""
IN_PROCESS = {"in_process": True}
"""Marks a field that only trackers of this process receive; it is not part of the line."""


@dataclass(frozen=True)
class Progress:
    """Progress of a stage.

    Attributes:
        stage: Name of the stage.
        detail: Its current activity, such as the name of a proxy task.
        trials_done: Trials that have reached the step requested so far.
        trials_total: Trials of the stage.
        steps_done: Training steps done.
        steps_total: Maximum number of training steps.
        tau: Rank correlation at the last check that all models have reached.
    """

    stage: str
    detail: str = ""
    trials_done: int = 0
    trials_total: int = 0
    steps_done: int = 0
    steps_total: int = 0
    tau: float | None = None


@dataclass(frozen=True)
class Look:
    """One interim analysis of a proxy task.

    Attributes:
        task: Name of the proxy task.
        step: Step at which its models are compared.
        total_steps: Steps of its whole training.
        models: Number of reference models.
        tau: Kendall's tau-b; None if undefined.
        needed: Acceptance threshold for tau at this look; None if the criterion has none.
        median_score: Median score of the models.
        train_seconds: Median training time of a model up to this step, in seconds of all its devices together.
        verdict: Verdict of the criterion: accepted, rejected or inconclusive.
    """

    task: str
    step: int
    total_steps: int
    models: int
    tau: float | None
    needed: float | None
    median_score: float
    train_seconds: float
    verdict: str


@dataclass(frozen=True)
class Event:
    """Base class of all events.

    Attributes:
        at: When it happened, in seconds since 1970.
    """

    at: float = field(default_factory=time.time, kw_only=True)


@dataclass(frozen=True)
class JobStarted(Event):
    """A controller began a job.

    Attributes:
        job: Name of the job.
        stages: Names of its stages in order.
    """

    job: str
    stages: tuple[str, ...]


@dataclass(frozen=True)
class JobEnded(Event):
    """A controller ended a job.

    Attributes:
        job: Name of the job.
        error: Why it stopped early; None if it has done all of its stages.
    """

    job: str
    error: str | None = None


@dataclass(frozen=True)
class StageStarted(Event):
    """A controller began or resumed a stage, named `stage`."""

    stage: str


@dataclass(frozen=True)
class StageProgressed(Event):
    """A stage progressed; sent often.

    Attributes:
        progress: The progress.
        running: Number of trials that run now.
    """

    progress: Progress
    running: int = 0


@dataclass(frozen=True)
class StageEnded(Event):
    """A stage, named `stage`, reached its end, and its state is stored."""

    stage: str


@dataclass(frozen=True)
class TrialStarted(Event):
    """An attempt at a trial started to train; `at` is when its worker did, if that is known.

    Sent when a controller sees it: an attempt that starts and ends between two looks has none, and one that runs on
    while a controller is started again has it twice, with the same time.

    Attributes:
        stage: Name of the stage that trains it.
        key: The trial's key.
        step: Step of its last check, from which it goes on; 0 before the first one.
        proxy_task: Name of its proxy task, derived from the setting.
        split: Data that it is trained and validated on.
        seed: Its seed.
        device_type: Type of the devices that it is specified for, `cpu` or `cuda`.
        spec: Its specification.
    """

    stage: str
    key: str
    step: int
    proxy_task: str
    split: Split
    seed: int
    device_type: str
    spec: TrialSpec | None = field(default=None, compare=False, repr=False, metadata=IN_PROCESS)


@dataclass(frozen=True)
class TrialEnded(Event):
    """An attempt at a trial ended: the trial is done, has failed, is paused, or is pending another attempt.

    Sent again, with the same content, by a stage that takes up a trial of an earlier run: the attempt may have ended
    while no controller ran. Trackers ignore what they have.

    Attributes:
        stage: Name of the stage that trained it.
        key: The trial's key.
        state: Its state.
        step: Step of its last check; 0 before the first one.
        score: Score of its last check, the study's metric as reported.
        train_seconds: Cumulative training time up to this check, in seconds.
        cause: Cause of the last failure.
        proxy_task: Name of its proxy task, derived from the setting.
        split: Data that it is trained and validated on.
        seed: Its seed.
        retried_as: Key of its retry.
        failures: Consecutive failed attempts without a new check.
        spec: Its specification.
        record: Its record with all checks so far, including those sent before, not merged with those of its retries.
    """

    stage: str
    key: str
    state: State
    step: int
    score: float | None
    train_seconds: float | None
    cause: Cause | None
    proxy_task: str
    split: Split
    seed: int
    retried_as: str | None = None
    failures: int = 0
    spec: TrialSpec | None = field(default=None, compare=False, repr=False, metadata=IN_PROCESS)
    record: TrialRecord | None = field(default=None, compare=False, repr=False, metadata=IN_PROCESS)


@dataclass(frozen=True)
class LookTaken(Event):
    """A proxy task was judged.

    Attributes:
        stage: Name of the stage.
        look: What was found.
    """

    stage: str
    look: Look


@dataclass(frozen=True)
class DecisionTaken(Event):
    """A stage decided, and its state is stored.

    Attributes:
        stage: Name of the stage.
        message: The decision in words; None for one that only continues the stage.
    """

    stage: str
    message: str | None = None


@dataclass(frozen=True)
class Noted(Event):
    """Something that a user should know, in `message`."""

    message: str


@dataclass(frozen=True)
class AcceptedTask:
    """The accepted proxy task of a report.

    Attributes:
        task: Name of the proxy task.
        grade: How far it can be trusted.
        tau: Tau of its confirmation runs, else of the proxy search; None if undefined.
        bound: One-sided 95 % lower confidence bound of the true tau, which holds after selection; None if unknown.
        raced_tau: Tau by which it was selected in the proxy search, which is optimistic; None if undefined.
        is_confirmed: Whether `tau` is that of confirmation runs.
    """

    task: str
    grade: Grade
    tau: float | None
    bound: float | None
    raced_tau: float | None
    is_confirmed: bool


@dataclass(frozen=True)
class ReportWritten(Event):
    """A report was written.

    Attributes:
        path: File of the page.
        verdict: The verdict as plain text.
        tables: The study's tables by name.
        pictures: Files of the figures.
        accepted: The accepted proxy task; None without one.
    """

    path: Path
    verdict: str
    tables: Mapping[str, TableRows] = field(default_factory=dict, compare=False, repr=False, metadata=IN_PROCESS)
    pictures: Sequence[Path] = field(default=(), compare=False, repr=False, metadata=IN_PROCESS)
    accepted: AcceptedTask | None = None


@dataclass(frozen=True)
class TrackerFailed(Event):
    """A tracker failed and receives no more events.

    Attributes:
        tracker: Name of the tracker.
        message: What happened, and what the user can do.
    """

    tracker: str
    message: str


KINDS: Mapping[str, type[Event]] = {
    re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower(): kind
    for kind in (
        *(JobStarted, JobEnded, StageStarted, StageProgressed, StageEnded, TrialStarted, TrialEnded),
        *(LookTaken, DecisionTaken, Noted, ReportWritten, TrackerFailed),
    )
}
"""Kinds of events by their name in a line."""
_NAMES = {kind: name for name, kind in KINDS.items()}


def describe_start(
    before: TrialRecord | None, record: TrialRecord, spec: TrialSpec, *, stage: str
) -> TrialStarted | None:
    """Make the event of an attempt that has started since a trial's record was last read; None if none has.

    Args:
        before: The record when it was last read; None if it is read for the first time.
        record: The record now.
        spec: Specification of the trial that trains, which may be a retry.
        stage: Name of the stage that trains it.
    """
    status = record.status
    was = None if before is None else (before.status.state, before.status.started_at)
    if status.state is not State.RUNNING or was == (status.state, status.started_at):
        return None
    return TrialStarted(
        stage=stage,
        key=spec.key,
        step=record.step,
        proxy_task=spec.proxy_task.default_name,
        split=spec.split,
        seed=spec.seed,
        device_type=spec.recipe.device_type,
        spec=spec,
        at=time.time() if status.started_at is None else status.started_at,
    )


def describe_trial(spec: TrialSpec, record: TrialRecord, *, stage: str) -> TrialEnded:
    """Make the event of a trial whose attempt ended, from its record."""
    last = record.checks[-1] if record.checks else None
    return TrialEnded(
        stage=stage,
        key=spec.key,
        state=record.status.state,
        step=record.step,
        score=record.score,
        train_seconds=None if last is None else last.train_seconds,
        cause=record.status.cause,
        proxy_task=spec.proxy_task.default_name,
        split=spec.split,
        seed=spec.seed,
        retried_as=record.retries[0].key if record.retries else None,
        failures=record.status.failures,
        spec=spec,
        record=record,
    )


def to_json(event: Event) -> str:
    """Write an event as one line of JSON, without what only trackers of this process receive."""
    kind = type(event)
    content = get_adapter(kind).dump_python(event, mode="json", exclude=_list_hidden(kind))
    return json.dumps({"schema": SCHEMA, "kind": _NAMES[kind], **content}, allow_nan=False)


def _list_hidden(kind: type[Event]) -> set[str]:
    return {each.name for each in fields(kind) if "in_process" in each.metadata}


def from_json(line: str) -> Event | None:
    """Read an event from its line.

    Returns:
        The event; None if it is of a kind that only a later version knows.

    Raises:
        ValueError: The line is not an event, or one of another schema.
    """
    try:
        content: Any = json.loads(line)
    except RecursionError as error:
        raise ValueError(f"an event is nested less deeply than {line[:200]!r}") from error
    name = content.pop("kind", None) if isinstance(content, dict) else None
    if not isinstance(name, str) or content.pop("schema", None) != SCHEMA:
        raise ValueError(f"an event is a JSON object with a kind and schema {SCHEMA}, got {line[:200]!r}")
    kind = KINDS.get(name)
    if kind is None:
        return None
    for hidden in _list_hidden(kind):
        content.pop(hidden, None)
    try:
        event: Event = get_adapter(kind).validate_python(content)
    except (ValidationError, RecursionError, OverflowError) as error:
        raise ValueError(f"the fields are not valid for {kind.__name__}: {line[:200]!r}") from error
    return event


def read_events(study: StudyStore) -> Iterator[Event]:
    """Read the events of a study in the order in which they were written.

    Kinds that only a later version knows are left out, as are lines that are no events: a process that was killed may
    leave a part of one.
    """
    for line in study.read_events()[0]:
        event = parse_line(line)
        if event is not None:
            yield event


def parse_line(line: str) -> Event | None:
    """Read a line of a study's events; None if it is no event, or of a kind that only a later version knows."""
    try:
        return from_json(line)
    except ValueError:
        return None
