"""Variance, selection and proxy search with synthetic trials: on a real backend, or in virtual time."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from helpers.synthetic_curves import make_synthetic_runtime
from nasproxy.errors import ConfigError, StageStoppedError
from nasproxy.stages import runner
from nasproxy.stages.proxy_search.settings import ProxySearchSettings
from nasproxy.stages.proxy_search.stage import ProxySearchStage
from nasproxy.stages.proxy_search.state import ProxySearchState, StoppingState, find_best_task
from nasproxy.stages.references.candidate_pool import CandidatePool
from nasproxy.stages.references.random_selection import RandomSelection, RandomSelectionStage
from nasproxy.stages.references.spread_selection import SpreadSelection, SpreadSelectionStage
from nasproxy.stages.references.state import Reference, SelectionState
from nasproxy.stages.runner import Runtime
from nasproxy.stages.variance.settings import VarianceSettings
from nasproxy.stages.variance.stage import VarianceStage, check_variance
from nasproxy.stages.variance.state import VarianceState
from nasproxy.statistics.acceptance import Evidence, Verdict, VerdictKind
from nasproxy.statistics.criteria.first_crossing import FirstCrossing
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.storage.trial_files import retry_failed_trials
from nasproxy.testing import synthetic
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Check, State, Status, TrialRecord
from nasproxy.trials.retry import find_retry
from nasproxy.trials.retry_settings import RetrySettings
from nasproxy.trials.spec import Architecture, Recipe, Split, TrialSpec

MakeRuntime = Callable[..., Runtime]
RECIPE = synthetic.make_recipe(total_steps=100, check_every_steps=4, noise=0.01)
HOPELESS = ProxyTask(overrides={"trainer.noise": 50.0})
"""A proxy task that ranks models at random."""
EMPTY_POOL = CandidatePool([], 0, step=5, maximum=0, search_trials=1, full_seconds=1.0)


def make_architectures(count: int, faults: dict[int, str] | None = None) -> list[Architecture]:
    qualities = [(37 * i) % 100 for i in range(count)]
    return [{"quality": quality, "fault": (faults or {}).get(i, "none")} for i, quality in enumerate(qualities)]


def measure(folder: Path, runtime: Runtime, candidates: list[Architecture], **settings: Any) -> VarianceState:
    stage = VarianceStage(
        VarianceSettings(**settings), recipe=RECIPE, candidates=candidates, seed=0, study=FolderStudyStore(folder)
    )
    return runner.run_stage(stage, runtime)


def select(folder: Path, runtime: Runtime, candidates: list[Architecture], **settings: Any) -> SelectionState:
    stage = SpreadSelectionStage(
        SpreadSelection(**settings),
        recipe=RECIPE,
        candidates=candidates,
        baseline={"quality": 60, "fault": "none"},
        seed=0,
        study=FolderStudyStore(folder),
    )
    return runner.run_stage(stage, runtime)


@dataclass(frozen=True)
class Search:
    """A proxy search on ten references of known order."""

    folder: Path
    runtime: Runtime

    def run(self, tasks: dict[str, ProxyTask], target: float = 0.65, **settings: Any) -> ProxySearchState:
        faults = settings.pop("faults", None)
        criterion = settings.pop("criterion", FirstCrossing(target=target))
        candidate_pool = settings.pop("candidate_pool", EMPTY_POOL)
        is_fresh = settings.pop("is_fresh", False)
        full_seconds = settings.pop("full_seconds", math.inf)
        references = [
            Reference(i, architecture, f"reference{i}", float(str(architecture["quality"])), 1.0)
            for i, architecture in enumerate(make_architectures(10, faults))
        ]
        stage = ProxySearchStage(
            ProxySearchSettings(**settings),
            tasks=tasks,
            criterion=criterion,
            judged_by=f"first crossing {target} {sorted(settings.items())}",
            references=references,
            candidate_pool=candidate_pool,
            recipe=RECIPE,
            seed=1,
            study=FolderStudyStore(self.folder),
            full_seconds=full_seconds,
            is_fresh=is_fresh,
        )
        return runner.run_stage(stage, self.runtime)


@pytest.fixture
def search(tmp_path: Path) -> Search:
    """A search on the curves of the synthetic trainer, without processes."""
    return Search(tmp_path, make_synthetic_runtime(tmp_path))


@pytest.fixture
def real_search(tmp_path: Path, make_runtime: MakeRuntime) -> Search:
    """A search whose trials are processes."""
    return Search(tmp_path, make_runtime(tmp_path, max_attempts=1))


class TestVariance:
    def test_measures_five_seeds_of_one_model(self, tmp_path: Path, make_runtime: MakeRuntime) -> None:
        runtime = make_runtime(tmp_path)
        result = measure(tmp_path, runtime, make_architectures(10)).result
        assert result is not None
        assert len(set(result.final_scores)) == 5
        assert result.verdict.is_good
        assert len(runtime.store.keys()) == 5, "the trainable candidate is the first of the five trials"
        written = json.loads((tmp_path / "variance" / "variance_and_smoothness.json").read_text())
        assert written["variance_value"] == result.verdict.variation

    def test_skips_candidates_that_do_not_train(self, tmp_path: Path, make_runtime: MakeRuntime) -> None:
        candidates = make_architectures(10, {0: "oom", 1: "nan"})
        state = measure(tmp_path, make_runtime(tmp_path), candidates, trainable_fraction=0.6)
        assert state.trainable == 2

    def test_stops_when_no_candidate_trains(self, tmp_path: Path, make_runtime: MakeRuntime) -> None:
        candidates = make_architectures(3, {0: "oom", 1: "oom", 2: "oom"})
        with pytest.raises(StageStoppedError, match="and 3 candidates failed"):
            measure(tmp_path, make_runtime(tmp_path), candidates, trainable_fraction=0.6)

    def test_high_variance_stops_the_study_unless_on_failure_is_warn(
        self, tmp_path: Path, make_runtime: MakeRuntime
    ) -> None:
        strict = VarianceSettings(max_variation=1e-6)
        state = measure(tmp_path, make_runtime(tmp_path), make_architectures(10), max_variation=1e-6)
        with pytest.raises(StageStoppedError, match="variance stopped the study"):
            check_variance(state, strict)
        check_variance(state, replace(strict, on_failure="warn"))

    def test_a_failure_after_the_last_check_is_ignored(self, tmp_path: Path, make_runtime: MakeRuntime) -> None:
        state = measure(
            tmp_path, make_runtime(tmp_path), make_architectures(10, dict.fromkeys(range(10), "crash_after"))
        )
        assert state.result is not None
        assert len(state.result.keys) == 5

    def test_candidates_are_trained_again_after_the_trainer_is_fixed(
        self, tmp_path: Path, make_runtime: MakeRuntime
    ) -> None:
        runtime, broken = make_runtime(tmp_path, max_attempts=1), make_architectures(2, {0: "broken", 1: "broken"})
        with pytest.raises(StageStoppedError, match=r"2 candidates failed \(2 x RuntimeError: .*worker.log"):
            measure(tmp_path, runtime, broken, trainable_fraction=0.6)
        (tmp_path / "fixed").touch()
        assert retry_failed_trials(tmp_path / "trials") == 2
        assert measure(tmp_path, runtime, broken, trainable_fraction=0.6).trainable == 0


class TestSelection:
    def test_uses_the_rounds_of_vertex_ai_nas(self, tmp_path: Path, make_runtime: MakeRuntime) -> None:
        state = select(tmp_path, make_runtime(tmp_path), make_architectures(30))
        assert [len(iteration.candidates) for iteration in state.iterations] == [30, 25, 20, 15, 10]
        shares = [round(100 * iteration.fraction, 3) for iteration in state.iterations]
        assert shares == [3.333, 7.333, 12.333, 19.0, 100.0]
        assert [iteration.until_step for iteration in state.iterations] == [4, 8, 16, 20, 100]
        assert state.references is not None
        assert len(state.references) == 10
        assert state.baseline is not None
        written = json.loads((tmp_path / "references" / "MODEL_SELECTION_STATE.json").read_text())
        assert [iteration["num_trials"] for iteration in written["iterations"]] == [30, 25, 20, 15, 10]

    def test_no_step_is_trained_twice(self, tmp_path: Path, make_runtime: MakeRuntime) -> None:
        runtime = make_runtime(tmp_path)
        select(tmp_path, runtime, make_architectures(30))
        for key in runtime.store.keys():
            steps = [check.step for check in runtime.store.read(key).checks]
            assert steps == sorted(set(steps))

    def test_failed_candidates_count_as_removed(self, tmp_path: Path, make_runtime: MakeRuntime) -> None:
        runtime = make_runtime(tmp_path, max_attempts=1)
        state = select(tmp_path, runtime, make_architectures(12, {3: "oom"}), start_models=12, models=6)
        assert state.references is not None
        assert 3 not in {reference.number for reference in state.references}

    def test_too_many_failures_stop_the_stage_with_a_table_of_causes(
        self, tmp_path: Path, make_runtime: MakeRuntime
    ) -> None:
        faults = dict.fromkeys(range(4), "oom") | {4: "nan"}
        with pytest.raises(StageStoppedError, match=r"(?s)allows 20% of 12 candidates.*oom .*training.micro_batch"):
            select(tmp_path, make_runtime(tmp_path), make_architectures(12, faults), start_models=12, models=12)

    def test_a_model_with_its_last_check_is_a_reference_while_its_worker_still_runs(self, tmp_path: Path) -> None:
        stage = SpreadSelectionStage(
            SpreadSelection(start_models=6, models=6),
            recipe=RECIPE,
            candidates=make_architectures(6),
            baseline=None,
            seed=0,
            study=FolderStudyStore(tmp_path),
        )
        state = stage.load()
        checks = tuple(Check(step, 0.5, 1.0) for step in (96, 100))
        states = [State.RUNNING, *[State.DONE] * 5]
        records = {key: TrialRecord(Status(s), checks) for key, s in zip(state.keys, states, strict=True)}
        action = stage.next_action(state, records)
        assert isinstance(action, runner.Decide)
        assert len(action.state.references or ()) == 6

    def test_a_missing_result_file_is_written_again(self, tmp_path: Path, make_runtime: MakeRuntime) -> None:
        runtime = make_runtime(tmp_path)
        small = {"start_models": 6, "models": 6}
        select(tmp_path, runtime, make_architectures(6), **small)
        (tmp_path / "references" / "MODEL_SELECTION_STATE.json").unlink()
        select(tmp_path, runtime, make_architectures(6), **small)
        assert (tmp_path / "references" / "MODEL_SELECTION_STATE.json").exists()


class TestRandomSelection:
    def take(
        self,
        folder: Path,
        runtime: Runtime,
        candidates: list[Architecture],
        *,
        recipe: Recipe = RECIPE,
        **settings: Any,
    ) -> SelectionState:
        stage = RandomSelectionStage(
            RandomSelection(**settings),
            recipe=recipe,
            candidates=candidates,
            baseline={"quality": 60, "fault": "none"},
            seed=0,
            study=FolderStudyStore(folder),
        )
        return runner.run_stage(stage, runtime)

    def test_takes_the_first_candidates_and_trains_nothing_else(
        self, tmp_path: Path, make_runtime: MakeRuntime
    ) -> None:
        runtime = make_runtime(tmp_path)
        state = self.take(tmp_path, runtime, make_architectures(20), models=6)
        assert state.references is not None
        assert {reference.number for reference in state.references} == set(range(6))
        assert len(runtime.store.keys()) == 7, "six references and the baseline"
        assert state.baseline is not None

    def test_a_failed_candidate_is_replaced_by_another(self, tmp_path: Path, make_runtime: MakeRuntime) -> None:
        runtime = make_runtime(tmp_path, max_attempts=1)
        state = self.take(tmp_path, runtime, make_architectures(20, {2: "oom"}), models=6)
        assert state.references is not None
        assert {reference.number for reference in state.references} == {0, 1, 3, 4, 5, 6}

    def test_too_many_failures_stop_the_stage_with_a_table_of_causes(
        self, tmp_path: Path, make_runtime: MakeRuntime
    ) -> None:
        candidates = make_architectures(20, dict.fromkeys(range(4), "oom"))
        with pytest.raises(StageStoppedError, match=r"(?s)allows 20% of .* candidates to fail.*oom"):
            self.take(tmp_path, make_runtime(tmp_path), candidates, models=6)

    def test_the_failure_report_is_a_table_of_causes_with_advice_and_an_example_trial(
        self, tmp_path: Path, make_runtime: MakeRuntime
    ) -> None:
        runtime = make_runtime(tmp_path, max_attempts=1)
        candidates = make_architectures(20, {0: "nan", 1: "oom", 2: "oom", 3: "crash"})
        with pytest.raises(StageStoppedError) as stopped:
            self.take(tmp_path, runtime, candidates, models=20, max_failure_ratio=0.15)
        first, heading, *rows, last = str(stopped.value).splitlines()
        assert first == "selection allows 15% of 20 candidates to fail, and 4 did (20%):"
        assert heading.split() == ["cause", "candidates", "for", "example", "what", "to", "do"]
        assert [row.split()[:2] for row in rows] == [["oom", "2"], ["nan", "1"], ["crash", "1"]]
        assert [row[heading.index("what")] for row in rows] == ["l", "t", "r"], "the columns are aligned"
        for row in rows:
            cause, _, folder = row.split()[:3]
            status = runtime.store.read(folder.removeprefix("trials/")).status
            assert status.cause is not None
            assert status.cause.value == cause
        assert last == (
            "Fix the causes and run the command again. Changing a trainer, training or failures setting, or "
            "selection.max_failure_ratio (now 0.15), needs another study: use study=NAME."
        )

    def test_the_failure_report_does_not_advise_what_retries_have_tried(
        self, tmp_path: Path, make_runtime: MakeRuntime
    ) -> None:
        retry_policy = partial(find_retry, policy=RetrySettings(on_nan="lower_rate", max_oom_retries=1))
        runtime = replace(make_runtime(tmp_path, max_attempts=1), retry_policy=retry_policy)
        candidates = make_architectures(20, {0: "nan", 1: "oom"})
        recipe = synthetic.make_recipe(
            total_steps=100, check_every_steps=4, noise=0.01, batch_size=16, learning_rate=0.2
        )
        with pytest.raises(StageStoppedError) as stopped:
            self.take(tmp_path, runtime, candidates, recipe=recipe, models=20, max_failure_ratio=0.05)
        rows = {row.split()[0]: row for row in str(stopped.value).splitlines()[2:-1]}
        assert rows["nan"].endswith(
            "a learning rate of 0.1 instead of 0.2 did not help: lower trainer.learning_rate, or add warm-up"
        )
        assert "a micro-batch of 8 instead of 16 did not help: remove the largest choices" in rows["oom"]

    def test_a_candidate_with_a_successful_retry_has_not_failed(
        self, tmp_path: Path, make_runtime: MakeRuntime
    ) -> None:
        retry_policy = partial(find_retry, policy=RetrySettings())
        runtime = replace(make_runtime(tmp_path, max_attempts=1), retry_policy=retry_policy)
        candidates = make_architectures(20, dict.fromkeys(range(3), "oom>8"))
        recipe = synthetic.make_recipe(total_steps=100, check_every_steps=4, noise=0.01, batch_size=16)
        state = self.take(tmp_path, runtime, candidates, recipe=recipe, models=6)
        assert {model.number for model in state.references or ()} == set(range(6))
        assert state.keys[0] in {model.key for model in state.references or ()}, (
            "references keep the keys of the original trials"
        )

    def test_requesting_more_models_keeps_the_trained_ones(self, tmp_path: Path, make_runtime: MakeRuntime) -> None:
        runtime = make_runtime(tmp_path)
        self.take(tmp_path, runtime, make_architectures(20), models=5)
        before = {key: runtime.store.read(key) for key in runtime.store.keys()}
        state = self.take(tmp_path, runtime, make_architectures(20), models=8)
        assert len(state.references or ()) == 8
        assert {key: runtime.store.read(key) for key in before} == before, "nothing is trained again"
        fewer = self.take(tmp_path, runtime, make_architectures(20), models=5)
        assert len(fewer.references or ()) == 8, "trained references are kept"


class Unsure:
    """Criterion that requests five more models while there are fewer than `enough`, and then accepts."""

    target = 0.65

    def __init__(self, enough: int) -> None:
        self._enough = enough

    def judge(self, evidence: Evidence) -> Verdict:
        models = len(evidence.reference)
        if models >= self._enough:
            return Verdict(VerdictKind.ACCEPTED, None, "enough")
        more = 5 if models < evidence.plan.sizes[-1] else None
        return Verdict(VerdictKind.INCONCLUSIVE, None, "too few", models_needed=more)


def candidate_pool(count: int, faults: dict[int, str] | None = None, **settings: Any) -> CandidatePool:
    qualities = [(37 * i + 50) % 100 for i in range(count)]
    specs = [
        TrialSpec({"quality": q, "fault": (faults or {}).get(i, "none")}, ProxyTask(), Split.FULL, 0, RECIPE)
        for i, q in enumerate(qualities)
    ]
    given = {"step": 5, "maximum": 30, "search_trials": 10_000, "full_seconds": 1.0} | settings
    return CandidatePool(specs, 100, **given)


class TestAddedReferences:
    def test_an_inconclusive_verdict_adds_models_and_judges_the_same_check_again(self, real_search: Search) -> None:
        task = real_search.run({"wide": ProxyTask()}, criterion=Unsure(20), candidate_pool=candidate_pool(30)).tasks[
            "wide"
        ]
        assert task.stopping_state is StoppingState.MET_CORRELATION
        assert len(task.checks) == 1, "five models were added twice at the first check"
        assert (task.checks[0].models, len(task.keys), len(task.added)) == (20, 20, 10)
        assert [model.number for model in task.added] == list(range(100, 110))
        for model in task.added:
            assert real_search.runtime.store.read(model.key).step == RECIPE.total_steps, "references are trained fully"

    def test_a_candidate_that_does_not_train_is_not_added(self, search: Search) -> None:
        requested_specs = candidate_pool(30, {1: "nan"})
        task = search.run({"wide": ProxyTask()}, criterion=Unsure(14), candidate_pool=requested_specs).tasks["wide"]
        assert [model.number for model in task.added] == [100, 102, 103, 104]
        assert task.stopping_state is StoppingState.MET_CORRELATION

    def test_at_most_the_allowed_number_is_added(self, search: Search) -> None:
        tasks = {"hopeless": HOPELESS}
        task = search.run(tasks, criterion=Unsure(40), candidate_pool=candidate_pool(30, maximum=15)).tasks["hopeless"]
        assert len(task.keys) == 15
        assert task.stopping_state is StoppingState.RAN_TO_COMPLETION

    def test_models_that_cost_more_than_they_save_are_added_only_after_the_last_look(self, search: Search) -> None:
        tasks = {"wide": ProxyTask()}
        task = search.run(tasks, criterion=Unsure(15), candidate_pool=candidate_pool(30, search_trials=1)).tasks["wide"]
        assert [check.models for check in task.checks] == [10] * 24 + [15]

    def test_a_task_stops_after_its_last_look_if_all_added_models_fail(self, search: Search) -> None:
        failing = candidate_pool(5, dict.fromkeys(range(5), "nan"), search_trials=1)
        task = search.run({"wide": ProxyTask()}, criterion=Unsure(15), candidate_pool=failing).tasks["wide"]
        assert task.stopping_state is StoppingState.RAN_TO_COMPLETION
        assert (len(task.checks), task.added, task.completed) == (25, (), 5)

    def test_a_second_task_reuses_the_added_models(self, search: Search) -> None:
        tasks = {"half": ProxyTask(width=0.5), "full": ProxyTask()}
        state = search.run(tasks, criterion=Unsure(15), candidate_pool=candidate_pool(30), early_stop_if_not_best=False)
        assert [model.key for model in state.tasks["half"].added] == [m.key for m in state.tasks["full"].added]

    def test_a_repeated_search_makes_the_same_decisions(self, search: Search) -> None:
        first = search.run({"wide": ProxyTask()}, criterion=Unsure(20), candidate_pool=candidate_pool(30))
        assert search.run({"wide": ProxyTask()}, criterion=Unsure(20), candidate_pool=candidate_pool(30)) == first


class Counting:
    """Criterion that records the number of proxy tasks that it divides its error over."""

    target = 0.65

    def __init__(self) -> None:
        self.tasks: set[int] = set()

    def judge(self, evidence: Evidence) -> Verdict:
        self.tasks.add(evidence.plan.tasks)
        return Verdict(VerdictKind.ACCEPTED, None, "always accepted")


def test_a_fresh_search_judges_all_tasks_together_whatever_was_decided_before(search: Search) -> None:
    tasks = {"wide": ProxyTask(), "half": ProxyTask(width=0.5)}
    alone, resumed, fresh = Counting(), Counting(), Counting()
    search.run({"wide": ProxyTask()}, criterion=alone)
    search.run(tasks, criterion=resumed)
    search.run(tasks, criterion=fresh, is_fresh=True)
    assert (alone.tasks, resumed.tasks, fresh.tasks) == ({1}, {2}, {2})
    again = Counting()
    search.run(tasks, criterion=again)
    assert not again.tasks, "everything is decided"


RACERS = {"full": ProxyTask(), "half": ProxyTask(width=0.5), "tenth": ProxyTask(data_fraction=0.1)}


class TestRace:
    def test_the_order_of_the_grid_does_not_change_the_winner(self, tmp_path: Path) -> None:
        winners: set[tuple[str, int | None]] = set()
        for place, names in enumerate((("full", "half", "tenth"), ("tenth", "half", "full"))):
            folder = tmp_path / str(place)
            state = Search(folder, make_synthetic_runtime(folder)).run({name: RACERS[name] for name in names})
            best = find_best_task(state.tasks, state.tasks["half"].judged_by, time_tolerance=0.05)
            assert best is not None
            winners.add((best.name, best.final_step))
        assert len(winners) == 1

    def test_training_time_counts_every_device(self, search: Search) -> None:
        pair = {"two": ProxyTask(devices=2), "one": ProxyTask()}
        state = search.run(pair, early_stop_if_not_best=False)
        two, one = (state.tasks[name] for name in pair)
        assert [check.correlation for check in two.checks] == [check.correlation for check in one.checks]
        for twice, once in zip(two.checks, one.checks, strict=True):
            assert twice.median_train_seconds == pytest.approx(2 * once.median_train_seconds)
            assert twice.rated_seconds == pytest.approx(2 * once.rated_seconds)
        assert find_best_task(state.tasks, one.judged_by, time_tolerance=0.05) == one

    def test_other_tasks_stop_when_the_first_is_accepted(self, search: Search) -> None:
        state = search.run(RACERS)
        best = find_best_task(state.tasks, state.tasks["half"].judged_by, time_tolerance=0.05)
        assert best is not None
        for task in state.tasks.values():
            if task is not best:
                assert task.stopping_state is StoppingState.EXCEEDED_BEST_TIME
                assert (task.final_rated_seconds or 0) < (best.final_rated_seconds or 0)

    def test_a_task_is_not_stopped_for_a_low_tau(self, search: Search) -> None:
        worse = ProxyTask(overrides={"trainer.noise": 60.0})
        state = search.run({"hopeless": HOPELESS, "worse": worse}, target=1.0)
        assert {len(task.checks) for task in state.tasks.values()} == {25}


class TestProxySearch:
    def test_accepts_at_the_first_check_that_reaches_the_target(self, search: Search) -> None:
        state = search.run({"wide": ProxyTask()})
        task = state.tasks["wide"]
        assert task.stopping_state is StoppingState.MET_CORRELATION
        taus = [check.correlation.tau for check in task.checks if check.correlation is not None]
        assert taus[-1] >= 0.65
        assert all(tau < 0.65 for tau in taus[:-1])
        assert task.final_step == task.checks[-1].step < RECIPE.total_steps

    def test_trials_stop_soon_after_acceptance(self, real_search: Search) -> None:
        state = real_search.run({"wide": ProxyTask()})
        task = state.tasks["wide"]
        steps = [real_search.runtime.store.read(key).step for key in task.keys]
        assert task.final_step is not None
        assert max(steps) <= max(1.5 * task.final_step + 4, 12), "no trial trains to the end"

    def test_chooses_the_cheapest_task_and_stops_those_that_cannot_be_cheaper(self, search: Search) -> None:
        tasks = {"half": ProxyTask(width=0.5), "full": ProxyTask(), "tenth": ProxyTask(data_fraction=0.1)}
        state = search.run(tasks)
        best = find_best_task(state.tasks, state.tasks["half"].judged_by, time_tolerance=0.05)
        assert best is not None
        for task in state.tasks.values():
            if task.stopping_state is StoppingState.EXCEEDED_BEST_TIME:
                assert task.final_step is not None
                assert not task.is_accepted
        written = json.loads((search.folder / "proxy_search" / "SEARCH_CONTROLLER_STATE.json").read_text())
        assert written["best_proxy_task_name"] == best.name
        assert written["proxy_tasks_map"][best.name]["proxy_task_stats"]["final_training_steps"] == best.final_step

    def test_without_early_stopping_every_task_is_judged_until_its_own_acceptance(self, search: Search) -> None:
        tasks = {"half": ProxyTask(width=0.5), "full": ProxyTask()}
        state = search.run(tasks, early_stop_if_not_best=False)
        assert {task.stopping_state for task in state.tasks.values()} == {StoppingState.MET_CORRELATION}

    def test_the_last_check_is_judged(self, search: Search) -> None:
        state = search.run({"hopeless": HOPELESS}, target=1.0)
        task = state.tasks["hopeless"]
        assert [check.step for check in task.checks] == list(range(4, 101, 4))
        assert task.stopping_state is StoppingState.RAN_TO_COMPLETION

    def test_the_time_limit_stops_a_task(self, search: Search) -> None:
        state = search.run({"hopeless": HOPELESS}, target=1.0, train_seconds_limit=0.3)
        task = state.tasks["hopeless"]
        assert task.stopping_state is StoppingState.EXCEEDED_TIME_LIMIT
        assert task.checks[-2].rated_seconds < 0.3 <= task.checks[-1].rated_seconds
        both = search.run({"two": replace(HOPELESS, devices=2)}, target=1.0, train_seconds_limit=0.3).tasks["two"]
        assert both.final_step == task.final_step, "the limit is not multiplied by the devices"

    def test_a_task_is_accepted_for_its_median_score(self, search: Search) -> None:
        state = search.run({"hopeless": HOPELESS}, target=1.0, desired_score=-100.0)
        assert state.tasks["hopeless"].stopping_state is StoppingState.MET_ACCURACY

    def test_a_model_that_runs_out_of_memory_or_diverges_ranks_last(self, search: Search) -> None:
        state = search.run({"hopeless": HOPELESS}, target=1.0, faults={0: "nan"})
        correlation = state.tasks["hopeless"].checks[-1].correlation
        assert correlation is not None
        assert correlation.n == 10

    def test_crashed_models_are_left_out_until_too_few_remain(self, search: Search) -> None:
        state = search.run({"hopeless": HOPELESS}, target=1.0, faults=dict.fromkeys(range(3), "crash"))
        correlation = state.tasks["hopeless"].checks[-1].correlation
        assert correlation is not None
        assert correlation.n == 7
        state = search.run({"hopeless": HOPELESS}, target=1.0, faults=dict.fromkeys(range(4), "crash"))
        assert state.tasks["hopeless"].stopping_state is StoppingState.EXCESS_FAILURES

    def test_a_task_stops_if_all_its_models_fail(self, search: Search) -> None:
        state = search.run({"hopeless": HOPELESS}, target=1.0, faults=dict.fromkeys(range(10), "nan"))
        assert state.tasks["hopeless"].stopping_state is StoppingState.EXCESS_FAILURES

    def test_a_failure_does_not_change_the_checks_before_it(self, search: Search) -> None:
        faults = dict.fromkeys(range(4), "crash")
        task = search.run({"hopeless": HOPELESS}, target=1.0, faults=faults).tasks["hopeless"]
        assert task.stopping_state is StoppingState.EXCESS_FAILURES
        assert [check.step for check in task.checks] == list(range(4, 49, 4)), "checks before the failure are judged"
        assert all(check.correlation is not None and check.correlation.n == 10 for check in task.checks)

    def test_a_task_accepted_by_other_rules_does_not_stop_tasks(self, search: Search) -> None:
        lax = search.run({"half": ProxyTask(width=0.5)}, target=0.01)
        assert lax.tasks["half"].stopping_state is StoppingState.MET_CORRELATION
        strict = search.run({"hopeless": HOPELESS}, target=1.0)
        assert strict.tasks["hopeless"].stopping_state is StoppingState.RAN_TO_COMPLETION

    def test_a_task_that_is_accepted_when_it_is_no_cheaper_than_full_training_is_of_no_use(
        self, search: Search
    ) -> None:
        state = search.run({"full": ProxyTask()}, target=0.8)
        accepted = state.tasks["full"]
        assert (accepted.is_accepted, accepted.saves_nothing) == (True, False)
        assert accepted.final_rated_seconds is not None
        nearly = accepted.final_rated_seconds / 0.97
        again = search.run({"full": ProxyTask()}, target=0.8, full_seconds=nearly, is_fresh=True).tasks["full"]
        assert (again.stopping_state, again.final_step) == (StoppingState.MET_CORRELATION, accepted.final_step)
        assert (again.is_accepted, again.saves_nothing) == (False, True), "3 % lie within time_tolerance"

    def test_a_useless_task_does_not_stop_a_cheaper_one(self, search: Search) -> None:
        tasks = {"full": ProxyTask(), "half": ProxyTask(width=0.5)}
        state = search.run(tasks, full_seconds=0.29, policy="sequential")
        assert state.tasks["full"].saves_nothing
        assert state.tasks["half"].is_accepted

    def test_a_task_stops_where_it_becomes_more_expensive_than_full_training(self, search: Search) -> None:
        task = search.run({"hopeless": HOPELESS}, target=1.0, full_seconds=0.7).tasks["hopeless"]
        assert (task.stopping_state, task.beaten_by) == (StoppingState.EXCEEDED_BEST_TIME, None)
        assert (
            task.checks[-1].rated_seconds < 1.05 * 0.7 <= task.checks[-1].rated_seconds * (1 + 4 / task.checks[-1].step)
        )
        to_its_end = search.run(
            {"hopeless": HOPELESS}, target=1.0, full_seconds=0.7, early_stop_if_not_best=False
        ).tasks["hopeless"]
        assert to_its_end.stopping_state is StoppingState.RAN_TO_COMPLETION

    def test_another_setting_under_the_same_name_is_refused(self, search: Search) -> None:
        search.run({"mine": ProxyTask(width=0.5)})
        with pytest.raises(ConfigError, match="proxy task 'mine' must keep its setting during a study"):
            search.run({"mine": ProxyTask(width=0.25)})

    def test_a_larger_grid_adds_tasks_and_trains_nothing_again(self, search: Search) -> None:
        first = search.run({"half": ProxyTask(width=0.5)})
        stamps = {key: search.runtime.store.read(key) for key in first.tasks["half"].keys}
        second = search.run({"half": ProxyTask(width=0.5), "quarter": ProxyTask(width=0.25)})
        assert second.tasks["half"] == first.tasks["half"]
        assert second.tasks["quarter"].stopping_state is not None
        assert {key: search.runtime.store.read(key) for key in stamps} == stamps

    def test_another_target_judges_the_same_trials_again(self, search: Search) -> None:
        strict = search.run({"half": ProxyTask(width=0.5)}, target=0.9)
        lax = search.run({"half": ProxyTask(width=0.5)}, target=0.5)
        assert lax.tasks["half"].keys == strict.tasks["half"].keys
        assert (lax.tasks["half"].final_step or 0) <= (strict.tasks["half"].final_step or 0)

    def test_the_verdict_does_not_depend_on_the_number_of_slots(self, tmp_path: Path) -> None:
        tasks = {"half": ProxyTask(width=0.5), "full": ProxyTask()}
        states = [
            Search(tmp_path / str(slots), make_synthetic_runtime(tmp_path / str(slots), slots=slots)).run(tasks)
            for slots in (2, 10)
        ]
        assert states[0].tasks == states[1].tasks

    def test_no_trial_runs_after_the_search(self, real_search: Search) -> None:
        state = real_search.run({"wide": ProxyTask()})
        assert not real_search.runtime.backend.poll(0.0)
        states = {real_search.runtime.store.read(key).status.state for key in state.tasks["wide"].keys}
        assert states <= {State.PAUSED, State.DONE}
