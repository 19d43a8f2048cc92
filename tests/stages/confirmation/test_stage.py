"""Confirmation on a real backend, with synthetic trials, of which some have different curves on short schedules."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nasproxy.errors import ConfigError
from nasproxy.stages import runner
from nasproxy.stages.confirmation.settings import ConfirmSettings
from nasproxy.stages.confirmation.stage import ConfirmationStage, compress_schedule
from nasproxy.stages.confirmation.state import ConfirmationOutcome, ConfirmationState, read_confirmations
from nasproxy.stages.confirmation.void import VoidReason
from nasproxy.stages.proxy_search.judge import Judge
from nasproxy.stages.proxy_search.settings import ProxySearchSettings
from nasproxy.stages.proxy_search.stage import ProxySearchStage
from nasproxy.stages.proxy_search.state import ProxySearchState, StoppingState, TaskState, find_best_task, read_tasks
from nasproxy.stages.references.candidate_pool import CandidatePool
from nasproxy.stages.references.state import Reference
from nasproxy.stages.runner import Runtime
from nasproxy.statistics.acceptance import Criterion, Evidence, Verdict, VerdictKind
from nasproxy.statistics.criteria.first_crossing import FirstCrossing
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.storage.trial_files import retry_failed_trials
from nasproxy.storage.trial_stores import FolderTrialStore
from nasproxy.testing import synthetic
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import TrialRecord
from nasproxy.trials.spec import Architecture

MakeRuntime = Callable[..., Runtime]
RECIPE = synthetic.make_recipe(total_steps=100, check_every_steps=4, noise=0.01, reversed_below=0, schedule_steps=0)
REVERSED = {"trainer.reversed_below": 100}
"""Ranks the models in reverse on any schedule shorter than full training's."""
TRICKY = {"half": ProxyTask(width=0.5, overrides=REVERSED), "full": ProxyTask()}
"""The cheaper task wins the proxy search and is contradicted by its confirmation."""
UNAWARE = {"half": ProxyTask(width=0.5, overrides={"trainer.schedule_steps": 100})}
"""A trainer that follows the schedule of full training, whatever its total number of steps."""
EMPTY_POOL = CandidatePool([], 0, step=5, maximum=0, search_trials=1, full_seconds=1.0)


def make_architectures(count: int, faults: dict[int, str] | None = None) -> list[Architecture]:
    return [{"quality": (37 * i) % 100, "fault": (faults or {}).get(i, "none")} for i in range(count)]


@dataclass(frozen=True)
class At:
    """Criterion that accepts at the n-th look, with any scores."""

    look: int
    target: float = 0.65

    def judge(self, evidence: Evidence) -> Verdict:
        kind = VerdictKind.ACCEPTED if len(evidence.fractions) == self.look else VerdictKind.INCONCLUSIVE
        return Verdict(kind, evidence.correlation, "because")


@dataclass
class Study:
    """A proxy search on ten references of known order, and the confirmation of its winner."""

    folder: Path
    runtime: Runtime
    faults: dict[int, str] | None = None
    fresh_faults: dict[int, str] | None = None
    target: float = 0.65
    criterion: Criterion | None = None
    alpha: float = 0.05

    @property
    def references(self) -> list[Reference]:
        return [
            Reference(i, architecture, f"reference{i}", float(str(architecture["quality"])), 1.0)
            for i, architecture in enumerate(make_architectures(10, self.faults))
        ]

    @property
    def judge(self) -> Judge:
        return Judge(self.criterion or FirstCrossing(target=self.target), 5, 0.7)

    def search(self, tasks: dict[str, ProxyTask], **settings: Any) -> ProxySearchState:
        stage = ProxySearchStage(
            ProxySearchSettings(**settings),
            tasks=tasks,
            criterion=self.judge.criterion,
            judged_by=f"{self.target} {self.alpha}",
            references=self.references,
            candidate_pool=EMPTY_POOL,
            recipe=RECIPE,
            seed=1,
            study=FolderStudyStore(self.folder),
            confirmations=read_confirmations(FolderStudyStore(self.folder)),
        )
        return runner.run_stage(self.watched(stage), self.runtime)

    def stage(self, task: TaskState, **settings: Any) -> ConfirmationStage:
        fresh = [
            {"quality": (41 * i + 3) % 100, "fault": (self.fresh_faults or {}).get(i, "none"), "twin": 1}
            for i in range(12)
        ]
        return ConfirmationStage(
            ConfirmSettings(alpha=self.alpha, **settings),
            task=task,
            references=self.references,
            fresh=fresh,
            judge=self.judge,
            recipe=RECIPE,
            full_seed=0,
            proxy_seed=1,
            study=FolderStudyStore(self.folder),
        )

    def confirm(self, task: TaskState, **settings: Any) -> ConfirmationState:
        return runner.run_stage(self.watched(self.stage(task, **settings)), self.runtime)

    def watched(self, stage: Any) -> Any:
        return stage

    def best(self) -> TaskState:
        tasks = read_tasks(FolderStudyStore(self.folder))
        best = find_best_task(tasks, f"{self.target} {self.alpha}", time_tolerance=0.05)
        assert best is not None
        return best

    def records(self) -> dict[str, TrialRecord]:
        store = FolderTrialStore(self.folder / "trials")
        return {key: store.read(key) for key in store.keys()}


@pytest.fixture
def study(tmp_path: Path, make_runtime: MakeRuntime) -> Study:
    return Study(tmp_path, make_runtime(tmp_path, max_attempts=1))


class TestConfirmationRuns:
    def test_the_same_models_train_on_a_schedule_that_ends_at_the_final_step(self, study: Study) -> None:
        task = study.search({"half": ProxyTask(width=0.5)}).tasks["half"]
        state = study.confirm(task)
        assert state.outcome is ConfirmationOutcome.STANDS
        assert len(state.keys) == 10
        assert not set(state.keys) & set(task.keys), "another schedule needs other trials"
        for mine, theirs in zip(state.keys, task.keys, strict=True):
            retrained, searched = study.runtime.store.spec(mine), study.runtime.store.spec(theirs)
            assert retrained.total_steps == task.final_step
            assert retrained.check_steps == tuple(step for step in searched.check_steps if step <= task.final_step)
            assert (retrained.seed, retrained.architecture, retrained.split) == (
                searched.seed,
                searched.architecture,
                searched.split,
            )
            assert study.runtime.store.read(mine).step == task.final_step

    def test_the_result_states_the_power_of_the_test(self, study: Study) -> None:
        task = study.search({"half": ProxyTask(width=0.5)}).tasks["half"]
        result = study.confirm(task).result
        assert result is not None
        assert result.correlation is not None
        assert result.pooled is not None
        assert result.stated_tau == 0.65
        assert result.noticeable_tau == pytest.approx(0.10, abs=0.01), "ten models give little power"
        assert result.p_value is not None
        assert result.p_value > 0.05

    def test_a_task_accepted_at_its_last_step_needs_no_new_trials(self, study: Study) -> None:
        study.criterion = At(25)
        task = study.search({"half": ProxyTask(width=0.5)}).tasks["half"]
        before = study.records()
        state = study.confirm(task)
        assert state.keys == task.keys
        assert study.records() == before
        assert state.outcome is ConfirmationOutcome.STANDS

    def test_unevenly_spaced_checks_are_kept(self) -> None:
        uneven = synthetic.make_recipe(total_steps=100)
        uneven = uneven.under(ProxyTask(overrides={"training.check_at": (5, 20, 50, 100)}))
        assert uneven.under(compress_schedule(ProxyTask(), uneven, 20)).check_at == (5, 20)

    def test_a_task_accepted_for_its_score_is_confirmed_without_a_target_tau(self, study: Study) -> None:
        study.target = 1.0
        task = study.search({"half": TRICKY["half"]}, desired_score=-100.0).tasks["half"]
        assert task.stopping_state is StoppingState.MET_ACCURACY
        state = study.confirm(task)
        assert state.outcome is ConfirmationOutcome.STANDS
        assert state.result is not None
        assert state.result.p_value is None


class TestContradiction:
    def test_a_contradicted_winner_is_withdrawn_and_tasks_it_stopped_continue(self, study: Study) -> None:
        first = study.search(TRICKY)
        assert study.best().name == "half"
        assert first.tasks["full"].stopping_state is StoppingState.EXCEEDED_BEST_TIME
        assert first.tasks["full"].beaten_by == "half"
        state = study.confirm(study.best())
        assert state.outcome is ConfirmationOutcome.CONTRADICTED
        assert state.result is not None
        assert state.result.correlation is not None
        assert state.result.correlation.tau < 0
        second = study.search(TRICKY)
        assert second.tasks["half"].stopping_state is StoppingState.CONTRADICTED
        assert second.tasks["full"].stopping_state is StoppingState.MET_CORRELATION
        stopped_at = len(first.tasks["full"].checks)
        assert second.tasks["full"].checks[:stopped_at] == first.tasks["full"].checks
        assert study.best().name == "full"
        assert study.confirm(study.best()).outcome is ConfirmationOutcome.STANDS
        written = json.loads((study.folder / "proxy_search" / "SEARCH_CONTROLLER_STATE.json").read_text())
        assert written["best_proxy_task_name"] == "full"

    def test_tasks_stopped_for_other_reasons_stay_stopped(self, study: Study) -> None:
        hopeless = ProxyTask(overrides={"trainer.noise": 50.0})
        before = study.search({**TRICKY, "hopeless": hopeless}, early_stop_if_not_best=False)
        study.confirm(study.best())
        after = study.search({**TRICKY, "hopeless": hopeless}, early_stop_if_not_best=False)
        assert {name: task for name, task in after.tasks.items() if name != "half"} == {
            name: task for name, task in before.tasks.items() if name != "half"
        }

    def test_a_contradicted_task_is_not_judged_again_by_the_same_rules(self, study: Study) -> None:
        study.search(TRICKY)
        study.confirm(study.best())
        after, trained = study.search(TRICKY), study.records()
        assert study.search(TRICKY) == after
        assert study.records() == trained

    def test_a_contradicted_task_is_judged_again_by_other_rules_without_training(self, study: Study) -> None:
        hopeless = {"hopeless": ProxyTask(overrides={"trainer.noise": 50.0})}
        study.criterion = At(5)
        study.search(hopeless)
        first = study.confirm(study.best())
        assert first.outcome is ConfirmationOutcome.CONTRADICTED
        assert not study.search(hopeless).tasks["hopeless"].is_accepted
        trained = study.records()
        study.alpha = 1e-6
        assert study.search(hopeless).tasks["hopeless"].is_accepted
        second = study.confirm(study.best())
        assert (second.keys, second.outcome) == (first.keys, ConfirmationOutcome.STANDS)
        assert study.records() == trained

    def test_the_winner_is_contradicted_if_all_models_fail_on_the_short_schedule(self, study: Study) -> None:
        study.faults = dict.fromkeys(range(10), "nan")  # halfway, beyond the step at which the search stopped
        state = study.confirm(study.search({"half": ProxyTask(width=0.5)}).tasks["half"])
        assert state.result is not None
        assert (state.outcome, state.result.correlation) == (ConfirmationOutcome.CONTRADICTED, None)


class TestFailures:
    def test_a_model_that_runs_out_of_memory_or_diverges_ranks_last(self, study: Study) -> None:
        study.faults = {0: "oom"}
        state = study.confirm(study.search({"half": ProxyTask(width=0.5)}).tasks["half"])
        assert state.result is not None
        assert state.result.correlation is not None
        assert state.result.correlation.n == 10

    def test_crashed_models_are_trained_again_after_their_cause_is_fixed(self, study: Study) -> None:
        study.faults = dict.fromkeys(range(4), "broken")
        task = study.search({"half": ProxyTask(width=0.5)}).tasks["half"]
        failed = study.confirm(task)
        assert (failed.outcome, failed.result) == (ConfirmationOutcome.VOID, None)
        assert failed.void is not None
        assert failed.void.reason is VoidReason.FAILED_TRIALS
        assert failed.void.error == "RuntimeError: the trainer has not been fixed yet"
        (study.folder / "fixed").touch()
        assert retry_failed_trials(study.folder / "trials") == 4
        state = study.confirm(task)
        assert (state.outcome, state.void) == (ConfirmationOutcome.STANDS, None)
        assert state.result is not None
        assert state.result.correlation is not None
        assert state.result.correlation.n == 10

    def test_runs_must_end_and_get_all_their_attempts(self, tmp_path: Path, make_runtime: MakeRuntime) -> None:
        """A program that trains beyond its total fails after its last check."""
        study = Study(tmp_path, make_runtime(tmp_path, max_attempts=2), dict.fromkeys(range(10), "crash_after"))
        state = study.confirm(study.search({"half": ProxyTask(width=0.5)}).tasks["half"])
        assert state.outcome is ConfirmationOutcome.VOID
        assert state.void is not None
        assert dict(state.void.failed) == {"crash": 10}
        records = [study.runtime.store.read(key) for key in state.keys]
        assert all(record.is_failed and record.reached(state.final_step) for record in records)
        assert {record.status.failures for record in records} == {2}

    def test_few_runs_that_fail_after_their_last_check_keep_their_scores(self, study: Study) -> None:
        study.faults = {0: "crash_after", 5: "crash_after"}
        state = study.confirm(study.search({"half": ProxyTask(width=0.5)}).tasks["half"])
        assert state.outcome is ConfirmationOutcome.STANDS
        assert state.result is not None
        assert state.result.correlation is not None
        assert state.result.correlation.n == 10


class TestTrainersThatIgnoreTheirTotal:
    def test_void_the_confirmation_which_neither_withdraws_nor_confirms_the_winner(self, study: Study) -> None:
        searched = study.search(UNAWARE)
        state = study.confirm(study.best(), fresh_models=5)
        assert (state.outcome, state.result) == (ConfirmationOutcome.VOID, None)
        assert state.void is not None
        assert state.void.reason is VoidReason.IDENTICAL_SCORES
        assert state.fresh is None, "fresh models are for confirmed winners"
        assert not state.contradicts(study.best())
        assert study.search(UNAWARE) == searched
        trained = study.records()
        assert study.confirm(study.best(), fresh_models=5) == state
        assert study.records() == trained

    def test_may_declare_that_their_schedule_does_not_depend_on_it(self, study: Study) -> None:
        study.search(UNAWARE)
        study.confirm(study.best())
        trained = study.records()
        state = study.confirm(study.best(), allow_identical=True)
        assert (state.outcome, state.void) == (ConfirmationOutcome.STANDS, None)
        assert study.records() == trained

    def test_are_no_matter_if_the_task_was_accepted_at_its_last_step(self, study: Study) -> None:
        study.criterion = At(25)
        study.search(UNAWARE)
        assert study.confirm(study.best()).outcome is ConfirmationOutcome.STANDS


class TestFreshModels:
    def test_train_fully_and_under_the_winner_and_are_judged_separately(self, study: Study) -> None:
        task = study.search({"half": ProxyTask(width=0.5)}).tasks["half"]
        before = set(study.records())
        state = study.confirm(task, fresh_models=6)
        assert state.fresh is not None
        assert (state.fresh.trainable, state.fresh.failed) == (6, ())
        new = set(study.records()) - before - set(state.keys)
        assert new == {*state.fresh.full_keys[:6], *state.fresh.proxy_keys[:6]}
        specs = [study.runtime.store.spec(key) for key in new]
        assert sorted(spec.total_steps for spec in specs) == [task.final_step] * 6 + [100] * 6
        assert not {str(spec.architecture) for spec in specs} & {str(model.architecture) for model in study.references}
        assert state.fresh.result is not None
        assert state.fresh.result.correlation is not None
        assert state.fresh.result.correlation.n == 6
        assert state.result is not None
        assert state.result.correlation is not None
        assert state.result.correlation.n == 10, "fresh models do not count for the verdict"

    def test_failed_fresh_models_are_replaced_and_counted(self, study: Study) -> None:
        study.fresh_faults = {1: "oom", 4: "nan"}
        task = study.search({"half": ProxyTask(width=0.5)}).tasks["half"]
        fresh = study.confirm(task, fresh_models=6).fresh
        assert fresh is not None
        assert (fresh.trainable, dict(fresh.failed)) == (6, {"oom": 1, "nan": 1})

    def test_may_be_requested_later_and_in_larger_number(self, study: Study) -> None:
        task = study.search({"half": ProxyTask(width=0.5)}).tasks["half"]
        plain = study.confirm(task)
        trained = study.records()
        five = study.confirm(task, fresh_models=5)
        assert five.result == plain.result
        assert len(study.records()) == len(trained) + 10
        eight = study.confirm(task, fresh_models=8)
        assert eight.fresh is not None
        assert eight.fresh.trainable == 8
        assert len(study.records()) == len(trained) + 16, "the first five are not trained again"
        assert study.confirm(task) == eight, "stored results are kept"

    def test_are_not_trained_for_a_contradicted_winner(self, study: Study) -> None:
        study.search(TRICKY)
        before = set(study.records())
        state = study.confirm(study.best(), fresh_models=5)
        assert state.fresh is None
        assert set(study.records()) - before == set(state.keys)

    def test_fewer_than_five_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="must be 0 or at least 5, got 4"):
            ConfirmSettings(fresh_models=4).check()


class KilledError(Exception):
    """Simulates a kill."""


@dataclass
class Fragile(Study):
    """Study that is killed twice at every decision: before and after it is written."""

    kills: int = 0

    def watched(self, stage: Any) -> Any:
        save = stage.save

        def killed(state: Any) -> Any:
            is_news = state != stage.load()
            self.kills += is_news
            if is_news and self.kills % 2 == 1:
                raise KilledError
            saved = save(state)
            if is_news:
                raise KilledError
            return saved

        stage.save = killed
        return stage


def finish(study: Study) -> None:
    """Search and confirm until a winner is confirmed, as a job does."""
    study.search(TRICKY)
    while (state := study.confirm(study.best(), fresh_models=5)).outcome is ConfirmationOutcome.CONTRADICTED:
        assert state.contradicts(study.best())
        study.search(TRICKY)


def test_a_study_killed_at_every_decision_has_the_same_results(tmp_path: Path, make_runtime: MakeRuntime) -> None:
    calm = Study(tmp_path / "calm", make_runtime(tmp_path / "calm", slots=20))
    finish(calm)
    folder = tmp_path / "fragile"
    runtime = make_runtime(folder, slots=20)
    Study(folder, runtime).search(TRICKY)
    fragile = Fragile(folder, runtime)
    while fragile.kills < 500:
        try:
            finish(fragile)
            break
        except KilledError:
            continue
    assert 16 < fragile.kills < 500
    stores = [FolderStudyStore(study.folder) for study in (calm, fragile)]
    assert read_tasks(stores[0]) == read_tasks(stores[1])
    confirmations = [read_confirmations(store) for store in stores]
    assert confirmations[0] == confirmations[1]
    assert set(calm.records()) == set(fragile.records())
    for record in fragile.records().values():
        steps = [check.step for check in record.checks]
        assert steps == sorted(set(steps)), "no step is trained twice"
