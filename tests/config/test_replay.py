"""Replays from the command line and from Python, as described in docs/replay.md."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nasproxy
from helpers import cli
from nasproxy.errors import NasproxyError
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
