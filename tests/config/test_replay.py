"""Replays from the command line and from Python, as described in docs/replay.md."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nasproxy
from helpers import cli
from nasproxy.errors import NasproxyError
from nasproxy.execution.backends.replay.curve_table import read_table
from nasproxy.stages.confirmation.state import ConfirmationOutcome, ConfirmationState, read_confirmations
from nasproxy.stages.references.state import read_references
from nasproxy.stages.variance.state import VarianceState
from nasproxy.storage.study import RECORD, StudyRecord
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.testing import curves

KINDS = {"fast": "steady", "never": "hopeless"}
COSTS = {"fast": 0.2, "never": 0.4}
SMALL = ("references.max=0", "criterion=first_crossing")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("replay") / "curves.csv")


def write_table(path: Path, architectures: int = 60, seeds: int = 1) -> Path:
    noise = curves.Noise(early=0.5, late=0.02)
    rows = curves.generate_rows(
        architectures=architectures, checks=12, proxies=KINDS, costs=COSTS, seeds=seeds, noise=noise
    )
    curves.write_table(path, rows)
    return path


@pytest.fixture(autouse=True)
def own_search_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give each test its own working directory, and undo changes of a run to `sys.path`."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)


def replay(table: Path, folder: Path, *overrides: str) -> nasproxy.Result:
    """Replay a table in this process."""
    return nasproxy.run(
        ["experiment=replay", f"backend.table={table}", f"studies_dir={folder}", "study=one", *SMALL, *overrides]
    )


def decided(folder: Path, name: str = "one") -> dict[str, Any]:
    """Read the state of each proxy task."""
    tasks = (folder / name / "proxy_search" / "tasks").glob("*.json")
    return {path.stem: json.loads(path.read_text()) for path in sorted(tasks)}


def test_a_replayed_study_writes_a_report_and_decides_the_same_when_repeated(table: Path, tmp_path: Path) -> None:
    command = ("experiment=replay", f"backend.table={table}", "study=one", *SMALL)
    status, output = cli.run(*command, folder=tmp_path)
    assert status == 0, output
    assert "Accepted: fast" in output
    assert (tmp_path / "one" / "report" / "index.html").exists()
    first, ledger = decided(tmp_path), (tmp_path / "one" / "replayed.jsonl").read_text()
    status, output = cli.run(*command, folder=tmp_path)
    assert status == 0, output
    assert decided(tmp_path) == first
    assert (tmp_path / "one" / "replayed.jsonl").read_text() == ledger, "no trial is replayed further"


def test_a_larger_grid_extends_a_study(table: Path, tmp_path: Path) -> None:
    replay(table, tmp_path, "backend.proxies=[fast]")
    first = decided(tmp_path)["fast"]
    replay(table, tmp_path, "backend.proxies=[fast,never]")
    both = decided(tmp_path)
    assert (both["fast"], set(both)) == (first, {"fast", "never"})


def test_the_proxies_of_a_table_are_swept(table: Path, tmp_path: Path) -> None:
    command = ("experiment=replay", f"backend.table={table}", "study=swept", *SMALL)
    status, output = cli.run("-m", *command, "backend.proxies=[fast],[never]", folder=tmp_path)
    assert status == 0, output
    assert set(decided(tmp_path, "swept")) == {"fast", "never"}


def test_a_study_refuses_another_table(table: Path, tmp_path: Path) -> None:
    replay(table, tmp_path)
    other = tmp_path / "curves.csv"
    other.write_text(table.read_text().replace("model000001", "another"))
    with pytest.raises(NasproxyError, match=r"study one was begun with another configuration .*data\.fingerprint"):
        replay(other, tmp_path)
    with pytest.raises(NasproxyError, match=r"study one must be one of the table .*curves\.csv"):
        replay(other, tmp_path, "job=report")
    with pytest.raises(NasproxyError, match=r"begun with metric\.name=accuracy metric\.mode=max, got loss and min"):
        replay(table, tmp_path, "metric=loss", "job=report")


def test_a_replayed_study_names_the_experiment_that_reads_it(table: Path, tmp_path: Path) -> None:
    replay(table, tmp_path)
    with pytest.raises(NasproxyError, match=r"not stored: add experiment=replay backend\.table=FILE"):
        nasproxy.run(["job=report", f"studies_dir={tmp_path}", "study=one"])


OVERRULED = {
    "proxy=data50": "proxy.data_fraction",
    "+trainer.rate=0.1": "trainer.rate",
    "search_space=digits_cnn": "search_space.model",
    "training.total_steps=5": "training.total_steps",
    "variance.total_steps=5": "variance.total_steps",
}
"""Settings that the table decides, each overruled by an override."""


@pytest.mark.parametrize("override", OVERRULED)
def test_what_the_table_decides_cannot_be_set(table: Path, tmp_path: Path, override: str) -> None:
    words = re.escape(OVERRULED[override])
    with pytest.raises(NasproxyError, match=rf"^{words}\S* cannot be set with experiment=replay, got .*proxies=\["):
        replay(table, tmp_path, override)
    assert not (tmp_path / "one").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("backend.table=nowhere.csv", "backend.table needs a file with a table of learning curves, got nowhere.csv"),
        ("backend.table=null", r"backend.table must name a table .* got none: .*experiment=replay backend.table=FILE"),
        ("backend.proxies=[third]", r"backend.proxies must list proxies of the table.*got 'third'"),
        ("backend.reference=whole", r"backend.reference must be one of the table's proxies.*got 'whole'"),
        (
            "variance.enabled=true",
            r"variance.seeds must be at most the seeds of a full training .*, 1, got 5: lower",
        ),
        ("storage.trials=folder", r"backend=replay needs storage.trials=memory .*type experiment=replay .*without"),
    ],
)
def test_invalid_replays_are_refused_in_a_sentence(table: Path, tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(NasproxyError, match=message) as refused:
        replay(table, tmp_path, override)
    assert len(str(refused.value)) < 300
    assert not (tmp_path / "one").exists()


def test_a_replay_with_another_backend_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NasproxyError, match=r"experiment=replay needs backend=replay, got .*LocalBackend: remove"):
        nasproxy.run(["experiment=replay", "backend=local", f"studies_dir={tmp_path}"])


def test_the_errors_of_a_table_name_its_row(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    path.write_text("architecture,proxy,seed,step,score,train_seconds\na,full,0,1,0.5,1\na,full,0,1,0.6,2\n")
    with pytest.raises(NasproxyError, match=r"curves\.csv, row 3: a training must have one check per step, got step 1"):
        replay(path, tmp_path)


def test_the_former_command_states_the_new_one(table: Path, tmp_path: Path) -> None:
    status, output = cli.run("backend=replay", f"backend.table={table}", folder=tmp_path)
    assert status == 2, output
    assert "type experiment=replay backend.table=FILE" in output
    assert "Traceback" not in output
    assert not list(tmp_path.iterdir())


def test_trials_in_memory_are_refused_if_they_cost_trainings(tmp_path: Path) -> None:
    with pytest.raises(NasproxyError, match=r"can be repeated at no cost.*LocalBackend: use storage\.trials=folder"):
        nasproxy.run(["experiment=debug", "storage.trials=memory", f"studies_dir={tmp_path}"])


def test_the_variance_is_measured_on_an_architecture_with_enough_seeds(tmp_path: Path) -> None:
    path = write_table(tmp_path / "curves.csv", architectures=30, seeds=3)
    header, *rows = path.read_text().splitlines()
    once = [row for row in rows if row.split(",")[0] == "model000017" or row.split(",")[2] == "0"]
    path.write_text("\n".join([header, *once]) + "\n")
    replay(path, tmp_path, "job=measure_variance")
    folder = FolderStudyStore(tmp_path / "one")
    state = folder.read("variance/state", VarianceState)
    assert state is not None
    assert state.result is not None
    assert (state.architecture, len(state.result.keys)) == ({"architecture": "model000017"}, 3)


def test_a_table_without_a_second_seed_has_no_variance(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replay(table, tmp_path, "job=measure_variance")
    assert "seed noise is not measured" in capsys.readouterr().out
    assert not (tmp_path / "one" / "variance" / "state.json").exists()


def test_losses_are_shown_as_they_are_and_questioned_if_higher_is_better(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "curves.csv"
    rows = [
        f"a{model},{proxy},0,{step},{4 + model / 10 - step / 3},{step * (1 if proxy == 'full' else 0.2)}"
        for model in range(12)
        for proxy in ("full", "small")
        for step in (1, 2, 3)
    ]
    path.write_text("\n".join(["architecture,proxy,seed,step,loss,train_seconds", *rows]) + "\n")
    result = replay(path, tmp_path, "metric=loss")
    assert "metric.mode" not in capsys.readouterr().out
    assert result.study is not None
    scores = result.study.trials.score
    assert scores.min() > 0
    assert scores.max() < 6
    replay(path, tmp_path, "metric.name=loss", "study=upside_down")
    assert "curves of loss fall, and metric.mode=max prefers the opposite" in capsys.readouterr().out


def test_a_study_does_not_record_the_names_of_a_large_table(tmp_path: Path) -> None:
    path = write_table(tmp_path / "curves.csv", architectures=80)
    replay(path, tmp_path, "job=measure_variance")
    record = FolderStudyStore(tmp_path / "one").read(RECORD, StudyRecord)
    assert record is not None
    assert re.fullmatch("80 values, SHA-256 [0-9a-f]{16}", record.base["search_space.choices.architecture"])


def test_names_that_look_like_interpolations_are_kept(tmp_path: Path) -> None:
    names = ["${seed}", r"a\${b}", "$c", "10", "null", "[1]"]
    path = tmp_path / "curves.csv"
    rows = [f"{name},full,0,{step},{number + step},{step}" for number, name in enumerate(names) for step in (1, 2)]
    path.write_text("\n".join(["architecture,proxy,seed,step,score,train_seconds", *rows]) + "\n")
    small = ("references.initial=5", "proxy_search.min_models=5")
    result = replay(path, tmp_path, *small, "job=select_models")
    assert result.study is not None
    assert set(result.study.trials["architecture.architecture"]) <= set(names)
    assert len(result.study.trials) >= 5


def test_a_damaged_ledger_is_refused_with_what_to_do(table: Path, tmp_path: Path) -> None:
    replay(table, tmp_path, "job=select_models")
    ledger = tmp_path / "one" / "replayed.jsonl"
    whole = ledger.read_text()
    for damaged in (whole.replace("full", "half"), "[1]\n", whole.split("\n", 1)[1], '{"recipe": 5}\n'):
        ledger.write_text(damaged)
        with pytest.raises(NasproxyError, match=r"replayed\.jsonl cannot be read: .*a replay takes seconds") as refused:
            replay(table, tmp_path, "job=report")
        assert "\n" not in str(refused.value)
    ledger.write_text(whole[:-3])  # the last line is incomplete: its writer was killed
    result = replay(table, tmp_path, "job=report")
    assert result.study is not None
    assert len(result.study.trials) == 9


def test_the_script_in_the_docs_converts_logs_to_a_table(tmp_path: Path) -> None:
    script = re.search(r"```python\n(.*?)```", (cli.ROOT / "docs" / "replay.md").read_text(), re.DOTALL)
    assert script is not None
    random = np.random.default_rng(0)
    for model in range(30):
        for proxy, cost in (("full", 1.0), ("small", 0.25)):
            log = tmp_path / "logs" / f"model{model}" / proxy / "0.jsonl"
            log.parent.mkdir(parents=True)
            scores = (model * step / 300 + 0.05 * random.normal() for step in range(1, 9))
            checks = [{"step": i + 1, "accuracy": score, "seconds": cost * (i + 1)} for i, score in enumerate(scores)]
            log.write_text("".join(json.dumps(check) + "\n" for check in checks))
    subprocess.run([sys.executable, "-c", script[1]], cwd=tmp_path, check=True)
    result = replay(tmp_path / "curves.csv", tmp_path / "studies")
    assert result.verdict is not None
    assert result.verdict.headline.startswith("Accepted: small")


SCHEDULES = (2, 4, 6)


def write_scheduled(path: Path, keep: Callable[[list[str]], bool] = lambda row: True) -> Path:
    """Write a table whose proxy tasks are also trained on compressed schedules; only rows to keep, without the header.

    The checks of whole trainings are every second step, where schedules end.
    """
    noise = curves.Noise(early=0.3, late=0.02)
    kinds = {"fast": "steady", "early": "crossing"}
    rows = curves.generate_rows(
        architectures=60, checks=12, proxies=kinds, costs={"fast": 0.2}, noise=noise, schedules=SCHEDULES
    )
    curves.write_table(path, rows)
    header, *lines = path.read_text().splitlines()
    kept = [line for line in lines if int(line.split(",")[3]) % 2 == 0 and keep(line.split(","))]
    path.write_text("\n".join([header, *kept]) + "\n")
    return path


def read_confirmation(folder: Path, name: str = "one") -> ConfirmationState:
    states = read_confirmations(FolderStudyStore(folder / name))
    assert len(states) == 1
    return states[0]


def test_a_table_with_compressed_schedules_confirms_its_winner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_scheduled(tmp_path / "curves.csv")
    result = replay(path, tmp_path, "confirm.fresh_models=5")
    assert (
        "accepted at the end of a schedule that the table has (fast: 2, 4, 6; early: 2, 4, 6)"
        in capsys.readouterr().out
    )
    state = read_confirmation(tmp_path)
    assert (state.task, state.outcome) == ("fast", ConfirmationOutcome.STANDS)
    assert state.final_step in SCHEDULES
    assert state.fresh is not None
    assert (state.fresh.trainable, state.fresh.result is not None) == (5, True)
    assert result.verdict is not None
    assert "Confirmation runs do not contradict it" in result.verdict.text
    assert result.study is not None
    trials = result.study.trials
    own = trials[trials.stage == "confirmation"]
    table = read_table(path)
    for _, trial in own[own.proxy_task == "fast"].iterrows():
        curves_of_model = table.find_compressed(trial["architecture.architecture"], "fast", state.final_step)
        if trial.split == "search":
            assert trial.score == curves_of_model[0].scores[-1], "the score of the compressed training"
    ledger = (tmp_path / "one" / "replayed.jsonl").read_text()
    again = replay(path, tmp_path, "confirm.fresh_models=5")
    assert again.verdict == result.verdict
    assert (tmp_path / "one" / "replayed.jsonl").read_text() == ledger, "nothing is replayed further"


def test_a_misleading_start_of_the_schedule_is_contradicted(tmp_path: Path) -> None:
    def is_shuffled(row: list[str]) -> bool:
        return row[1] == "fast" and row[7] != "12"

    path = write_scheduled(tmp_path / "curves.csv")
    header, *lines = path.read_text().splitlines()
    changed = []
    for row in (line.split(",") for line in lines):
        upside_down = str(1 - float(row[4])) if is_shuffled(row) else row[4]
        changed.append(",".join([*row[:4], upside_down, *row[5:]]))
    path.write_text("\n".join([header, *changed]) + "\n")
    replay(path, tmp_path, "backend.proxies=[fast]")
    assert read_confirmation(tmp_path).outcome is ConfirmationOutcome.CONTRADICTED
    assert decided(tmp_path)["fast"]["stopping_state"] == "Contradicted by its confirmation"


def test_full_training_is_confirmed_on_compressed_schedules_too(tmp_path: Path) -> None:
    path = write_scheduled(tmp_path / "curves.csv", lambda row: row[1] == "full")
    replay(path, tmp_path)
    state = read_confirmation(tmp_path)
    assert (state.task, state.outcome) == ("full", ConfirmationOutcome.STANDS)


def test_models_without_a_confirmation_run_count_as_lost(tmp_path: Path) -> None:
    path = write_scheduled(tmp_path / "curves.csv")
    replay(path, tmp_path)
    state = read_confirmation(tmp_path)
    store = FolderStudyStore(tmp_path / "one")
    names = [reference.architecture["architecture"] for reference in read_references(store)]
    lost = write_scheduled(tmp_path / "lost.csv", lambda row: row[7] == "12" or row[0] not in names[:2])
    result = replay(lost, tmp_path, "study=lost")
    found = read_confirmation(tmp_path, "lost")
    assert (found.final_step, found.outcome) == (state.final_step, ConfirmationOutcome.STANDS)
    assert found.result is not None
    assert found.result.correlation is not None
    assert found.result.correlation.n == 8
    assert result.study is not None
    trials = result.study.trials
    failed = trials[trials.cause == "lost"]
    assert len(failed) == 2
    assert all(failed.message.str.contains("the table has no architecture .* under proxy 'fast' .* and schedule"))
    again = replay(lost, tmp_path, "study=lost", "job=report")
    assert again.study is not None
    assert len(again.study.trials) == len(trials), "lost runs are listed again"


def test_a_verdict_whose_schedule_the_table_lacks_is_not_confirmed_and_the_advice_works(tmp_path: Path) -> None:
    path = write_scheduled(tmp_path / "curves.csv")
    replay(path, tmp_path)
    step = read_confirmation(tmp_path).final_step
    others = ", ".join(str(schedule) for schedule in SCHEDULES if schedule != step)
    lacking = write_scheduled(tmp_path / "lacking.csv", lambda row: row[7] != str(step))
    result = replay(lacking, tmp_path, "study=lacking")
    assert read_confirmation(tmp_path, "lacking").outcome is ConfirmationOutcome.VOID
    assert result.verdict is not None
    assert result.verdict.headline.startswith("Accepted, not confirmed: fast, grade weak, stopped after")
    first = result.verdict.remarks[0]
    assert first.title == "Not confirmed."
    assert f"trainings on a schedule of {step} steps for 0 of 10 models, and 7 are needed" in first.text
    assert f"its compressed schedules of this proxy task end after {others} steps" in first.text
    assert f"add such trainings to the table, with {step} in the column schedule, or leave out the checks" in first.text
    kept = {*others.split(", "), "12"}
    fewer = write_scheduled(
        tmp_path / "fewer.csv", lambda row: row[7] != str(step) and (row[1] == "full" or row[3] in kept)
    )
    replay(fewer, tmp_path, "study=fewer", "backend.proxies=[fast]")
    assert read_confirmation(tmp_path, "fewer").outcome is ConfirmationOutcome.STANDS


def test_only_judged_proxies_decide_whether_there_is_a_confirmation(tmp_path: Path) -> None:
    path = write_scheduled(tmp_path / "curves.csv", lambda row: row[7] == "12" or row[1] == "early")
    replay(path, tmp_path, "backend.proxies=[fast]")
    assert not read_confirmations(FolderStudyStore(tmp_path / "one"))
    replay(path, tmp_path, "study=asked", "backend.proxies=[fast]", "confirm.enabled=true")
    state = read_confirmation(tmp_path, "asked")
    assert state.void is not None
    assert "it has no compressed schedules of this proxy task" in state.void.description


def test_constant_reference_scores_stop_the_study_before_the_proxy_search_and_the_advice_works(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    rows = [
        f"a{model},{proxy},0,{step},0.1,{model / 10 + step},{step}"
        for model in range(20)
        for proxy in ("full", "small")
        for step in (1, 2, 3, 4)
    ]
    path.write_text("\n".join(["architecture,proxy,seed,step,score,quality,train_seconds", *rows]) + "\n")
    message = r"need scores that differ, got accuracy 0\.1 for all 10: they cannot be ranked.*or set metric\.name to a"
    for _ in range(2):
        with pytest.raises(NasproxyError, match=message):
            replay(path, tmp_path)
    assert not decided(tmp_path)
    assert replay(path, tmp_path, "study=other", "metric.name=quality").verdict is not None


def test_a_proxy_more_expensive_than_full_training_is_never_a_saving(tmp_path: Path) -> None:
    noise = curves.Noise(early=0.5, late=0.02)
    rows = curves.generate_rows(
        architectures=40, checks=12, proxies={"slow": "steady"}, costs={"slow": 12.0}, noise=noise
    )
    curves.write_table(tmp_path / "curves.csv", rows)
    result = replay(tmp_path / "curves.csv", tmp_path)
    assert result.verdict is not None
    assert result.verdict.headline == "No proxy task was accepted"
    assert "No cheaper than full training, so of no use: slow" in result.verdict.text
    page = (tmp_path / "one" / "report" / "index.html").read_text()
    assert "of no use" in page
    assert not re.search(r"0\.\d\N{MULTIPLICATION SIGN}", page)


def test_times_that_hardly_rise_are_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "curves.csv"
    rows = [
        f"a{model},{proxy},0,{step},{model * step},{5 + step / 100}"
        for model in range(12)
        for proxy in ("full", "small")
        for step in (1, 2, 3, 4)
    ]
    path.write_text("\n".join(["architecture,proxy,seed,step,score,train_seconds", *rows]) + "\n")
    replay(path, tmp_path)
    assert "train_seconds of proxy 'small' hardly rise from check to check" in capsys.readouterr().out


def test_the_example_in_the_docs_is_a_table_with_a_compressed_schedule(tmp_path: Path) -> None:
    example = re.search(r"```csv\n(.*?)```", (cli.ROOT / "docs" / "replay.md").read_text(), re.DOTALL)
    assert example is not None
    (tmp_path / "curves.csv").write_text(example[1])
    table = read_table(tmp_path / "curves.csv")
    assert table.check_steps == {"full": (20, 40), "small": (10, 20, 40)}
    assert table.schedules == {"small": (20,)}
    assert [curve.scores.tolist() for curve in table.find_compressed("resnet_a", "small", 20)] == [[0.6]]
