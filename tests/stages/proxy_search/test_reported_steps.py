"""Looks happen at steps that all models of a task have reported, whatever steps were requested."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from helpers.reported_curves import (
    ComputedStudy,
    DecisionTracker,
    KilledError,
    Reports,
    make_architectures,
    report_by_clock,
    report_epochs,
)
from nasproxy.errors import StageStoppedError
from nasproxy.stages.proxy_search import race
from nasproxy.stages.proxy_search.state import ProxySearchState, StoppingState
from nasproxy.stages.references.candidate_pool import CandidatePool
from nasproxy.statistics.acceptance import Evidence, Verdict, VerdictKind
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Check, TrialRecord
from nasproxy.trials.spec import Split, TrialSpec

EPOCHS = report_epochs(16)
MIXED = {"narrow": ProxyTask(width=0.5, overrides={"trainer.version": 2}), "wide": ProxyTask()}
"""Two tasks whose trainings have epochs of other lengths."""


class Never:
    """Criterion that accepts nothing."""

    target = 0.9
    min_models = 5

    def judge(self, evidence: Evidence) -> Verdict:
        return Verdict(VerdictKind.INCONCLUSIVE, None, "never")


def report_mixed(spec: TrialSpec) -> Any:
    return report_epochs(24 if spec.proxy_task.width == 0.5 else 16)(spec)


def list_steps(state: ProxySearchState, name: str) -> list[int]:
    return [look.step for look in state.tasks[name].checks]


def test_epochs_of_16_steps_are_judged_at_their_ends_under_a_grid_of_10(tmp_path: Path) -> None:
    state = ComputedStudy(tmp_path, EPOCHS).search({"wide": ProxyTask()}, criterion=Never())
    assert list_steps(state, "wide") == list(range(16, 161, 16))
    assert state.tasks["wide"].stopping_state is StoppingState.RAN_TO_COMPLETION


def test_an_accepted_look_has_a_reported_step_and_no_trial_trains_far_beyond_it(tmp_path: Path) -> None:
    study = ComputedStudy(tmp_path, EPOCHS, total_steps=320)
    task = study.search({"wide": ProxyTask()}).tasks["wide"]
    assert task.is_accepted
    assert task.final_step is not None
    assert task.final_step % 16 == 0
    assert max(study.store.read(key).step for key in task.keys) <= 1.5 * task.final_step + 16


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        (report_epochs(5), range(5, 161, 5)),
        (report_epochs(20), range(20, 161, 20)),
        (report_epochs(160), [160]),
        (lambda spec: [0, *EPOCHS(spec)], range(16, 161, 16)),
        (lambda spec: [0, 3, 17, 60, 71, 160], [3, 17, 60, 71, 160]),
        (lambda spec: report_epochs(10 if spec.architecture["quality"] == 0 else 15)(spec), [*range(30, 160, 30), 160]),
    ],
    ids=["more often", "less often", "once", "step 0", "irregular", "every second model otherwise"],
)
def test_looks_are_the_common_steps_of_all_models(tmp_path: Path, reports: Reports, expected: Any) -> None:
    state = ComputedStudy(tmp_path, reports).search({"wide": ProxyTask()}, criterion=Never())
    assert list_steps(state, "wide") == list(expected)


@pytest.mark.parametrize("slots", [1, 4, 16])
def test_looks_at_tasks_with_other_epochs_are_taken_in_the_order_of_rated_time(tmp_path: Path, slots: int) -> None:
    tracker = DecisionTracker(tmp_path)
    study = ComputedStudy(tmp_path, report_mixed, total_steps=192, slots=slots)
    state = study.search(MIXED, tracker, criterion=Never(), early_stop_if_not_best=False)
    rated = {(task.name, look.step): look.rated_seconds for task in state.tasks.values() for look in task.checks}
    order = [rated[name, step] for name, step, _ in tracker.looks]
    assert order == sorted(order)
    assert list_steps(state, "narrow") == list(range(24, 193, 24))
    assert list_steps(state, "wide") == list(range(16, 193, 16))


def test_decisions_do_not_depend_on_the_number_of_slots(tmp_path: Path) -> None:
    states = [
        ComputedStudy(tmp_path / str(slots), report_mixed, total_steps=192, slots=slots).search(MIXED)
        for slots in (1, 4, 16)
    ]
    assert any(task.is_accepted for task in states[0].tasks.values())
    assert all(state.tasks == states[0].tasks for state in states)


def test_a_task_stops_if_its_next_look_cannot_be_cheaper(tmp_path: Path) -> None:
    tasks = {"wide": ProxyTask(), "wider": ProxyTask(width=2.0)}
    state = ComputedStudy(tmp_path, EPOCHS, total_steps=320).search(tasks)
    best, other = state.tasks["wide"], state.tasks["wider"]
    assert (other.stopping_state, other.beaten_by) == (StoppingState.EXCEEDED_BEST_TIME, "wide")
    assert best.final_rated_seconds is not None
    assert other.final_rated_seconds is not None
    assert other.final_rated_seconds < best.final_rated_seconds


def test_a_controller_that_ends_at_any_decision_goes_on_with_the_same_decisions(tmp_path: Path) -> None:
    whole = ComputedStudy(tmp_path / "whole", report_mixed, total_steps=192)
    tracker = DecisionTracker(tmp_path)
    expected = whole.search(MIXED, tracker)
    assert len(tracker.looks) > 4
    for decisions in range(len(tracker.looks)):
        study = ComputedStudy(tmp_path / str(decisions), report_mixed, total_steps=192)
        with pytest.raises(KilledError):
            study.search(MIXED, DecisionTracker(tmp_path, decisions))
        study.slots = 1
        assert study.search(MIXED).tasks == expected.tasks


def test_a_trainer_that_reports_by_wall_clock_is_stopped_after_a_quarter_of_two_trainings(tmp_path: Path) -> None:
    study = ComputedStudy(tmp_path, report_by_clock, total_steps=1600)
    with pytest.raises(StageStoppedError, match=r"steps 47, 148, 249, 350, 451 of trial .* and .*trial.check_steps"):
        study.search({"wide": ProxyTask()})
    steps = sorted(study.store.read(key).step for key in study.store.keys())
    assert all(400 <= step < 600 for step in steps[-2:])
    assert max(steps[:-2]) < 200, "the other models wait for the first two"


class Adding:
    """Criterion that asks for two more models while there are fewer than ten, and then accepts."""

    target = 0.5
    min_models = 5

    def judge(self, evidence: Evidence) -> Verdict:
        is_enough = len(evidence.reference) >= 10
        kind = VerdictKind.ACCEPTED if is_enough else VerdictKind.INCONCLUSIVE
        return Verdict(kind, None, "by number", models_needed=None if is_enough else 2)


@pytest.mark.parametrize(("added", "looks"), [(16, [(16, 8), (16, 10)]), (32, [(16, 8), (32, 10)])])
def test_added_models_are_judged_at_the_same_step_or_at_the_next_common_one(
    tmp_path: Path, added: int, looks: list[tuple[int, int]]
) -> None:
    models = make_architectures(10)

    def report(spec: TrialSpec) -> Any:
        return report_epochs(added if spec.architecture in models[8:] else 16)(spec)

    study, tracker = ComputedStudy(tmp_path, report), DecisionTracker(tmp_path)
    full = [TrialSpec(model, ProxyTask(), Split.FULL, 0, study.recipe) for model in models[8:]]
    pool = CandidatePool(full, 100, step=2, maximum=10, search_trials=10_000, full_seconds=1.0)
    task = study.search({"wide": ProxyTask()}, tracker, models=models[:8], criterion=Adding(), candidate_pool=pool)
    assert [(step, number) for _, step, number in tracker.looks] == looks
    assert task.tasks["wide"].is_accepted


def test_a_model_that_fails_between_two_epochs_counts_from_its_last_check_on(tmp_path: Path) -> None:
    models = [{**model, "fault": "nan"} if number == 0 else model for number, model in enumerate(make_architectures(8))]

    def report(spec: TrialSpec) -> Any:
        return [16, 32] if "fault" in spec.architecture else EPOCHS(spec)

    task = ComputedStudy(tmp_path, report).search({"wide": ProxyTask()}, models=models, criterion=Never()).tasks["wide"]
    assert [look.step for look in task.checks] == list(range(16, 161, 16))
    assert {look.correlation.n for look in task.checks if look.correlation} == {8}, "it ranks last after step 32"


def record(*steps: int) -> TrialRecord:
    return TrialRecord(checks=tuple(Check(step, 0.5, float(step)) for step in steps))


@pytest.mark.parametrize(
    ("looks", "records", "again", "expected"),
    [
        ((), [record(16, 32), record(16)], False, race.NextLook(16, is_reported=True)),
        ((16,), [record(16, 32), record(16)], False, race.NextLook(20, is_reported=False)),
        ((10,), [record(10), record(10)], False, race.NextLook(20, is_reported=False)),
        ((4, 8), [record(4, 8), record(4, 8)], False, race.NextLook(10, is_reported=False)),
        ((4,), [record(4), record(4)], False, race.NextLook(8, is_reported=False)),
        ((16,), [record(16, 32), record(16, 32)], False, race.NextLook(32, is_reported=True)),
        ((16,), [record(16), record()], True, race.NextLook(16, is_reported=False)),
        ((16,), [record(16), record(16)], True, race.NextLook(16, is_reported=True)),
        ((16,), [record(16, 32), record(30)], True, race.NextLook(32, is_reported=False)),
        ((90,), [record(90), record(90)], False, race.NextLook(100, is_reported=False)),
    ],
)
def test_the_next_look_is_reported_or_expected(
    looks: tuple[int, ...], records: list[TrialRecord], again: bool, expected: race.NextLook
) -> None:
    assert race.find_next_look(looks, tuple(range(10, 101, 10)), records, again=again) == expected


def test_an_unreported_look_is_expected_before_it_comes(tmp_path: Path) -> None:
    """Otherwise another task could be judged before it."""
    grid, steps = tuple(range(10, 161, 10)), list(range(16, 161, 16))
    for number, (look, following) in enumerate(pairwise(steps), 1):
        reported = record(*steps[:number])
        found = race.find_next_look(steps[:number], grid, [reported, reported])
        assert look < found.step <= following
