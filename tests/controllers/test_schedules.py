"""Schedules are compared on a real backend, with trials whose curves come from a formula."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nasproxy.controllers import base
from nasproxy.controllers.base import Workshop
from nasproxy.controllers.schedules import SchedulesController, compared
from nasproxy.controllers.settings import CompareSchedulesSettings
from nasproxy.controllers.states import SchedulesState
from nasproxy.errors import ConfigError, StageStoppedError
from nasproxy.proxy import ProxyTask
from nasproxy.testing import synthetic

MakeWorkshop = Callable[..., Workshop]
RECIPE = synthetic.recipe(total_steps=100, check_every_steps=4, noise=0.01)
STEADY, ROUGH = ("steady", "none"), ("rough", "none")
TASKS = {STEADY: ProxyTask(overrides={"trainer.noise": 0.0}), ROUGH: ProxyTask(overrides={"trainer.noise": 5.0})}
TRAINER = {"_target_": "trainers.plain_pytorch.train", "schedule": "cosine", "smoothing": "none"}


def compare(folder: Path, workshop: Workshop, tasks: Any = TASKS, fault: str = "none") -> SchedulesState:
    controller = SchedulesController(
        tasks, recipe=RECIPE, architecture={"quality": 60, "fault": fault}, seed=0, folder=folder / "schedules"
    )
    return base.run(controller, workshop)


def test_a_rough_curve_is_told_from_a_smooth_one(tmp_path: Path, make_workshop: MakeWorkshop) -> None:
    workshop = make_workshop(tmp_path)
    steady, rough = compare(tmp_path, workshop).curves
    assert (steady.schedule, steady.smoothing, rough.schedule) == ("steady", "none", "rough")
    assert steady.smoothness == 0.0
    assert rough.smoothness is not None
    assert rough.smoothness > 1.0
    assert steady.score == workshop.store.read(steady.key).checks[-1].score


def test_what_was_compared_is_not_trained_again(tmp_path: Path, make_workshop: MakeWorkshop) -> None:
    workshop = make_workshop(tmp_path)
    before = compare(tmp_path, workshop, {STEADY: TASKS[STEADY]})
    after = compare(tmp_path, workshop)
    assert before.curves == after.curves[:1]
    assert len(workshop.store.keys()) == 2
    assert compare(tmp_path, workshop) == after


def test_a_model_that_trains_under_no_schedule_stops_the_comparison(
    tmp_path: Path, make_workshop: MakeWorkshop
) -> None:
    with pytest.raises(StageStoppedError, match="all 2 trainings failed: see trials/"):
        compare(tmp_path, make_workshop(tmp_path), fault="nan")


def test_every_schedule_is_compared_with_every_smoothing() -> None:
    pairs = compared(CompareSchedulesSettings(schedule=["step", "cosine"], smoothing=["none", "swa"]))
    assert list(pairs) == [("step", "none"), ("step", "swa"), ("cosine", "none"), ("cosine", "swa")]
    assert pairs["step", "swa"].overrides == {"trainer.schedule": "step", "trainer.smoothing": "swa"}


@pytest.mark.parametrize(
    ("settings", "trainer", "message"),
    [
        ({}, {"_target_": "my.train"}, "needs a trainer with 'schedule', got my.train without"),
        ({"smoothing": []}, TRAINER, r"compare_schedules.smoothing must list different values, got \[\]"),
        ({"schedule": ["step", "step"]}, TRAINER, "compare_schedules.schedule must list different values, got"),
    ],
)
def test_what_cannot_be_compared_is_refused(settings: Any, trainer: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CompareSchedulesSettings(**settings).check(trainer)
