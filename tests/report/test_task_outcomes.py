"""Outcomes of proxy tasks, and the reasons why they were not chosen."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from helpers.user_code import LessOfMore
from nasproxy.report import tables, verdict, wording
from nasproxy.report.task_outcomes import TaskOutcome, explain_outcome, get_outcome
from nasproxy.stages.proxy_search.state import StoppingState
from nasproxy.stages.study_results import read_results
from nasproxy.trials.proxy_task import ProxyTask


def rows(author: Any) -> dict[str, dict[str, Any]]:
    results = read_results(author.folder, time_tolerance=0.05)
    return {row["proxy_task"]: row for row in tables.make_not_chosen(results).rows}


def rewrite(author: Any, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the stored state of a study's only proxy task."""
    path = author.folder.path / "proxy_search" / "tasks" / "width25.json"
    state = json.loads(path.read_text())
    change(state)
    path.write_text(json.dumps(state))


@pytest.fixture
def small_study(new_study: Any) -> Any:
    author = new_study(8)
    author.measure_variance()
    author.select_models(start_models=8, models=8)
    return author


def test_the_reason_for_a_dropped_task_names_the_cheaper_one(full_study: Any) -> None:
    results = read_results(full_study.folder, time_tolerance=0.05)
    assert results.best is not None
    assert results.best.name == "width50"
    dropped = rows(full_study)
    assert list(dropped) == ["data50", "data25_width50"], "all but the chosen one"
    last = results.tasks["data50"].checks[-1]
    assert last.correlation is not None
    assert dropped["data50"]["outcome"] == "dropped"
    assert (dropped["data50"]["tau"], dropped["data50"]["needed"]) == (last.correlation.tau, 0.65)
    best_seconds = wording.format_duration(results.best.final_rated_seconds)
    assert f"no later check could be cheaper than width50 ({best_seconds})" in dropped["data50"]["reason"]


def test_the_reason_for_an_accepted_but_not_chosen_task_is_its_cost(vertex_study: Any) -> None:
    row = rows(vertex_study)["data50"]
    assert row["outcome"] == "accepted, not chosen"
    assert row["reason"].startswith("Accepted, but more expensive than width50: ")


def test_the_reason_for_a_rejected_task_is_its_tau_and_threshold(small_study: Any) -> None:
    small_study.search({"width25": ProxyTask(width=0.25)}, target=1.0)
    row = rows(small_study)["width25"]
    assert row["outcome"] == "rejected"
    tau = wording.format_tau(row["tau"])
    assert row["reason"] == (
        f"Trained to the end: tau {tau} on 8 models, acceptance threshold 1.00; more reference models with this tau "
        f"would not suffice"
    ), "unlike an inconclusive one"


def test_a_task_between_target_and_threshold_needs_more_models(new_study: Any) -> None:
    author = new_study(40)
    author.measure_variance()
    author.select_randomly()
    strict, candidate_pool = LessOfMore({10: 0.99, 20: 0.7}), author.candidate_pool(maximum=15)
    author.search({"width25": ProxyTask(width=0.25)}, criterion=strict, candidate_pool=candidate_pool)
    row = rows(author)["width25"]
    assert (row["outcome"], row["models"]) == ("inconclusive", 10), "no number up to the maximum would suffice"
    assert 0.65 <= row["tau"] < row["needed"]
    assert "more reference models might suffice, which exceeds references.max" in row["reason"]


def test_an_inconclusive_task_states_how_many_models_it_needs(small_study: Any) -> None:
    small_study.search({"width25": ProxyTask(width=0.25)}, target=1.0)
    rewrite(small_study, lambda state: state["verdict"].update(kind="inconclusive", models_needed=4))
    results = read_results(small_study.folder, time_tolerance=0.05)
    row = rows(small_study)["width25"]
    assert (row["outcome"], row["models_needed"]) == ("inconclusive", 4)
    assert row["reason"].endswith("1.00; 4 more reference models might suffice, which exceeds references.max")
    for table in (tables.make_proxy_tasks(results), tables.make_not_chosen(results)):
        (outcome,) = [column.text(row) for column in table.columns if column.heading == "outcome"]
        assert outcome == "inconclusive (4 more models)"


def test_the_reason_for_a_failed_task_names_the_causes(new_study: Any) -> None:
    author = new_study(8)
    for number, cause in ((3, "lost"), (4, "lost"), (5, "lost"), (6, "nan")):
        author.architectures[number]["proxy_cause"] = cause
    author.measure_variance()
    author.select_models(start_models=8, models=8)
    author.search({"width50": ProxyTask(width=0.5)}, target=0.99)
    row = rows(author)["width50"]
    assert row["outcome"] == "failed"
    assert row["reason"] == "Too few models left: 4 of 8 trainings failed (3 lost, 1 nan)"


def test_the_reason_for_a_task_that_reached_the_time_limit_names_it(small_study: Any) -> None:
    small_study.search({"width25": ProxyTask(width=0.25)}, target=1.0, train_seconds_limit=1.0)
    row = rows(small_study)["width25"]
    assert row["outcome"] == "time limit reached"
    assert row["reason"].startswith("Reached proxy_search.train_seconds_limit of 1 s: tau ")


def test_a_task_judged_with_other_settings_is_not_chosen(small_study: Any) -> None:
    small_study.search({"data50": ProxyTask(data_fraction=0.5)}, target=0.6)
    small_study.search({"width50": ProxyTask(width=0.5)}, target=0.65)
    assert rows(small_study)["data50"]["reason"].startswith("Judged with other settings than the study's last")


def test_a_task_without_a_final_decision_is_not_finished(small_study: Any) -> None:
    small_study.search({"width25": ProxyTask(width=0.25)}, target=1.0)
    rewrite(small_study, lambda state: state.update(stopping_state=None, final_step=None, final_train_seconds=None))
    results = read_results(small_study.folder, time_tolerance=0.05)
    assert get_outcome(results, results.tasks["width25"]) is TaskOutcome.RUNNING
    assert explain_outcome(results, results.tasks["width25"]).startswith("So far: tau ")
    assert verdict.judge_study(results).headline.startswith("Proxy search not finished")


def test_an_acceptance_that_was_stored_without_a_bound_gets_one_when_the_study_goes_on(new_study: Any) -> None:
    author = new_study(10)
    author.measure_variance()
    author.select_randomly()
    author.search({"width25": ProxyTask(width=0.25)}, target=0.3)
    before = read_results(author.folder, time_tolerance=0.05)
    assert before.best is not None
    rewrite(author, lambda state: state.update(margin=None, bound=None))
    author.search({"width25": ProxyTask(width=0.25)}, target=0.3)
    after = read_results(author.folder, time_tolerance=0.05)
    assert after.best == before.best
    assert set(after.trials) == set(before.trials)


def test_a_task_that_is_no_cheaper_than_full_training_is_of_no_use(small_study: Any) -> None:
    small_study.search({"width25": ProxyTask(width=0.25)}, target=0.1)
    rewrite(small_study, lambda state: state.update(saves_nothing=True))
    row = rows(small_study)["width25"]
    assert row["outcome"] == "no cheaper than full training"
    assert re.fullmatch(
        r"Of no use: it met the criterion after .*, no cheaper than full training \(.* per model\)", row["reason"]
    )
    results = read_results(small_study.folder, time_tolerance=0.05)
    text = verdict.judge_study(results).text
    assert text.startswith("No proxy task was accepted.")
    assert "No cheaper than full training, so of no use: width25. Try proxy tasks whose steps are cheaper" in text
    assert "reduce less" not in text, "a task that reduces less is no cheaper"


def test_a_task_that_was_stopped_at_the_cost_of_full_training_is_of_no_use(small_study: Any) -> None:
    small_study.search({"width25": ProxyTask(width=0.25)}, target=1.0)
    stopped = StoppingState.EXCEEDED_BEST_TIME.value
    rewrite(small_study, lambda state: state.update(stopping_state=stopped, beaten_by=None))
    reason = rows(small_study)["width25"]["reason"]
    assert reason.startswith("Of no use: training on would make it more expensive than full training (")
