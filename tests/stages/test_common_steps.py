"""Steps that all models report, and trainers that have none."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.reported_curves import ComputedStudy, make_architectures, report_by_clock, report_epochs
from nasproxy.errors import StageStoppedError
from nasproxy.stages import runner
from nasproxy.stages.common_steps import find_settled_step, list_common_steps, probe_common_steps
from nasproxy.stages.references.random_selection import RandomSelection
from nasproxy.stages.references.spread_selection import SpreadSelection
from nasproxy.stages.variance.settings import VarianceSettings
from nasproxy.stages.variance.stage import VarianceStage
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.trials.records import Cause, Check, State, Status, TrialRecord
from nasproxy.trials.spec import TrialSpec


def make_record(*steps: int, failed: bool = False) -> TrialRecord:
    status = Status(State.FAILED, cause=Cause.NAN) if failed else Status()
    return TrialRecord(status, tuple(Check(step, 0.5, float(step)) for step in steps))


def test_common_steps_are_those_that_each_model_reported() -> None:
    records = [make_record(0, 10, 20, 30), make_record(0, 5, 10, 30), make_record(0, 10, 15, 30, 40)]
    assert list(list_common_steps(records)) == [10, 30]
    assert list(list_common_steps(records, 10)) == [30]
    assert find_settled_step(records) == 30


def test_a_model_counts_as_failed_from_its_last_check_on() -> None:
    failed = make_record(15, 20, failed=True)
    assert list(list_common_steps([make_record(10, 20, 30), failed])) == [20, 30]
    assert list(list_common_steps([make_record(10, failed=True), failed])) == [15, 20], "also if all have failed"
    assert find_settled_step([make_record(10), failed]) == 10
    assert find_settled_step([failed]) == 20


@given(st.lists(st.sets(st.integers(0, 30), max_size=12), min_size=1, max_size=4), st.data())
def test_later_checks_and_failures_change_no_settled_common_step(reported: list[set[int]], data: Any) -> None:
    whole = [make_record(*sorted(steps)) for steps in reported]
    before = [TrialRecord(checks=record.checks[: data.draw(st.integers(0, len(record.checks)))]) for record in whole]
    ended = [TrialRecord(Status(State.FAILED, cause=Cause.OOM), record.checks) for record in whole[:1]]
    settled = find_settled_step(before)
    known = list(list_common_steps(before))
    assert [step for step in list_common_steps([*ended, *whole[1:]]) if step <= settled] == known


def test_two_models_are_probed_up_to_a_quarter_of_training() -> None:
    assert probe_common_steps({"a": make_record(), "b": make_record()}, 100) == {"a": 25, "b": 25}
    assert probe_common_steps({"a": make_record(0, 7, 30), "b": make_record(0, 9)}, 100) == {"b": 25}
    assert probe_common_steps({"a": make_record(7), "b": make_record(7), "c": make_record(9)}, 100) == {}
    assert probe_common_steps({"a": make_record(7)}, 100) == {}
    failed = {"a": make_record(7, failed=True), "b": make_record(9, 30), "c": make_record(9)}
    assert probe_common_steps(failed, 100) == {}, "a failed model shows nothing"


def test_models_without_a_common_step_stop_the_study_with_their_steps() -> None:
    records = {"a": make_record(0, 7, 30), "b": make_record(0, 9, 11, 14, 19, 23, 27)}
    with pytest.raises(
        StageStoppedError,
        match=r"share too few: steps 7, 30 of trial a and 9, 11, 14, 19, 23, \.\.\. of trial b. Validate at",
    ):
        probe_common_steps(records, 100)


def test_a_step_that_two_models_share_by_chance_does_not_pass() -> None:
    records = {"a": make_record(3, 9, 14, 17, 22, 26, 31), "b": make_record(4, 8, 13, 17, 21, 25, 29)}
    with pytest.raises(StageStoppedError, match="share too few"):
        probe_common_steps(records, 100)
    assert probe_common_steps({"a": make_record(10, 20, 30, 40), "b": make_record(15, 30, 45)}, 100) == {}


def count_steps(study: ComputedStudy) -> list[int]:
    return sorted(study.store.read(key).step for key in study.store.keys())


def make_selection(study: ComputedStudy, selection: RandomSelection | SpreadSelection) -> Any:
    return selection.make_stage(
        recipe=study.recipe,
        candidates=make_architectures(selection.candidates),
        baseline=None,
        seed=0,
        study=FolderStudyStore(study.folder),
    )


def make_variance(study: ComputedStudy) -> VarianceStage:
    return VarianceStage(
        VarianceSettings(),
        recipe=study.recipe,
        candidates=make_architectures(3),
        seed=0,
        study=FolderStudyStore(study.folder),
    )


@pytest.mark.parametrize("slots", [1, 2, 8])
@pytest.mark.parametrize("stage", ["variance", "random", "spread", "whole spread"])
def test_a_trainer_that_reports_by_wall_clock_stops_the_first_stage_of_a_study(
    tmp_path: Path, stage: str, slots: int
) -> None:
    study = ComputedStudy(tmp_path, report_by_clock, total_steps=1600, slots=slots)
    made = {
        "variance": lambda: make_variance(study),
        "random": lambda: make_selection(study, RandomSelection(models=8)),
        "spread": lambda: make_selection(study, SpreadSelection(start_models=12, models=6)),
        "whole spread": lambda: make_selection(study, SpreadSelection(start_models=8, models=8)),
    }[stage]()
    with pytest.raises(StageStoppedError, match="the first two share too few: steps"):
        runner.run_stage(made, study.make_runtime())
    steps = count_steps(study)
    assert steps.count(1600) <= (slots == 1), "only if there is one slot, a model trains fully before the second begins"
    assert sum(step > 350 for step in steps) <= max(2, slots)


def test_epochs_pass_the_variance_measurement_and_the_random_selection(tmp_path: Path) -> None:
    study = ComputedStudy(tmp_path, report_epochs(16))
    assert runner.run_stage(make_variance(study), study.make_runtime()).result is not None
    state = runner.run_stage(make_selection(study, RandomSelection(models=6)), study.make_runtime())
    assert len(state.references or ()) == 6


def test_the_spread_selection_compares_models_at_common_steps(tmp_path: Path) -> None:
    study = ComputedStudy(tmp_path, report_epochs(16), total_steps=320)
    stage = make_selection(study, SpreadSelection(start_models=12, models=6, remove_per_iteration=3))
    state = runner.run_stage(stage, study.make_runtime())
    assert [iteration.until_step for iteration in state.iterations] == [32, 80, 320], (
        "the ends of epochs after steps 30 and 70"
    )
    assert len(state.references or ()) == 6


def test_the_spread_selection_trains_on_to_a_common_step(tmp_path: Path) -> None:
    def report(spec: TrialSpec) -> Any:
        return report_epochs(10 if int(spec.architecture["quality"]) % 2 else 15)(spec)

    study = ComputedStudy(tmp_path, report, total_steps=300)
    stage = make_selection(study, SpreadSelection(start_models=12, models=6, remove_per_iteration=3))
    state = runner.run_stage(stage, study.make_runtime())
    assert [iteration.until_step for iteration in state.iterations] == [30, 60, 300]


def test_a_round_of_the_spread_selection_is_not_stopped_before_its_end(tmp_path: Path) -> None:
    """Epochs of 40 and 60 steps first meet at step 120, the end of the round; an interruption may show them earlier."""
    study = ComputedStudy(tmp_path, report_epochs(20), total_steps=1200)
    stage = make_selection(study, SpreadSelection(start_models=10, models=6, remove_per_iteration=2))
    state = stage.load()
    assert state.iterations[-1].until_step == 120
    records = {key: make_record(40, 80) if number % 2 else make_record(60) for number, key in enumerate(state.keys)}
    action = stage.next_action(state, records)
    assert isinstance(action, runner.Train)
    assert set(action.until.values()) == {120}
