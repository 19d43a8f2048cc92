"""The report's account of confirmation runs."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from html import unescape
from typing import Any

import pytest

from nasproxy import load_study
from nasproxy.cost.estimate import Amount, Estimate, StageEstimate
from nasproxy.report import estimate_tables, verdict, wording
from nasproxy.report.confirmation_section import write_test
from nasproxy.report.page import Page, write_report
from nasproxy.report.search_prediction import predict_search
from nasproxy.stages.confirmation.state import ConfirmationOutcome, ConfirmationState, find_confirmation
from nasproxy.stages.proxy_search.state import StoppingState, read_tasks
from nasproxy.stages.study_results import Purpose, read_results
from nasproxy.statistics.acceptance import grade_acceptance
from nasproxy.statistics.contradiction import compare_retraining
from nasproxy.statistics.score_test import score_lower_limits
from nasproxy.storage.json_records import read_record
from nasproxy.storage.study import RECORD, StudyRecord
from nasproxy.tracking.events import AcceptedTask
from nasproxy.trials.proxy_task import ProxyTask

NewStudy = Callable[..., Any]
TASKS = {"width50": ProxyTask(width=0.5), "data50": ProxyTask(data_fraction=0.5)}


def report(author: Any) -> Page:
    return write_report(author.folder, time_tolerance=0.05)


def searched(new_study: NewStudy, tasks: Mapping[str, ProxyTask] = TASKS, **changes: Any) -> Any:
    """Write a study of eight models with an accepted proxy task; `changes` set properties of the n-th model."""
    author = new_study(8)
    for place in range(8):
        changed = {name: make(place) for name, make in changes.items()}
        author.architectures[place] = {**author.architectures[place], **changed}
    author.measure_variance()
    author.select_models(start_models=8, models=8)
    author.search(tasks)
    return author


@pytest.fixture(scope="module")
def confirmed(new_study: NewStudy) -> Any:
    author = searched(new_study)
    author.confirm(fresh_models=6)
    return author


@pytest.fixture(scope="module")
def contradicted(new_study: NewStudy) -> Any:
    """Write a study whose proxy tasks rank differently on short schedules."""
    author = searched(new_study, compressed=lambda place: 1 - (37 * place % 101) / 100)
    author.confirm()
    return author


def only_confirmation(author: Any) -> ConfirmationState:
    (path,) = (author.folder.path / "confirmation").iterdir()
    state = read_record(path, ConfirmationState)
    assert state is not None
    return state


@pytest.mark.parametrize(("target", "limit"), [(0.65, ""), (0.95, ", the highest tau that can be tested")])
def test_a_target_above_the_highest_tau_that_can_be_tested_is_explained(target: float, limit: str) -> None:
    scores = list(range(10))
    found = compare_retraining(scores, scores, stated_tau=target)
    assert write_test(found).startswith(f" One-sided test against {min(target, 0.85):g}{limit}: p")


class TestConfirmed:
    def test_both_taus_are_shown_with_the_power_of_the_test(self, confirmed: Any) -> None:
        page, state = report(confirmed), only_confirmation(confirmed)
        assert state.result is not None
        assert state.result.correlation is not None
        models, fresh = page.tables["confirmations"]
        task = read_tasks(confirmed.folder)[state.task]
        assert task.checks[-1].correlation is not None
        assert models["tau_truncated"] == task.checks[-1].correlation.tau
        assert models["tau"] == state.result.correlation.tau
        assert models["noticeable_tau"] == state.result.noticeable_tau
        assert (fresh["kind"], fresh["models"], fresh["tau_truncated"]) == ("fresh models", 6, None)
        text = unescape(page.path.read_text(encoding="utf-8"))
        assert "Confirmation runs do not contradict the verdict." in text
        assert state.result.p_value is not None
        assert f"One-sided test against 0.65: {wording.write_p_value(state.result.p_value)}." in text
        detectable = wording.format_tau(state.result.noticeable_tau)
        assert f"With 8 models the test detects tau <= {detectable} with 80 % power." in text
        assert "Fresh models do not contradict the verdict." in text
        assert "Not confirmed yet" not in text
        assert f"Confirmation runs: {wording.write_tau(state.result.correlation)}; lower" in page.verdict
        assert "Confirmation runs do not contradict it." in page.verdict

    def test_every_place_states_the_tau_of_the_confirmation_runs_and_its_bound(self, confirmed: Any) -> None:
        page, state = report(confirmed), only_confirmation(confirmed)
        study = load_study(confirmed.folder.path)
        assert state.result is not None
        assert state.result.correlation is not None
        task = read_tasks(confirmed.folder)[state.task]
        found = find_confirmation([state], task)
        assert found is not None
        assert found.result is not None
        tau, bound = state.result.correlation.tau, found.result.bound
        raced = task.checks[-1].correlation
        assert raced is not None
        assert bound is not None
        assert bound < tau
        words = study.verdict
        assert (words.tau, words.bound, words.raced_tau, words.target) == (tau, bound, raced.tau, 0.65)
        assert words.grade is grade_acceptance(bound, 0.65, is_confirmed=True)
        assert words.headline.startswith(f"Accepted: {state.task}, grade {words.grade.value}, stopped after")
        assert page.event.accepted == AcceptedTask(state.task, words.grade, tau, bound, raced.tau, is_confirmed=True)
        expected = predict_search(study.results)
        assert expected is not None
        assert (expected.tau, expected.lower_limit, expected.is_selected) == (tau, bound, False)
        row = study.proxy_tasks.set_index("proxy_task").loc[state.task]
        assert (row.tau, row.tau_confirmed, row.bound, row.grade) == (raced.tau, tau, bound, words.grade.value)
        written = json.loads((confirmed.folder.path / "proxy_search" / "SEARCH_CONTROLLER_STATE.json").read_text())
        stats = written["proxy_tasks_map"][state.task]["proxy_task_stats"]
        assert stats["accuracy_correlation_over_step"][-1] == raced.tau, "as Vertex AI NAS writes it"
        assert (stats["confirmed_accuracy_correlation"], stats["grade"]) == (tau, words.grade.value)
        assert stats["accuracy_correlation_lower_bound"] == bound
        content = json.loads(page.path.with_name("report.json").read_text())["verdict"]
        assert (content["tau"], content["bound"], content["grade"]) == (tau, bound, words.grade.value)
        html = page.path.read_text(encoding="utf-8")
        assert f'<section id="verdict" class="verdict {words.grade.value}">' in html

    def test_fresh_models_have_an_ordinary_bound_since_nothing_selected_them(self, confirmed: Any) -> None:
        state = only_confirmation(confirmed)
        assert state.fresh is not None
        assert state.fresh.result is not None
        found = state.fresh.result.correlation
        assert found is not None
        assert state.fresh.result.bound == score_lower_limits(found.tau, found.n)
        facts = dict(load_study(confirmed.folder.path).verdict.facts)
        assert facts["tau-b, fresh models"].startswith(
            f"{wording.format_tau(found.tau)} (6 models, not selected, lower"
        )

    def test_confirmation_runs_are_a_stage_in_the_cost_table(self, confirmed: Any) -> None:
        page, state = report(confirmed), only_confirmation(confirmed)
        (row,) = [row for row in page.tables["costs"] if row["stage"] == Purpose.CONFIRMATION.value]
        assert (row["trials"], row["proxy_task"]) == (8 + 2 * 6, state.task)
        assert row["steps"] == 14 * state.final_step + 6 * 500
        assert page.tables["costs"][-1]["trials"] == len(confirmed.folder.trials.keys())

    def test_a_task_accepted_at_the_end_of_training_needs_no_confirmation_runs(self, new_study: NewStudy) -> None:
        author = searched(new_study, {"full": ProxyTask(overrides={"training.check_every_steps": 500})})
        author.confirm()
        text = report(author).path.read_text(encoding="utf-8")
        assert "No confirmation runs needed." in text
        assert "were trained once more" not in text

    def test_contradicting_fresh_models_are_the_first_remark(self, new_study: NewStudy) -> None:
        author = searched(new_study)
        author.confirm(fresh_models=8, fresh={"compressed": lambda quality: 1 - quality})
        results = read_results(author.folder, time_tolerance=0.05)
        words = verdict.judge_study(results)
        assert words.is_accepted, "fresh models do not change the verdict"
        assert words.remarks[0].title == "Fresh models contradict the verdict."
        assert "8 of 8 requested new random models trained fully" in words.remarks[0].text


class TestContradicted:
    def test_a_contradicted_task_is_not_accepted_even_before_the_search_resumes(self, contradicted: Any) -> None:
        """Test the state after a kill between confirmation and proxy search."""
        name = only_confirmation(contradicted).task
        assert read_tasks(contradicted.folder)[name].is_accepted
        results = read_results(contradicted.folder, time_tolerance=0.05)
        assert results.best is None
        page = report(contradicted)
        assert page.verdict.startswith("Proxy search not finished"), "the other task must be judged again"
        assert f"{name} was accepted after" in page.verdict
        (row,) = [row for row in page.tables["proxy_tasks"] if row["proxy_task"] == name]
        assert (row["state"], row["is_accepted"]) == (StoppingState.CONTRADICTED.value, False)

    def test_contradictions_are_remarks_on_the_next_accepted_task_and_the_verdict_if_none_is_left(
        self, contradicted: Any
    ) -> None:
        first = only_confirmation(contradicted).task
        contradicted.search(TASKS)
        page = report(contradicted)
        assert page.verdict.startswith("Accepted: ")
        text = page.path.read_text(encoding="utf-8")
        assert "A proxy task accepted before was contradicted." in text
        assert "Not confirmed yet." in text
        assert "Not confirmed yet." in page.verdict
        contradicted.confirm()
        contradicted.search(TASKS)
        page = report(contradicted)
        assert page.verdict.startswith("No proxy task was accepted.")
        assert page.verdict.count("contradicted by confirmation runs") == 2
        assert "none accepted and confirmed" in page.verdict
        assert "The shortened schedule ranks models differently" in page.verdict
        for row in page.tables["not_chosen"]:
            assert row["outcome"] == "contradicted"
            assert row["reason"].startswith(f"Accepted after {row['step']} steps, contradicted by confirmation runs")
        state = json.loads((contradicted.folder.path / "proxy_search" / "SEARCH_CONTROLLER_STATE.json").read_text())
        assert state["best_proxy_task_name"] == ""
        stopped = state["proxy_tasks_map"][first]["proxy_task_stats"]["stopping_state"]
        assert stopped == "Ran till completion", "Vertex AI NAS has no state for it"


class TestNotConfirmed:
    @pytest.mark.parametrize("is_replayed", [False, True])
    def test_without_confirmation_the_grade_is_weak_and_the_selected_tau_is_called_optimistic(
        self, new_study: NewStudy, is_replayed: bool
    ) -> None:
        results = read_results(searched(new_study).folder, time_tolerance=0.05)
        if is_replayed:
            results = replace(results, base={**results.base, "storage.trials": "memory"})
        words = verdict.judge_study(results)
        assert results.best is not None
        assert words.headline.startswith(f"Accepted: {results.best.name}, grade weak, stopped after")
        assert f"Proxy search: tau-b {words.tau:.2f} on 8 models, optimistic, since it was selected" in words.sentence
        assert dict(words.facts)["grade"] == "weak: the verdict is not confirmed"
        assert words.bound == results.best.bound

    def test_a_void_confirmation_is_said_wherever_the_verdict_is(self, new_study: NewStudy) -> None:
        author = searched(new_study, compressed_cause=lambda place: "crash" if place < 4 else "")
        state = author.confirm()
        page, study = report(author), load_study(author.folder.path)
        words = study.verdict
        assert (words.is_accepted, words.is_void) == (True, True), "it does not withdraw the winner"
        assert words.confirmation is ConfirmationOutcome.VOID
        assert words.headline.startswith(f"Accepted, confirmation void: {state.task}, grade weak, stopped after")
        assert "The confirmation is void: failed trials." in page.verdict
        assert "do not contradict" not in page.verdict
        first = words.remarks[0]
        assert first.title == "The confirmation is void."
        assert first.text.startswith("4 of at least 6 models are left: 4 of 8 confirmation runs failed (4 crash)")
        assert "the first with the trainer has a mistake. Fix the cause and run the command again" in first.text
        (row,) = page.tables["confirmations"]
        assert (row["outcome"], row["tau"]) == ("void (failed trials)", None)
        (decision,) = study.decisions[study.decisions.stage == "confirmation"].decision
        assert decision == "reference models: void (failed trials)"
        estimate = Estimate({"confirmation": StageEstimate(*[Amount(8, 8 * state.final_step, 1.0, 1.0)] * 3)}, 500, 1.0)
        cost, _ = estimate_tables.make_comparison(study.results, estimate).rows
        assert (cost["actual_trials"], cost["ratio"]) == (8, None), "the stage has not ended: runs may be retried"
        text = page.path.read_text(encoding="utf-8")
        assert '<section id="verdict" class="verdict weak">' in text
        assert "The confirmation is void." in text
        written = json.loads((author.folder.path / "proxy_search" / "SEARCH_CONTROLLER_STATE.json").read_text())
        assert written["best_proxy_task_name"] == state.task

    def test_the_report_explains_how_to_confirm_unless_a_table_was_replayed(self, new_study: NewStudy) -> None:
        author = searched(new_study)
        assert "with job=confirm to train the models" in report(author).path.read_text(encoding="utf-8")
        record = author.folder.read(RECORD, StudyRecord)
        assert record is not None
        author.folder.write(RECORD, StudyRecord({**record.base, "storage.trials": "memory"}))
        text = report(author).path.read_text(encoding="utf-8")
        assert re.search(
            r"A replay confirms the verdict if the table has trainings with \d+ in its column schedule", text
        )
