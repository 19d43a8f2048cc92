"""The command line: errors and resumed studies."""

import json
import signal
import time
from pathlib import Path

import pytest

from helpers import cli
from helpers.debug_study import DebugStudy
from nasproxy.config.compose import compose_config
from nasproxy.cost.account import Cost
from nasproxy.report.verdict import judge_study
from nasproxy.stages.confirmation.state import ConfirmationOutcome, read_confirmations
from nasproxy.stages.proxy_search.state import StoppingState, read_tasks
from nasproxy.stages.study_results import read_results
from nasproxy.storage.locks import is_locked
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.storage.trial_stores import FolderTrialStore
from nasproxy.tracking.events import JobEnded, read_events
from nasproxy.trials.records import State

DEBUG = ("experiment=debug", "references.initial=8", "references.max=0")

FEW_CHECKS = ("training.total_steps=20", "training.check_every_steps=10")


def keys(folder: Path, name: str = "debug") -> list[str]:
    return FolderStudyStore(folder / name).trials.keys()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.check_every_steps=0"], "training.check_every_steps must be at least 1, got 0"),
        (
            ["proxy=custom", "proxy.tasks=[{name: long, training.total_steps: 101}]"],
            "must train no longer than full training's 100 steps, got 101 of 'long'",
        ),
        (["proxy.data_fraction=[]"], "must hold at least one value, got an empty list"),
        (["proxy.data_fraction=50"], "must lie in (0, 1], got 50: give a fraction, 0.5, not a percentage"),
        (["proxy=custom"], "needs at least one proxy task, got an empty grid"),
        (["proxy=custom", "proxy.tasks=[{name: a}, {name: a, width: 0.5}]"], "must be unique, got 'a' twice"),
        (["proxy=custom", "proxy.tasks=[{name: a, trainer.colour: 1}]"], "overrides 'trainer.colour', which"),
        (["proxy=generator", "proxy.generator._target_=os.nothing"], "there is none of that name"),
        (
            ["search_space.choices.quality=[1]", "search_space.choices.twin=[0]", "search_space.baseline=null"],
            "at least 2 architectures to rank",
        ),
        (["references.initial=3000"], "3000"),
        (["selection=spread", "selection.start_models=3000"], "3000"),
        (["references.initial=4"], "references.initial must be at least proxy_search.min_models, 5, got 4"),
        (["selection=spread", "selection.start_models=40", "selection.remove_per_iteration=1"], "40"),
        (["references.initial=5", "references.max=0"], "criterion needs 8 reference models to accept anything, got 5"),
        (["references.step=0"], "references needs step of at least 1"),
        (["search.trials=0"], "search.trials must be at least 1, got 0"),
        (["proxy_search.policy=fastest"], "must be one of ('race', 'sequential'), got 'fastest'"),
        (["proxy_search.rung_growth=1"], "proxy_search.rung_growth must be above 1 and at most 1000, got 1"),
        (["confirm.alpha=5"], "confirm.alpha must lie in (0, 0.5), got 5: give 0.05 for 5 %"),
        (["confirm.fresh_models=3"], "confirm.fresh_models must be 0 or at least 5, got 3"),
        (
            ["search_space.choices.twin=[0]", "search_space.baseline=null", "confirm.fresh_models=20"],
            "architectures that no other stage trains, got 12 in this search space",
        ),
        (["seed=-1"], "seed must be at least 0, got -1"),
        (
            ["job=compare_schedules", "trainer=image_classifier", "compare_schedules.models=50"],
            "compare_schedules.models must be at most 14, the baseline and the candidates",
        ),
        (
            ["job=compare_schedules", "trainer=image_classifier", "training.check_every_steps=null"],
            "compare_schedules needs 2 checks of a training",
        ),
        (["training.check_at=[20,10]"], "training.check_at must hold increasing steps of at least 1, got [20, 10]"),
        (["proxy=[]"], "needs at least one proxy task, got none"),
        (["proxy=custom", "proxy.tasks=[{name: a, training.total_steps: 0}]"], "at least 1, got 0"),
        (["trainer._target_=json"], "must name a function"),
        (["proxy=custom", "proxy.tasks=[{name: a, trainer._target_: nowhere.train}]"], "there is none of that name"),
        (
            ["proxy=generator", "proxy.generator._target_=helpers.user_code.broken"],
            "helpers.user_code.broken failed: RuntimeError: no luck",
        ),
        (
            ["data.loader={_target_: helpers.user_code.no_dataset}"],
            "or an ImageFolder of nasproxy.data.image_folder, got tuple",
        ),
        (["failures.on_nan=retry"], "failures.on_nan must be one of fail, lower_rate, clip, got 'retry'"),
        (
            ["~trainer.learning_rate", "failures.on_nan=lower_rate"],
            "failures.on_nan=lower_rate changes trainer.learning_r",
        ),
        (["variance.on_failure=close"], "variance.on_failure must be one of ('stop', 'warn'), got 'close'"),
        (["criterion.target=high"], "criterion.target must be float, got 'high'"),
        (["criterion.target=65"], "must lie in (0, 1], got 65"),
        (["studies_dir=/etc/hostname/below"], "needs a folder it can write to, got /etc/hostname/below"),
        (["backend.slots=0"], "backend.slots must be at least 1, got 0"),
        (["trainer.noise=loud"], "trainer.noise must be float, got 'loud'"),
        (["trainer._target_=nasproxy.nothing"], "trainer._target_ must name a function or class"),
        (["data=digits", "data.loader.train_size=0"], "train_size"),
        (["data.loader={_target_: helpers.user_code.one_class}"], "classes"),
        (["data=image_folder"], "data.loader.root must be given: add data.loader.root=VALUE"),
        (["data=image_folder", "data.loader.root=/nowhere"], "got no folder /nowhere/train: set data.loader.root"),
    ],
)
def test_an_invalid_override_stops_before_the_first_trial_with_one_message(
    tmp_path: Path, overrides: list[str], message: str
) -> None:
    elsewhere = [] if any(override.startswith("studies_dir") for override in overrides) else [f"studies_dir={tmp_path}"]
    refusal = cli.find_refusal("experiment=debug", *overrides, *elsewhere)
    assert message in refusal
    assert "Traceback" not in refusal
    assert not list(tmp_path.glob("*/trials/*")), "nothing was trained"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainr=1"], "the configuration has no trainr: did you mean trainer?"),
        (["criterion.target=65"], "must lie in (0, 1], got 65"),
        (["backend.memory_gib=0.01"], "backend.memory_gib must exceed the memory of a worker before training"),
    ],
    ids=["composition", "check", "preflight"],
)
def test_the_command_prints_a_refusal_in_one_line_and_exits_with_2(
    tmp_path: Path, overrides: list[str], message: str
) -> None:
    code, output = cli.run("experiment=debug", *overrides, folder=tmp_path)
    assert code == 2
    (line,) = (line for line in output.splitlines() if line.startswith("nasproxy: "))
    assert message in line
    assert line == output.splitlines()[-1]
    assert "Traceback" not in output


@pytest.mark.parametrize("flags", [["-m"], ["--cfg", "job"], ["--help"]])
def test_an_invalid_override_with_a_flag_gives_a_one_line_error(tmp_path: Path, flags: list[str]) -> None:
    code, output = cli.run(*flags, "training.totalsteps=1,2", folder=tmp_path)
    if "-m" not in flags:
        assert "training.totalsteps must be one value, got 1,2" in output
    else:
        assert "the configuration has no training.totalsteps: did you mean training.total_steps?" in output
    assert (code, len(output.splitlines())) == (2, 1)


def test_a_trainers_advice_is_printed_once(tmp_path: Path) -> None:
    advised = (*DEBUG, "trainer._target_=helpers.user_code.advised", "backend=inline")
    code, output = cli.run(*advised, "job=measure_variance", folder=tmp_path)
    assert code == 0, output
    assert output.count("choose warmer colours") == 1
    assert output.index("choose warmer colours") < output.index("variance")
    code, output = cli.run(*advised, "dry_run=true", folder=tmp_path)
    assert (code, output.count("choose warmer colours")) == (0, 1), output


def test_an_unknown_experiment_is_refused(tmp_path: Path) -> None:
    refusal = cli.find_refusal("experiment=nosuch", f"studies_dir={tmp_path}")
    assert "experiment has no choice 'nosuch': choose among" in refusal


@pytest.mark.gate
def test_a_study_ends_with_a_ladder_and_a_recommendation(debug_study: DebugStudy) -> None:
    ladder = json.loads((debug_study.folder / "debug" / "ladder.json").read_text(encoding="utf-8"))
    assert (ladder["metric"], ladder["mode"], ladder["max_risk"], ladder["risk"]) == ("accuracy", "max", 0.25, 0.25)
    assert [rung["share"] for rung in ladder["rungs"]] == sorted((r["share"] for r in ladder["rungs"]), reverse=True)
    assert "For a search of 2,000 models: " in debug_study.output


@pytest.mark.parametrize("job", ["design", "search_proxy_task", "confirm"])
def test_jobs_that_judge_proxy_tasks_compare_the_strategies_that_use_them(job: str) -> None:
    stages = compose_config([f"job={job}"]).job.stages
    assert stages.index("worth") > stages.index("proxy_search")


@pytest.mark.gate
def test_strategies_are_compared_again_for_a_larger_search_without_a_training(
    debug_study: DebugStudy, tmp_path: Path
) -> None:
    folder = debug_study.copy_to(tmp_path)
    before = keys(tmp_path)
    larger = ("search.trials=9000", "ladder.max_risk=0.3", "references.initial=auto", "references.max=auto")
    code, output = cli.run("experiment=debug", "job=compare_strategies", *larger, folder=tmp_path)
    assert code == 0, output
    assert "For a search of 9,000 models: " in output
    assert "reference models for a search" not in output, "no number of models is decided where none is trained"
    assert json.loads((folder / "ladder.json").read_text(encoding="utf-8"))["max_risk"] == 0.3
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert "Predicted cost and outcome of a search of 9,000 models" in page
    assert keys(tmp_path) == before


def test_a_repeated_study_trains_nothing_again(debug_study: DebugStudy, tmp_path: Path) -> None:
    debug_study.copy_to(tmp_path)
    page = tmp_path / "debug" / "report" / "index.html"
    assert page.stat().st_size > 10_000
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "debug" / "trials").rglob("metrics.jsonl")}
    code, output = cli.run("experiment=debug", folder=tmp_path)
    assert code == 0, output
    assert f"report: {page}" in output.replace("\n", "")
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "debug" / "trials").rglob("metrics.jsonl")}
    assert after == before, "nothing was trained again"
    assert debug_study.output.count("baseline: ") == 1
    assert "baseline: " not in output, "the references are not new"
    code, output = cli.run("experiment=debug", "job=list_trials", folder=tmp_path)
    assert code == 0, output
    assert all(key[:8] in output for key in keys(tmp_path))


FAULTY = (*DEBUG, "trainer.batch_size=16", "trainer.learning_rate=0.2", "cost.estimate_first=false")


def test_too_many_failures_stop_selection_with_a_table_of_causes(tmp_path: Path) -> None:
    faults = ("search_space.choices.fault=['oom>1','nan>0.1']", "search_space.baseline=null")
    code, output = cli.run(*FAULTY, *faults, "job.stages=[references]", "failures.max_oom_retries=1", folder=tmp_path)
    assert code == 2
    lines = output[output.index("nasproxy: selection allows 20% of") :].splitlines()
    assert lines[1].split() == ["cause", "candidates", "for", "example", "what", "to", "do"]
    *_, last = read_events(FolderStudyStore(tmp_path / "debug"))
    assert isinstance(last, JobEnded)
    assert (last.error or "").startswith("selection allows 20% of")
    causes = {line.split()[0]: line for line in lines[2:-1]}
    assert set(causes) <= {"oom", "nan"}
    assert lines[-1].startswith("Fix the causes and run the command again.")
    assert lines[-1].endswith("selection.max_failure_ratio (now 0.2), needs another study: use study=NAME.")
    for line in causes.values():
        assert (tmp_path / "debug" / line.split()[2] / "worker.log").exists(), "it names the folder with the log"
    code, output = cli.run(*DEBUG, "job=list_trials", folder=tmp_path)
    assert code == 0, output


def test_retries_are_reported_in_output_remarks_and_list_of_trials(tmp_path: Path) -> None:
    faults = ("search_space.choices.fault=[none,'oom>4','oom>8 nan>0.1']", "failures.on_nan=lower_rate")
    code, output = cli.run(
        *FAULTY, *faults, "criterion=first_crossing", "criterion.target=0.4", "backend=inline", folder=tmp_path
    )
    assert code == 0, output
    assert "with a micro-batch of 8 instead of 16" in output
    results = read_results(FolderStudyStore(tmp_path / "debug"), time_tolerance=0.05)
    assert len(results.references) == 8, "no model is lost"
    assert all(results.trials[model.key].record.step == 100 for model in results.references)
    alone = [trial.alone for trial in results.trials.values()]
    whole = Cost.of(list(results.trials.values()))
    assert whole.failed == 0
    assert whole.wall_seconds == sum(record.status.wall_seconds for record in alone), "each training is counted once"
    titles = [remark.title for remark in judge_study(results).remarks]
    assert any(title.startswith("Retries after out of memory: ") for title in titles)
    assert any(title.startswith("Retries after divergence: ") for title in titles)
    code, output = cli.run(*DEBUG, "job=list_trials", folder=tmp_path)
    assert code == 0, output
    lines = [line.split("\t") for line in output.splitlines() if "retried" in line.split("\t")]
    assert len(lines) == sum(bool(record.retries) for record in alone)
    assert any("with a learning rate of 0.1 instead of 0.2" in line[-1] for line in lines)
    assert "micro-batch" in output[output.index("trial\tstage") :].splitlines()[0].split("\t")
    assert not any("failed" in line.split("\t") for line in output.splitlines())


def test_a_larger_grid_extends_the_study_and_a_changed_base_is_refused(tmp_path: Path) -> None:
    job = (*DEBUG, "job=search_proxy_task", "cost.estimate_first=false")
    code, output = cli.run(*job, "proxy=width50", "backend=inline", folder=tmp_path)
    assert code == 0, output
    before = set(keys(tmp_path))
    code, output = cli.run(*job, "proxy.data_fraction=[0.5,1.0]", "proxy.width=0.5", "backend=inline", folder=tmp_path)
    assert code == 0, output
    assert len(set(keys(tmp_path)) - before) == 8, "one more proxy task on eight models"
    assert set(read_tasks(FolderStudyStore(tmp_path / "debug"))) == {"width50", "data50_width50"}
    refusal = cli.find_refusal(*job, "training.total_steps=200", f"studies_dir={tmp_path}")
    assert "was begun with another configuration (training.total_steps: 100 -> 200)" in refusal
    code, output = cli.run(*job, "backend.slots=1", "proxy=width50", folder=tmp_path)
    assert code == 0, "the backend does not change the identity of a trial"


TRICKY = (
    "criterion=first_crossing",
    "proxy=custom",
    "proxy.tasks=[{name: half, width: 0.5, trainer.reversed_below: 100}, {name: full}]",
)
"""The cheaper proxy task ranks in reverse on any schedule shorter than full training's."""


def test_the_search_continues_after_a_contradicted_winner(tmp_path: Path) -> None:
    job = (*DEBUG, *TRICKY, "job=confirm", "cost.estimate_first=false", "backend=inline")
    code, output = cli.run(*job, "confirm.enabled=false", folder=tmp_path)
    assert code == 0, output
    folder = FolderStudyStore(tmp_path / "debug")
    assert read_tasks(folder)["half"].stopping_state is StoppingState.MET_CORRELATION
    code, output = cli.run(*job, "confirm.fresh_models=5", folder=tmp_path)
    assert code == 0, output
    for words in ("half: contradicted, tau -1.00", "full: continues", "full: confirmed", "full: 5 fresh models"):
        assert words in output
    assert read_tasks(folder)["half"].stopping_state is StoppingState.CONTRADICTED
    assert {state.task: state.outcome for state in read_confirmations(folder)} == {
        "half": ConfirmationOutcome.CONTRADICTED,
        "full": ConfirmationOutcome.STANDS,
    }
    before = set(keys(tmp_path))
    code, output = cli.run(*job, "confirm.fresh_models=5", folder=tmp_path)
    assert code == 0, output
    assert "contradicted" not in output, "nothing is decided again"
    assert set(keys(tmp_path)) == before


def test_a_replayed_study_states_that_its_winner_cannot_be_confirmed(tmp_path: Path) -> None:
    table = tmp_path / "curves.csv"
    assert cli.python("-m", "nasproxy.testing.curves", str(table), "--architectures", "30", "--checks", "10") == 0
    code, output = cli.run("experiment=replay", f"backend.table={table}", "job=confirm", folder=tmp_path)
    assert code == 0, output
    assert "its winner cannot be confirmed" in output
    folder = FolderStudyStore(tmp_path / "curves")
    assert read_tasks(folder)
    assert not read_confirmations(folder)


def test_a_study_without_trials_accepts_a_corrected_configuration(tmp_path: Path) -> None:
    job = (*DEBUG, "job=measure_variance", "cost.estimate_first=false", "backend=inline")
    assert cli.find_refusal(*job, "trainer.noise=loud", f"studies_dir={tmp_path}")
    code, output = cli.run(*job, folder=tmp_path)
    assert code == 0, output


def test_a_second_controller_is_refused_with_the_process_of_the_first(tmp_path: Path) -> None:
    slow = (*DEBUG, "job=select_models", "trainer.check_seconds=0.2")
    first = cli.start(*slow, folder=tmp_path)
    try:
        wait_until(lambda: bool(keys(tmp_path)), first)
        code, output = cli.run(*slow, folder=tmp_path)
        assert code == 2
        assert f"study debug is being worked on by process {first.pid} on" in output
    finally:
        first.kill()
        first.communicate()


@pytest.mark.parametrize("polite", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_no_worker_and_a_study_to_resume(tmp_path: Path, polite: signal.Signals) -> None:
    slow = (*DEBUG, "job=select_models", "trainer.check_seconds=0.3", *FEW_CHECKS)
    process = cli.start(*slow, folder=tmp_path)
    trials = tmp_path / "debug" / "trials"
    wait_until(lambda: any(trials.glob("*/metrics.jsonl")), process)
    process.send_signal(polite)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "the same command goes on from here" in output
    assert not [lock for lock in trials.glob("*/worker.lock") if is_locked(lock)]
    store = FolderTrialStore(trials)
    states = {store.read(key).status.state for key in store.keys()}
    assert State.RUNNING not in states
    code, output = cli.run(*slow, folder=tmp_path)
    assert code == 0, output


def wait_until(condition: object, process: object, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert process.poll() is None, process.communicate()[0]  # type: ignore[attr-defined]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_help_lists_the_groups_and_cfg_prints_the_configuration(tmp_path: Path) -> None:
    process = cli.start_plain("--help")
    output, _ = process.communicate(timeout=60)
    assert "which cheap training setting" in output
    for group in ("job", "search_space", "proxy", "trainer", "data", "criterion", "backend", "tracking", "experiment"):
        assert f"{group}: " in output
    process = cli.start_plain("--cfg", "job")
    output, _ = process.communicate(timeout=60)
    assert "_target_: nasproxy.trainers.image_classifier.train" in output


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, nasproxy.jobs.job; sys.exit('torch' in sys.modules)"
    assert cli.python("-c", code) == 0
