"""What strategies are compared on, collected from studies with failed trainings, stale tasks and confirmations."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from helpers.written_studies import Author
from nasproxy.stages.confirmation.state import ConfirmationOutcome, read_confirmations
from nasproxy.stages.proxy_search.state import find_best_task, read_rules, read_tasks
from nasproxy.stages.references.state import read_references
from nasproxy.stages.worth.evidence import LEAST_MODELS, ReferenceCurves, collect_curves
from nasproxy.statistics.missing import Floats
from nasproxy.statistics.rank_correlation import kendall_tau
from nasproxy.statistics.strategies import FULL_TRAINING
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.storage.zero_cost_scores import NAME as ZERO_COST_RECORD
from nasproxy.storage.zero_cost_scores import ZeroCost, ZeroCostScores
from nasproxy.trials.objective import Objective
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.spec import to_canonical_json

NARROW, HALF = {"width50": ProxyTask(width=0.5)}, {"data50": ProxyTask(data_fraction=0.5)}

NewStudy = Callable[..., Author]


def collect(study: FolderStudyStore) -> ReferenceCurves:
    return collect_curves(study, Objective(), time_tolerance=0.05)


def begin(new_study: NewStudy, causes: Mapping[int, str], kind: str = "proxy_cause") -> Author:
    """Select ten random reference models, some of which fail under proxy tasks or in the confirmation."""
    author = new_study(40)
    for place, cause in causes.items():
        author.architectures[place] = {**author.architectures[place], kind: cause}
    author.select_randomly()
    return author


def count_without_proxy_score(curves: ReferenceCurves) -> int:
    assert curves.proxy is not None
    return int(np.isnan(curves.models.scores[curves.proxy]).sum())


def read_scores_at_acceptance(study: FolderStudyStore, name: str) -> Floats:
    """Read the scores of the proxy search at the accepted look, in the order of the models."""
    task = read_tasks(study)[name]
    assert task.final_step is not None
    checks = [study.trials.read(key).check_at(task.final_step) for key in task.keys]
    return np.array([check.score for check in checks if check is not None])


@pytest.fixture(scope="module")
def curves(full_study: Any) -> ReferenceCurves:
    """Curves collected from a study."""
    return collect(full_study.folder)


def test_full_training_can_be_compared_at_each_of_its_checks_but_the_last(curves: ReferenceCurves) -> None:
    places = [place for place in curves.models.costs if place.task == FULL_TRAINING]
    assert len(places) > 3
    assert max(curves.models.costs[place] for place in places) < 1
    assert [curves.models.costs[place] for place in places] == sorted(curves.models.costs[p] for p in places)


def test_all_models_have_scores_at_all_places(curves: ReferenceCurves) -> None:
    for scores in curves.models.scores.values():
        assert scores.shape == curves.models.finals.shape
        assert not np.isnan(scores).any()


def test_the_accepted_task_is_one_of_the_places_and_no_rung(curves: ReferenceCurves) -> None:
    assert curves.proxy is not None
    assert curves.proxy not in curves.rung_scores
    assert curves.proxy_task is not None
    assert curves.proxy.task.startswith(curves.proxy_task)
    assert 0 < curves.models.costs[curves.proxy] < 1


def test_the_study_costs_more_than_its_reference_models(curves: ReferenceCurves) -> None:
    assert curves.study_cost > curves.models.finals.size


@pytest.mark.parametrize("file", ["status", "metrics", "config"])
@pytest.mark.parametrize("of", ["reference", "task"])
def test_a_damaged_trial_costs_its_model_and_stays_where_it_is(of: str, file: str, new_study: NewStudy) -> None:
    author = begin(new_study, {})
    author.search(NARROW)
    whole = collect(author.folder)
    (task,) = read_tasks(author.folder).values()
    key = task.keys[3] if of == "task" else read_references(author.folder)[3].key
    path = getattr(author.folder.trials.folder(key), file)
    path.write_bytes(b"\xff")
    curves = collect(author.folder)
    assert (curves.left_out, curves.models.finals.size) == (1, 9)
    assert curves.models.scores.keys() == whole.models.scores.keys()
    assert curves.study_cost * curves.full_seconds <= whole.study_cost * whole.full_seconds
    assert path.read_bytes() == b"\xff"


def test_a_study_whose_reference_models_are_all_damaged_compares_nothing(new_study: NewStudy) -> None:
    author = begin(new_study, {})
    author.search(NARROW)
    for reference in read_references(author.folder):
        author.folder.trials.folder(reference.key).status.write_bytes(b"")
    curves = collect(author.folder)
    assert (curves.left_out, curves.models.finals.size, curves.proxy) == (10, 0, None)


@pytest.mark.parametrize("cause", ["crash", "lost"])
def test_a_model_that_crashed_or_was_lost_is_left_out_and_the_accepted_task_is_compared(
    cause: str, new_study: NewStudy
) -> None:
    author = begin(new_study, {3: cause})
    author.search(NARROW)
    curves = collect(author.folder)
    assert curves.proxy is not None
    assert (curves.left_out, curves.models.finals.size, curves.proxy_reason) == (1, 9, "")
    assert all(np.isfinite(scores).all() and scores.size == 9 for scores in curves.models.scores.values())
    assert "width50" in {place.task for place in curves.rung_scores}
    assert curves.optimism is not None


@pytest.mark.parametrize("cause", ["nan", "oom"])
def test_a_model_that_diverged_or_ran_out_of_memory_ranks_last(cause: str, new_study: NewStudy) -> None:
    author = begin(new_study, {3: cause})
    author.search(NARROW)
    curves = collect(author.folder)
    references = read_references(author.folder)
    failed = next(place for place, model in enumerate(references) if "proxy_cause" in model.architecture)
    assert curves.proxy is not None
    assert curves.left_out == 0
    scores = curves.models.scores[curves.proxy]
    assert scores[failed] < np.delete(scores, failed).min()
    task = read_tasks(author.folder)["width50"]
    judged, found = task.checks[-1].correlation, kendall_tau(scores, curves.models.finals)
    assert judged is not None
    assert found is not None
    assert found.tau == judged.tau, "failed models rank as in the verdict"


def test_confirmation_runs_are_compared_without_the_models_whose_run_crashed(new_study: NewStudy) -> None:
    author = begin(new_study, {3: "crash"}, "compressed_cause")
    author.search(NARROW)
    assert author.confirm().outcome is ConfirmationOutcome.STANDS
    curves = collect(author.folder)
    assert curves.proxy is not None
    assert (curves.left_out, count_without_proxy_score(curves)) == (1, 0)
    assert not np.isin(curves.models.scores[curves.proxy], read_scores_at_acceptance(author.folder, "width50")).all()


def test_scores_of_the_proxy_search_are_used_if_too_few_confirmation_runs_have_one(new_study: NewStudy) -> None:
    author = begin(new_study, dict.fromkeys((2, 3, 4), "lost"), "compressed_cause")
    author.search(NARROW)
    assert author.confirm().outcome is ConfirmationOutcome.STANDS
    curves = collect(author.folder)
    assert curves.proxy is not None
    assert (curves.left_out, curves.proxy_reason) == (0, "")
    assert np.array_equal(curves.models.scores[curves.proxy], read_scores_at_acceptance(author.folder, "width50"))


def test_an_accepted_task_with_too_few_scores_is_not_compared_and_the_others_are_on_all_models(
    new_study: NewStudy,
) -> None:
    author = begin(new_study, dict.fromkeys((2, 3, 4), "crash"))
    author.search(NARROW)
    curves = collect(author.folder)
    assert (curves.proxy, curves.optimism, curves.attenuation) == (None, None, 1.0)
    assert curves.proxy_task == "width50"
    assert curves.proxy_reason == (
        f"7 of 10 reference models have a score under width50, and {LEAST_MODELS} are needed"
    )
    assert (curves.left_out, curves.models.finals.size) == (0, 10)
    assert FULL_TRAINING in {place.task for place in curves.rung_scores}


def test_a_task_of_other_rules_is_no_rung(new_study: NewStudy) -> None:
    author = begin(new_study, {})
    author.search(HALF, target=0.5)
    author.search(NARROW, target=0.65)
    tasks, rules = read_tasks(author.folder), read_rules(author.folder)
    assert tasks["data50"].judged_by != rules.judged_by, "the study has a task that was judged by other rules"
    places = {place.task for place in collect(author.folder).rung_scores}
    assert "width50" in places
    assert "data50" not in places


@pytest.mark.parametrize("name", ["width50", "data50"])
def test_scores_belong_to_the_model_of_their_trial_in_any_order(name: str, new_study: NewStudy) -> None:
    author = begin(new_study, {})
    author.search({**NARROW, **HALF})
    before = collect(author.folder)
    task = read_tasks(author.folder)[name]
    (record,) = [each for each in author.folder.list_names("proxy_search/tasks") if each.endswith(name)]
    author.folder.write(record, replace(task, keys=task.keys[::-1]))
    after = collect(author.folder)
    assert before.models.scores.keys() == after.models.scores.keys()
    assert name in {place.task for place in after.models.scores}
    for place, scores in before.models.scores.items():
        assert np.array_equal(scores, after.models.scores[place]), place


def test_a_model_that_a_task_was_not_judged_on_has_no_score_there(new_study: NewStudy) -> None:
    author = begin(new_study, {})
    author.search(NARROW)
    task = read_tasks(author.folder)["width50"]
    (record,) = author.folder.list_names("proxy_search/tasks")
    author.folder.write(record, replace(task, keys=task.keys[1:]))
    assert collect(author.folder).left_out == 1


class CountingStore(FolderStudyStore):
    """Counts how often each record is read."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.reads: list[str] = []

    def read(self, name: str, kind: type[Any]) -> Any:
        self.reads.append(name)
        return super().read(name, kind)


def test_the_best_zero_cost_score_is_found_with_one_read_of_the_stored_ones(new_study: NewStudy) -> None:
    author = begin(new_study, {})
    author.search(NARROW)
    models = read_references(author.folder)
    scored = {
        to_canonical_json(model.architecture): ZeroCost(parameters=place % 2, flops=None, synflow=-float(place))
        for place, model in enumerate(models)
    }
    author.folder.write(ZERO_COST_RECORD, ZeroCostScores(scored))
    store = CountingStore(author.folder.path)
    curves = collect(store)
    assert curves.zero_cost is not None
    assert curves.zero_cost.task == "synflow"
    assert {place.task for place in curves.models.scores} & {"parameters", "flops"} == set()
    assert store.reads.count(ZERO_COST_RECORD) == 1


def test_a_study_without_an_accepted_task_gives_no_reason(new_study: NewStudy) -> None:
    author = begin(new_study, {3: "crash"})
    author.search(NARROW, target=0.999)
    tasks, rules = read_tasks(author.folder), read_rules(author.folder)
    assert find_best_task(tasks, rules.judged_by, time_tolerance=0.05) is None
    assert read_confirmations(author.folder) == []
    curves = collect(author.folder)
    assert (curves.proxy_task, curves.proxy, curves.proxy_reason, curves.left_out) == (None, None, "", 0)
