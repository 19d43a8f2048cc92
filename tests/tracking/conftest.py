from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nasproxy.tracking.cells import TableRows
from nasproxy.tracking.events import ReportWritten, TrialEnded, describe_trial
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Cause, Check, RetryLink, State, Status, TrialRecord
from nasproxy.trials.spec import Recipe, Split, TrialSpec

RECIPE = Recipe(
    model={"_target_": "models.build"},
    trainer={"_target_": "nasproxy.trainers.Trainer", "batch_size": 64},
    data={"_target_": "data.load"},
    data_fingerprint="digits-1",
    total_steps=60,
    check_every_steps=20,
)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "digits"
    path.mkdir()
    return path


@pytest.fixture
def make_spec() -> Callable[..., TrialSpec]:
    def make(seed: int = 0, **task: object) -> TrialSpec:
        return TrialSpec({"width": 8, "kind": "a,b"}, ProxyTask(**task), Split.SEARCH, seed, RECIPE)  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_record() -> Callable[..., TrialRecord]:
    def make(steps: Sequence[int], state: State = State.PAUSED, cause: Cause | None = None) -> TrialRecord:
        checks = tuple(Check(step, step / 100, step * 0.5) for step in steps)
        return TrialRecord(Status(state=state, cause=cause), checks)

    return make


@pytest.fixture
def end_trial(make_record: Callable[..., TrialRecord]) -> Callable[..., TrialEnded]:
    """Make the event of a trial with checks at these steps."""

    def make(
        spec: TrialSpec,
        steps: Sequence[int],
        state: State = State.PAUSED,
        cause: Cause | None = None,
        retries: tuple[RetryLink, ...] = (),
    ) -> TrialEnded:
        record = replace(make_record(steps, state, cause), retries=retries)
        return describe_trial(spec, record, stage="proxy_search")

    return make


@pytest.fixture
def write_report(tmp_path: Path) -> Callable[..., ReportWritten]:
    """Make the event of a report with tables of these rows."""

    def make(tables: Mapping[str, Sequence[Mapping[str, Any]]], pictures: Sequence[Path] = ()) -> ReportWritten:
        shown = {
            name: TableRows(tuple(dict.fromkeys(key for row in rows for key in row)), rows)
            for name, rows in tables.items()
        }
        return ReportWritten(tmp_path / "index.html", "data50 is accepted", shown, pictures)

    return make
