from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Cause, Check, State, Status, TrialRecord
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
