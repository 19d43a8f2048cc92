"""Studies as frames, from new to finished ones."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nasproxy
from nasproxy.cost.account import Cost
from nasproxy.report.page import Page
from nasproxy.stages.proxy_search.state import read_tasks
from nasproxy.stages.study_results import read_results
from nasproxy.trials.proxy_task import ProxyTask


@pytest.fixture(scope="module")
def study(full_study: Any) -> Any:
    return nasproxy.load_study(full_study.folder.path)


def test_trials_are_those_of_the_folder_including_failed_ones(study: Any, full_study: Any) -> None:
    store, trials = full_study.folder.trials, study.trials.set_index("key")
    assert sorted(trials.index) == store.keys()
    for key, row in trials.iterrows():
        spec, record = store.spec(str(key)), store.read_alone(str(key))
        assert (row.architecture, row.seed, row.split) == (spec.architecture, spec.seed, spec.split.value)
        assert (row["architecture.depth"], row.step) == (spec.architecture["depth"], record.step)
    assert set(trials[trials.state == "failed"].cause) == {"oom"}
    assert (trials.cause.isna() == (trials.state != "failed")).all()


def test_costs_of_the_trials_add_up_to_those_of_the_report(study: Any) -> None:
    spent = Cost.of(list(study.results.trials.values()))
    assert study.trials.train_seconds.sum() == pytest.approx(spent.train_seconds)
    assert study.trials.wall_seconds.sum() == pytest.approx(spent.wall_seconds)


def test_checks_are_the_learning_curves_that_lead_to_the_trials_scores(study: Any) -> None:
    last = study.checks.groupby("key").last()
    trials = study.trials.set_index("key").loc[last.index]
    assert last.step.tolist() == trials.step.tolist()
    assert last.score.tolist() == trials.score.tolist()
    assert last.train_seconds.tolist() == trials.train_seconds.tolist()
    assert study.checks.groupby("key").step.apply(lambda steps: steps.is_monotonic_increasing).all()


def test_training_time_counts_every_device_in_both_frames(new_study: Callable[..., Any]) -> None:
    author = new_study(12)
    author.measure_variance()
    author.select_randomly()
    author.search({"two": ProxyTask(width=0.5, devices=2)})
    study = nasproxy.load_study(author.folder.path)
    key = study.trials[study.trials.proxy_task == "two"].key.iloc[0]
    alone = author.folder.trials.read_alone(key)
    assert study.checks[study.checks.key == key].train_seconds.iloc[-1] == 2 * alone.checks[-1].train_seconds


def test_proxy_tasks_have_their_setting_and_the_numbers_of_the_report(study: Any, page: Page) -> None:
    rows = {row["proxy_task"]: row for row in page.tables["proxy_tasks"]}
    tasks = study.proxy_tasks.set_index("proxy_task")
    assert list(tasks.index) == list(rows)
    for name, row in tasks.iterrows():
        assert (row.tau, row.train_ratio) == pytest.approx((rows[name]["tau"], rows[name]["train_ratio"]))
        assert row.is_chosen == rows[name]["is_best"]
    assert tasks.loc["data25_width50", ["data_fraction", "width", "depth"]].tolist() == [0.25, 0.5, 1.0]
    chosen = tasks[tasks.is_chosen]
    assert chosen.stopping_state.tolist() == ["Met desired correlation"]
    assert f"stopped after {chosen.final_step.iloc[0]} of 500 steps" in study.verdict.headline
    assert study.verdict.text == page.verdict


def test_decisions_list_looks_by_training_time_between_selection_and_confirmation(
    new_study: Callable[..., Any], tasks: Any
) -> None:
    author = new_study(30)
    author.measure_variance()
    author.select_models()
    author.search(tasks)
    author.confirm()
    study = nasproxy.load_study(author.folder.path)
    decisions = study.decisions
    stages = list(dict.fromkeys(decisions.stage))
    assert stages == ["variance", "references", "proxy search", "confirmation"]
    looks = decisions[(decisions.stage == "proxy search") & decisions.step.notna()]
    known = read_tasks(author.folder)
    assert len(looks) == sum(len(task.checks) for task in known.values())
    rated = [known[row.proxy_task].checks for row in looks.itertuples()]
    moments = [
        next(check.rated_seconds for check in checks if check.step == row.step)
        for row, checks in zip(looks.itertuples(), rated, strict=True)
    ]
    assert moments == sorted(moments)
    ends = decisions[(decisions.stage == "proxy search") & (decisions.decision != "Continue")]
    assert dict(zip(ends.proxy_task, ends.decision, strict=True)) == {
        name: task.stopping_state.value for name, task in known.items() if task.stopping_state
    }
    accepted = looks[looks.decision == "Met desired correlation"]
    assert (accepted.tau >= accepted.needed).all()
    dropped = decisions[decisions.decision == "Exceeded best training time"]
    assert dropped.tau.isna().all(), "tasks are not dropped at a look"
    assert dropped.index.min() > accepted.index.min()


def test_a_contradicted_winner_was_accepted_by_its_last_look(new_study: Callable[..., Any], tasks: Any) -> None:
    author = new_study(30)
    for architecture in author.architectures:
        architecture["compressed"] = 1 - architecture["quality"]
    author.measure_variance()
    author.select_randomly()
    author.search(tasks)
    author.confirm()
    study = nasproxy.load_study(author.folder.path)
    (name,) = study.proxy_tasks[study.proxy_tasks.stopping_state == "Contradicted by its confirmation"].proxy_task
    decisions = study.decisions[study.decisions.proxy_task == name]
    assert decisions[decisions.stage == "proxy search"].decision.iloc[-1] == "Met desired correlation"
    assert "contradicted" in decisions[decisions.stage == "confirmation"].decision.iloc[0]


def test_looks_of_a_sequential_search_keep_the_order_of_tasks(vertex_study: Any) -> None:
    decisions = nasproxy.load_study(vertex_study.folder.path).decisions
    looks = decisions[decisions.stage == "proxy search"]
    tasks = read_tasks(vertex_study.folder)
    assert looks.proxy_task.drop_duplicates().tolist() == [name for name, task in tasks.items()]


def test_a_new_study_has_empty_frames_of_the_same_types(new_study: Callable[..., Any], study: Any) -> None:
    empty = nasproxy.load_study(new_study().folder.path)
    for name in ("trials", "checks", "proxy_tasks", "decisions"):
        frame, full = getattr(empty, name), getattr(study, name)
        assert len(frame) == 0
        assert frame.dtypes.to_dict() == {column: full.dtypes[column] for column in frame.columns}
    assert (empty.verdict.is_accepted, empty.verdict.overrides) == (False, [])
    assert "0 trials, 0 proxy tasks. The study is not finished" in repr(empty)


def test_an_unfinished_study_has_the_results_so_far(new_study: Callable[..., Any]) -> None:
    author = new_study(12)
    author.measure_variance()
    study = nasproxy.load_study(author.folder.path)
    assert set(study.trials.stage) == {"variance"}
    assert study.decisions.decision.tolist() == ["within its limits"]
    author.select_randomly()
    assert set(study.trials.stage) == {"variance"}, "a loaded study does not change"
    assert set(nasproxy.load_study(author.folder.path).trials.stage) == {"variance", "references"}


def test_the_winner_is_judged_with_the_tolerance_of_its_study(full_study: Any, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(full_study.folder.path, folder)
    for path in [*(folder / "proxy_search" / "tasks").glob("*.json"), folder / "proxy_search" / "rules.json"]:
        path.write_text(path.read_text().replace(r"\"criterion\"", r"\"time_tolerance\":0.5,\"criterion\""))
    study = nasproxy.load_study(folder)
    assert study.results.time_tolerance == 0.5
    assert study.verdict.is_accepted


def test_paths_may_be_strings_and_relative(full_study: Any, monkeypatch: pytest.MonkeyPatch, study: Any) -> None:
    monkeypatch.chdir(full_study.folder.path.parent)
    assert nasproxy.load_study(full_study.folder.path.name).path == study.path
    assert nasproxy.load_study(os.fspath(full_study.folder.path)).trials.equals(study.trials)


def test_a_path_without_a_study_is_refused_with_the_existing_studies(full_study: Any, tmp_path: Path) -> None:
    root = full_study.folder.path.parent
    named = f"{root} holds the studies made-up: name one"
    with pytest.raises(nasproxy.NasproxyError, match=f"there is no such folder; {named}"):
        nasproxy.load_study(root / "made-down")
    with pytest.raises(nasproxy.NasproxyError, match=f"got {root}: it has no study.json; {named}"):
        nasproxy.load_study(root)
    with pytest.raises(nasproxy.NasproxyError, match=f"{tmp_path} holds no study"):
        nasproxy.load_study(tmp_path / "studies")


def test_a_damaged_file_is_named(full_study: Any, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(full_study.folder.path, folder)
    (folder / "references" / "state.json").write_text("{")
    with pytest.raises(nasproxy.NasproxyError, match=r"references/state.json cannot be read"):
        nasproxy.load_study(folder)


def test_reading_changes_nothing(full_study: Any, study: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in full_study.folder.path.rglob("*")}
    again = nasproxy.load_study(full_study.folder.path)
    _ = (again.trials, again.checks, again.proxy_tasks, again.decisions, again.verdict)
    assert {path: path.stat().st_mtime_ns for path in full_study.folder.path.rglob("*")} == before
    assert read_results(full_study.folder, time_tolerance=0.05).tasks == study.results.tasks
