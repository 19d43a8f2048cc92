"""Schedule comparison on a real backend, with synthetic trials."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nasproxy.errors import ConfigError, StageStoppedError
from nasproxy.stages import runner
from nasproxy.stages.runner import Decide, Runtime
from nasproxy.stages.schedule_comparison.settings import CompareSchedulesSettings
from nasproxy.stages.schedule_comparison.stage import ScheduleComparisonStage, list_compared_tasks
from nasproxy.stages.schedule_comparison.state import ScheduleComparisonState
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.storage.trial_files import retry_failed_trials
from nasproxy.testing import synthetic
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Cause, Check, State, Status, TrialRecord
from nasproxy.trials.spec import Architecture

MakeRuntime = Callable[..., Runtime]
RECIPE = synthetic.make_recipe(total_steps=100, check_every_steps=4, noise=0.01)
STEADY, ROUGH = ("steady", "none"), ("rough", "none")
TASKS = {STEADY: ProxyTask(overrides={"trainer.noise": 0.0}), ROUGH: ProxyTask(overrides={"trainer.noise": 5.0})}
TRAINER = {"_target_": "nasproxy.trainers.plain_pytorch.train", "schedule": "cosine", "smoothing": "none"}


def compare(folder: Path, runtime: Runtime, tasks: Any = TASKS, fault: str = "none") -> ScheduleComparisonState:
    return runner.run_stage(make_stage(folder, tasks, fault), runtime)


def make_stage(folder: Path, tasks: Any = TASKS, fault: str = "none") -> ScheduleComparisonStage:
    return make_stage_of([{"quality": 60, "fault": fault}], folder, tasks)


def make_stage_of(architectures: list[Architecture], folder: Path, tasks: Any = TASKS) -> ScheduleComparisonStage:
    study = FolderStudyStore(folder)
    return ScheduleComparisonStage(tasks, recipe=RECIPE, architectures=architectures, seed=0, study=study)


def test_a_rough_curve_has_a_larger_roughness_than_a_smooth_one(tmp_path: Path, make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(tmp_path)
    steady, rough = compare(tmp_path, runtime).curves
    assert (steady.schedule, steady.smoothing, rough.schedule) == ("steady", "none", "rough")
    assert steady.roughness == 0.0
    assert rough.roughness is not None
    assert rough.roughness > 0.1
    assert steady.score == runtime.store.read(steady.key).checks[-1].score


def test_compared_schedules_are_not_trained_again(tmp_path: Path, make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(tmp_path)
    before = compare(tmp_path, runtime, {STEADY: TASKS[STEADY]})
    after = compare(tmp_path, runtime)
    assert before.curves == after.curves[:1]
    assert len(runtime.store.keys()) == 2
    assert compare(tmp_path, runtime) == after


def test_the_comparison_stops_if_the_model_trains_under_no_schedule(tmp_path: Path, make_runtime: MakeRuntime) -> None:
    with pytest.raises(StageStoppedError, match="all 2 trainings failed: fix the cause, see trials/"):
        compare(tmp_path, make_runtime(tmp_path), fault="nan")


def test_a_crashed_training_is_measured_after_its_cause_is_fixed(tmp_path: Path, make_runtime: MakeRuntime) -> None:
    repaired = tmp_path / "fixed"
    repaired.touch()
    compare(tmp_path, make_runtime(tmp_path), {STEADY: TASKS[STEADY]}, fault="broken")
    repaired.unlink()
    half = compare(tmp_path, make_runtime(tmp_path), fault="broken")
    assert [curve.score is None for curve in half.curves] == [False, True]
    repaired.touch()
    retry_failed_trials(tmp_path / "trials")
    whole = compare(tmp_path, make_runtime(tmp_path), fault="broken")
    assert whole.curves[0] == half.curves[0]
    assert whole.curves[1].score is not None


def test_a_failure_after_the_last_check_is_ignored_and_a_flat_curve_has_no_roughness(
    tmp_path: Path,
) -> None:
    stage = make_stage(tmp_path)
    state = stage.load()
    risen, flat = ([Check(step, score, 1.0) for step in (50, 100)] for score in (0.25, 0.5))
    risen[1] = replace(risen[1], score=0.75)
    crashed = Status(State.FAILED, cause=Cause.CRASH)
    records = dict(
        zip(
            [curve.key for curve in state.curves],
            [TrialRecord(crashed, tuple(risen)), TrialRecord(Status(State.DONE), tuple(flat))],
            strict=True,
        )
    )
    decision = stage.next_action(state, records)
    assert isinstance(decision, Decide)
    assert [curve.score for curve in decision.state.curves] == [0.75, 0.5]
    assert [(curve.roughness, curve.late_change) for curve in decision.state.curves] == [(0.0, 0.5), (None, 0.0)]
    assert decision.message.endswith("steady 0.750 (0.500); rough 0.500 (0.000)")
    records[state.curves[1].key] = TrialRecord(crashed, tuple(flat[:1]))
    decision = stage.next_action(state, records)
    assert isinstance(decision, Decide)
    assert decision.message.endswith("; rough failed")


def test_the_best_final_score_is_named_first(tmp_path: Path) -> None:
    stage = make_stage(tmp_path)
    state = stage.load()
    curves = [(Check(50, 0.5, 1.0), Check(100, score, 2.0)) for score in (0.5, 0.75)]
    records = {curve.key: TrialRecord(Status(State.DONE), c) for curve, c in zip(state.curves, curves, strict=True)}
    decision = stage.next_action(state, records)
    assert isinstance(decision, Decide)
    assert decision.message.endswith(": rough 0.750 (0.250); steady 0.500 (0.000)")


def test_ranks_of_several_models_are_compared_with_their_final_ranks(tmp_path: Path) -> None:
    stage = make_stage_of([{"quality": quality, "fault": "none"} for quality in range(5)], tmp_path)
    state = stage.load()
    records = {}
    for curve in state.curves:
        for place, key in enumerate(curve.keys):
            early = -place if curve.schedule == "rough" else place
            checks = ((20, 0.0), (80, early / 10), (100, place / 10))
            records[key] = TrialRecord(Status(State.DONE), tuple(Check(step, score, 1.0) for step, score in checks))
    decision = stage.next_action(state, records)
    assert isinstance(decision, Decide)
    assert [curve.late_tau for curve in decision.state.curves] == pytest.approx([1.0, -1.0])
    assert [curve.score for curve in decision.state.curves] == pytest.approx([0.2, 0.2])
    assert [curve.late_change for curve in decision.state.curves] == pytest.approx([0.0, 0.4])
    assert "lowest tau with the final ranks" in decision.message


def test_a_comparison_of_an_earlier_version_is_measured_again_without_training(
    tmp_path: Path, make_runtime: MakeRuntime
) -> None:
    before = compare(tmp_path, make_runtime(tmp_path))
    old = replace(before, curves=tuple(replace(curve, late_change=None) for curve in before.curves))
    make_stage(tmp_path).save(old)
    assert compare(tmp_path, make_runtime(tmp_path)) == before


def test_swa_averages_the_end_of_training() -> None:
    pairs = list_compared_tasks(CompareSchedulesSettings(schedule=["cosine"], swa_start_fraction=0.5))
    starts = {pair: task.overrides.get("trainer.smoothing_start_fraction") for pair, task in pairs.items()}
    assert starts == {("cosine", "none"): None, ("cosine", "ema"): None, ("cosine", "swa"): 0.5}


def test_every_schedule_is_compared_with_every_smoothing() -> None:
    pairs = list_compared_tasks(CompareSchedulesSettings(schedule=["step", "cosine"], smoothing=["none", "swa"]))
    assert list(pairs) == [("step", "none"), ("step", "swa"), ("cosine", "none"), ("cosine", "swa")]
    assert pairs["step", "none"].overrides == {"trainer.schedule": "step", "trainer.smoothing": "none"}


@pytest.mark.parametrize(
    ("settings", "trainer", "message"),
    [
        ({}, {"_target_": "my.train"}, "needs a trainer with 'schedule', got my.train without"),
        ({"smoothing": []}, TRAINER, r"compare_schedules.smoothing must list different values, got \[\]"),
        ({"schedule": ["step", "step"]}, TRAINER, "compare_schedules.schedule must list different values, got"),
        ({}, TRAINER, "with swa needs a trainer with 'smoothing_start_fraction', got nasproxy"),
    ],
)
def test_invalid_comparisons_are_refused(settings: Any, trainer: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CompareSchedulesSettings(**settings).check_trainer(trainer)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"models": 3}, "models must be 1, or at least 5 to compare ranks, got 3"),
        ({"models": 0}, "models must be 1, or at least 5"),
        ({"swa_start_fraction": 1.0}, r"swa_start_fraction must lie in \[0, 1\), got 1"),
    ],
)
def test_numbers_out_of_range_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CompareSchedulesSettings(**settings).check()
