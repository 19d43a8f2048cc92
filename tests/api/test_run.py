"""Jobs from Python: from a test's own process, a script without a guard, a notebook and a thread."""

import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

import nasproxy
from helpers import cli
from nasproxy.testing import curves

GUIDE = (cli.ROOT / "docs" / "python_api.md").read_text()
DEBUG = ["experiment=debug", "proxy=width50", "references.initial=8", "references.max=0", "cost.estimate_first=false"]


@pytest.fixture(autouse=True)
def own_search_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give each test its own working directory, and undo changes of a run to `sys.path`."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return overrides of a study that is replayed within a second."""
    path = tmp_path_factory.mktemp("replay") / "curves.csv"
    rows = curves.generate_rows(architectures=60, checks=12, proxies={"fast": "steady"}, costs={"fast": 0.2})
    curves.write_table(path, rows)
    return ["experiment=replay", f"backend.table={path}", "references.max=0", "criterion=first_crossing", "study=one"]


def test_a_job_returns_the_study_with_its_verdict_and_report(replay: list[str], tmp_path: Path) -> None:
    result = nasproxy.run(replay)
    assert result.verdict is not None
    assert result.study is not None
    assert result.verdict.headline.startswith("Accepted: fast")
    assert result.report == tmp_path / "studies" / "one" / "report" / "index.html"
    assert result.report.exists()
    assert result.overrides == [], "a search cannot use a proxy of a table"
    assert set(result.study.trials.stage) == {"references", "proxy search"}
    assert len(result.study.checks) == result.study.trials.step.sum()


def test_a_replayed_study_loads_its_decisions_and_warns_how_to_get_its_trials(
    replay: list[str],
) -> None:
    whole = nasproxy.run(replay).study
    assert whole is not None
    with pytest.warns(UserWarning, match=r"study one was replayed .* nasproxy.run\(\[.*job=report") as said:
        study = nasproxy.load_study("studies/one")
    assert said[0].filename == __file__
    assert len(study.trials) == len(study.checks) == 0
    assert study.decisions.equals(whole.decisions)
    assert study.proxy_tasks.tau.tolist() == whole.proxy_tasks.tau.tolist()
    advised = nasproxy.run([*replay, "job=report"]).study
    assert advised is not None
    assert advised.trials.equals(whole.trials)


def test_jobs_that_only_read_return_the_study_too(full_study: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder = full_study.folder.path
    where = [f"studies_dir={folder.parent}", f"study={folder.name}"]
    result = nasproxy.run(["job=list_trials", *where])
    assert result.study is not None
    assert (result.report, result.estimate) == (None, None)
    shown = capsys.readouterr().out
    assert all(key in shown for key in result.study.trials.key)
    assert nasproxy.run(["job=report", *where]).report == folder / "report" / "index.html"


def test_the_returned_overrides_of_a_verdict_compose_unchanged(full_study: Any) -> None:
    folder = full_study.folder.path
    found = nasproxy.run(["job=list_trials", f"studies_dir={folder.parent}", f"study={folder.name}"])
    assert found.overrides[0] == "proxy=full"
    nasproxy.run([*found.overrides, "experiment=debug", "job=describe_space"])


def test_a_description_of_the_space_creates_no_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = nasproxy.run(["experiment=debug", "job=describe_space"])
    assert (result.study, result.verdict, result.overrides) == (None, None, [])
    assert "different architectures" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.gate
def test_a_study_without_the_variance_measurement_has_its_preflight_and_no_cost_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    off = ["experiment=debug", "variance.enabled=false"]
    nasproxy.run([*off, "job=measure_variance"])
    said = capsys.readouterr().out
    assert "seed noise is not measured (variance.enabled=false)" in said
    assert "warming up" in said
    assert not (tmp_path / "studies" / "debug" / "variance" / "state.json").exists()
    estimate = nasproxy.run([*off, "dry_run=true"]).estimate
    assert estimate is not None
    assert {"references", "proxy search"} <= set(estimate.stages)
    assert "variance" not in estimate.stages


def test_a_job_can_run_in_a_thread(replay: list[str]) -> None:
    results: list[nasproxy.Result] = []
    thread = threading.Thread(target=lambda: results.append(nasproxy.run(replay)))
    thread.start()
    thread.join(timeout=120)
    assert [result.overrides for result in results] == [[]]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainr=1"], r"the configuration has no trainr: did you mean trainer\?"),
        (["proxy=nosuch"], "proxy has no choice 'nosuch': choose among"),
        (["training.total_steps=many"], "training.total_steps must be a whole number, got 'many'"),
        (["proxy=data25,data50"], "proxy must be one value, got data25,data50"),
        (["-m", "proxy=data25,data50"], r"got '-m', a flag of the command: .* only the command runs a sweep"),
        (["proxy.data_fraction=50"], r"must lie in \(0, 1\], got 50: give a fraction"),
        (["data=image_folder"], "data.loader.root must be given"),
        (["job=report", "study=nosuch"], "study nosuch must exist to be looked at"),
        (["backend.slots=0"], "backend.slots must be at least 1"),
        ("proxy=data50", r'overrides must be a list of strings, got \'proxy=data50\': .*"proxy=data50", "seed=1"'),
        ([50], r"overrides must be a list of strings, got \[50\]"),
    ],
)
def test_an_invalid_override_raises_a_one_line_error(overrides: list[str], message: str) -> None:
    with pytest.raises(nasproxy.NasproxyError, match=message) as raised:
        nasproxy.run(overrides if overrides[0] != "backend.slots=0" else [*DEBUG, *overrides])
    assert "\n" not in str(raised.value)
    assert str(raised.value)


def start_script(text: str) -> "subprocess.Popen[str]":
    path = Path("script.py")
    path.write_text(textwrap.dedent(text))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # as in helpers.cli
    try:
        return subprocess.Popen(
            [sys.executable, path], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=cli.environment()
        )
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.gate
def test_a_script_needs_no_main_guard_and_its_workers_find_its_modules(tmp_path: Path) -> None:
    (tmp_path / "mine" / "conf" / "trainer").mkdir(parents=True)
    (tmp_path / "mine" / "my_trainer.py").write_text("from nasproxy.testing.synthetic import train\n")
    configured = "_target_: my_trainer.train\nversion: 1\nnoise: 0.01\n"
    (tmp_path / "mine" / "conf" / "trainer" / "mine.yaml").write_text(configured)
    process = start_script(
        f"""
        import nasproxy
        open("runs.txt", "a").write("a run\\n")
        result = nasproxy.run({[*DEBUG, "trainer=mine"]}, config_dir="mine/conf")
        print("trials", set(result.study.trials.state), result.overrides)
        """
    )
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert (tmp_path / "runs.txt").read_text() == "a run\n", "no worker runs the script again"
    assert "'proxy=full', 'proxy.width=0.5', 'training.total_steps=" in output
    assert list(tmp_path.glob("studies/debug/trials/*/metrics.jsonl"))


@pytest.mark.gate
def test_an_interrupt_stops_the_trials_and_reaches_the_script(tmp_path: Path) -> None:
    process = start_script(
        f"""
        import nasproxy
        try:
            nasproxy.run({[*DEBUG, "training.total_steps=100000", "training.check_every_steps=10"]})
        except KeyboardInterrupt:
            print("interrupted")
        states = nasproxy.load_study("studies/debug").trials.state
        print("then", sorted(set(states)))
        """
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("studies/debug/trials/*/metrics.jsonl")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "interrupted" in output
    assert "running" not in output[output.index("then") :]


@pytest.mark.gate
def test_the_guide_runs_unchanged_in_a_notebook(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)
    assert len(blocks) > 4
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(block) for block in blocks])
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
    shown = [output.get("text", "") for cell in notebook.cells for output in cell.outputs]
    assert any("Accepted: width50" in text for text in shown)
    assert any("got 50: give a fraction" in text for text in shown)
    curves_by_quality = re.compile(r"^architecture.quality( +\S+)+\s*\nstep[ \n]*\n?\d+( +\S+)+", flags=re.MULTILINE)
    assert any(curves_by_quality.search(text) for text in shown), "the guide selects trials that the study has"
    assert not any("Empty DataFrame" in text for text in shown)
    assert any("'Reference models'" in text and "'proxy_tasks'" in text for text in shown), "report.json is read"
    assert (tmp_path / "studies" / "debug" / "report" / "index.html").exists()
