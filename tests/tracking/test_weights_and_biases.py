import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from nasproxy.errors import ConfigError, CorruptFileError, MissingExtraError
from nasproxy.statistics.acceptance import Grade
from nasproxy.targets import build_target
from nasproxy.tracking import weights_and_biases
from nasproxy.tracking.events import AcceptedTask, Event, JobEnded, Noted, ReportWritten, StageEnded, TrialEnded
from nasproxy.tracking.sent_records import SentRecords
from nasproxy.tracking.weights_and_biases import WandbTracker, make_run_id
from nasproxy.trials.records import Cause, RetryLink, State
from nasproxy.trials.spec import TrialSpec

pytest.importorskip("wandb")

Make = Callable[..., TrialSpec]
End = Callable[..., TrialEnded]
Report = Callable[..., ReportWritten]
DEAD_SERVER = "http://127.0.0.1:9"
KEY = "0" * 40


@dataclass
class Run:
    """Content of one file of an offline run."""

    id: str = ""
    name: str = ""
    group: str = ""
    project: str = ""
    job_type: str = ""
    started: float = 0.0
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    folder: Path = Path()

    def curve(self) -> list[tuple[int, float, float]]:
        assert all(point["_step"] == point["step"] for point in self.history)
        return [(point["step"], point["accuracy"], point["train_seconds"]) for point in self.history]

    def lines(self) -> list[str]:
        return [point["decision"] for point in self.history if "decision" in point]


def records(content: bytes) -> Iterator[Any]:
    """Yield the records of a log of 32 KiB blocks, whose chunks have a header of checksum, length and kind."""
    from wandb.proto import wandb_internal_pb2

    position, record = 7, b""
    while position + 7 <= len(content):
        left = 32768 - position % 32768
        _, length, kind = struct.unpack("<IHB", content[position : position + 7]) if left >= 7 else (0, 0, 0)
        if kind == 0:
            position += left
            continue
        record += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            message = wandb_internal_pb2.Record()
            message.ParseFromString(record)
            yield message
            record = b""


def values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def read_run(path: Path) -> Run:
    run = Run(folder=path.parent)
    for record in records(path.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            head = record.run
            run.id, run.name, run.group = head.run_id, head.display_name, head.run_group
            run.project, run.job_type = head.project, head.job_type
            run.config = values(head.config.update)
            run.started = head.start_time.seconds + head.start_time.nanos / 1e9
        elif kind == "history":
            run.history.append(values(record.history.item))
        elif kind == "summary":
            run.summary.update(values(record.summary.update))
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def read_runs(study: Path, job_type: str, *, killed: int = 0) -> list[Run]:
    """Read the runs of one job type, a file each, in order of time; all but `killed` of them have ended."""
    for _ in range(500):  # wandb's own process writes the end of a file a moment after `finish` returns
        runs = [read_run(path) for path in (study / "tracking" / "wandb").glob("offline-run-*/*.wandb")]
        if sum(run.exit_code is None for run in runs) <= killed:
            return sorted((run for run in runs if run.job_type == job_type), key=lambda run: run.started)
        time.sleep(0.01)
    raise AssertionError(f"a run did not end: {runs}")


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / "netrc"))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "tau.png"
    Image.new("RGB", (4, 3)).save(path)
    return path


def offline(study: Path) -> WandbTracker:
    return WandbTracker(study=study, project="digits", mode="offline")


def run_id(study: Path, what: str) -> str:
    return make_run_id(SentRecords(study / "tracking" / "wandb.jsonl").study_id(), what)


def test_a_finished_trial_is_a_run_with_its_config_and_curve(study: Path, make_spec: Make, end_trial: End) -> None:
    spec = make_spec(seed=3, data_fraction=0.5, overrides={"trainer.batch_size": 32})
    tracker = offline(study)
    tracker.receive(end_trial(spec, [20, 40, 60], State.DONE))
    tracker.close()
    (run,) = read_runs(study, "trial")
    assert run.curve() == [(20, 0.2, 10.0), (40, 0.4, 20.0), (60, 0.6, 30.0)]
    assert (run.id, run.group, run.project) == (run_id(study, spec.key), "digits", "digits")
    assert run.name == f"data50_batch_size-32 search seed 3 {spec.key[:6]}"
    assert run.config["architecture"] == {"width": 8, "kind": "a,b"}
    assert run.config["proxy_task"]["data_fraction"] == 0.5
    assert (run.config["split"], run.config["seed"], run.config["key"]) == ("search", 3, spec.key)
    assert run.config["recipe"]["trainer"]["batch_size"] == 32
    assert (run.summary["state"], run.summary["accuracy"], run.exit_code) == ("done", 0.6, 0)


def test_a_paused_trial_is_logged_when_the_controller_ends(study: Path, make_spec: Make, end_trial: End) -> None:
    spec = make_spec()
    tracker = offline(study)
    tracker.receive(end_trial(spec, [20]))
    tracker.receive(end_trial(make_spec(seed=1), [60], State.DONE))
    tracker.receive(end_trial(spec, [20, 40]))
    tracker.close()
    done, paused = read_runs(study, "trial")
    assert (done.summary["state"], paused.summary["state"]) == ("done", "paused")
    assert [step for step, _, _ in paused.curve()] == [20, 40]


@pytest.mark.parametrize("end", [StageEnded("proxy_search"), JobEnded("design")], ids=["stage", "job"])
def test_paused_trials_are_logged_one_at_a_time_when_their_stage_or_job_ends(
    study: Path, make_spec: Make, end_trial: End, end: Event
) -> None:
    tracker = offline(study)
    for seed in range(3):
        tracker.receive(end_trial(make_spec(seed=seed), [20]))
    assert not tracker.send_next(), "a paused trial may continue within the stage"
    tracker.receive(end)
    for number in range(3):
        assert len(read_runs(study, "trial")) == number
        assert tracker.send_next()
    assert not tracker.send_next()
    tracker.receive(end_trial(make_spec(), [20, 40]))
    assert not tracker.send_next(), "the next stage has not ended"
    tracker.close()
    assert [run.curve()[-1][0] for run in read_runs(study, "trial")] == [20, 20, 20, 40]


def test_a_picture_is_read_without_following_a_link(
    study: Path, write_report: Report, picture: Path, tmp_path: Path
) -> None:
    link, gone = tmp_path / "link.png", tmp_path / "gone.png"
    link.symlink_to(picture)
    with pytest.raises(CorruptFileError, match=r"link\.png cannot be read: it is a symbolic link"):
        offline(study).receive(write_report({}, [link]))
    tracker = offline(study)
    tracker.receive(write_report({}, [picture, gone]))
    tracker.close()
    (run,) = read_runs(study, "controller")
    (shown,) = (point for point in run.history if "pictures/tau/_type" in point)
    assert "pictures/gone/_type" not in shown, "a later report has removed it"


def test_a_resumed_study_continues_its_runs_and_logs_nothing_twice(
    study: Path, make_spec: Make, end_trial: End, write_report: Report, picture: Path
) -> None:
    paused, done = make_spec(), make_spec(seed=1)
    tables = {"proxy_tasks": [{"name": "full", "tau": 0.7}]}
    tracker = offline(study)
    tracker.receive(Noted("first"))
    tracker.receive(end_trial(paused, [20]))
    tracker.receive(end_trial(done, [20, 60], State.DONE))
    tracker.receive(write_report(tables, [picture]))
    tracker.close()
    for _ in range(2):
        tracker = offline(study)
        tracker.receive(end_trial(done, [20, 60], State.DONE))
        tracker.receive(end_trial(paused, [20, 40]))
        tracker.receive(end_trial(paused, [20, 40, 60], State.DONE))
        tracker.receive(write_report(tables, [picture]))
        tracker.close()
    tracker = offline(study)
    tracker.receive(Noted("second"))
    tracker.close()

    runs = read_runs(study, "trial")
    parts = {key: [run.curve() for run in runs if run.id == run_id(study, key)] for key in (paused.key, done.key)}
    assert [[point[0] for point in part] for part in parts[paused.key]] == [[20], [40, 60]]
    assert [[point[0] for point in part] for part in parts[done.key]] == [[20, 60]]
    controllers = read_runs(study, "controller")
    said = ["data50 is accepted", f"report: {write_report(tables).path}"]
    assert {run.id for run in controllers} == {run_id(study, "controller")}
    assert [line for run in controllers for line in run.lines()] == ["first", *said, *said, *said, "second"]
    steps = [point["_step"] for run in controllers for point in run.history]
    assert steps == list(range(9))
    assert sum("tables/proxy_tasks/_type" in point for run in controllers for point in run.history) == 1


def test_the_controllers_summary_has_the_tau_of_the_confirmation_runs_its_bound_and_the_grade(
    study: Path, write_report: Report
) -> None:
    accepted = AcceptedTask("data50", Grade.MODERATE, tau=0.8, bound=0.5, raced_tau=0.9, is_confirmed=True)
    tracker = offline(study)
    tracker.receive(replace(write_report({}), accepted=accepted))
    tracker.close()
    (run,) = read_runs(study, "controller")
    assert {name: run.summary[name] for name in ("task", "grade", "tau", "bound", "raced_tau", "is_confirmed")} == {
        **asdict(accepted),
        "grade": "moderate",
    }


def test_tables_and_figures_are_logged_to_the_controllers_run(
    study: Path, write_report: Report, picture: Path, tmp_path: Path
) -> None:
    rows = [{"name": "full", "tau": None, "w": {"x": 1}}, {"name": "half", "tau": 0.5, "note": "kept"}]
    vector = tmp_path / "ranks.svg"
    vector.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    tracker = offline(study)
    tracker.receive(Noted("data50 is judged"))
    tracker.receive(write_report({"proxy_tasks": rows, "mixed": [{"a": 1}, {"a": "b"}]}, [picture, vector]))
    tracker.close()
    (run,) = read_runs(study, "controller")
    assert (run.group, run.name) == ("digits", "digits")
    assert run.lines() == ["data50 is judged", "data50 is accepted", f"report: {tmp_path / 'index.html'}"]
    (shown,) = (point for point in run.history if "tables/proxy_tasks/_type" in point)
    assert shown["tables/proxy_tasks/_type"] == "table-file"
    assert shown["pictures/ranks/_type"] == "html-file"
    table = json.loads((run.folder / "files" / shown["tables/proxy_tasks/path"]).read_text())
    assert table["columns"] == ["name", "tau", "w", "note"]
    assert table["data"] == [["full", None, '{"x":1}', None], ["half", 0.5, None, "kept"]]
    image = run.folder / "files" / shown["pictures/tau/path"]
    assert image.read_bytes() == picture.read_bytes()


def test_all_files_are_written_to_the_study(
    study: Path, make_spec: Make, end_trial: End, write_report: Report, tmp_path: Path
) -> None:
    tracker = offline(study)
    tracker.receive(end_trial(make_spec(), [20], State.DONE))
    tracker.receive(write_report({"t": [{"a": 1}]}))
    tracker.close()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert not (tmp_path / "home" / ".local").exists()
    assert {path.name for path in study.iterdir()} == {"tracking"}


def test_a_failed_trial_is_a_failed_run(study: Path, make_spec: Make, end_trial: End) -> None:
    for _ in range(2):
        tracker = offline(study)
        tracker.receive(end_trial(make_spec(), [], State.FAILED, Cause.OOM))
        tracker.close()
    (run,) = read_runs(study, "trial")
    assert (run.summary["state"], run.summary["cause"], run.exit_code) == ("failed", "oom", 1)


def test_a_failed_trial_is_linked_to_its_retry(study: Path, make_spec: Make, end_trial: End) -> None:
    by = RetryLink("other", Cause.OOM, "a micro-batch of 8 instead of 16")
    tracker = offline(study)
    tracker.receive(end_trial(make_spec(), [], State.FAILED, Cause.OOM, (by,)))
    tracker.close()
    (run,) = read_runs(study, "trial")
    assert (run.summary["replaced_by"], run.summary["change"]) == (by.key, by.change)


def test_one_job_of_a_sweep_holds_the_controllers_run_and_logs_the_messages_of_all(study: Path) -> None:
    one, two = offline(study), offline(study)
    one.receive(Noted("from one"))
    two.receive(Noted("from two"))
    two.close()
    one.close()
    (run,) = read_runs(study, "controller")
    assert run.lines() == ["from one", "from two"]


KILLED = """
import os, signal, sys
from pathlib import Path
from nasproxy.tracking.events import Event, JobEnded, Noted, ReportWritten, StageEnded, TrialEnded
from nasproxy.tracking.weights_and_biases import WandbTracker
tracker = WandbTracker(study=Path(sys.argv[1]), mode="offline")
tracker.receive(Noted("before the kill"))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_message_before_a_kill_is_logged_at_its_step(study: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(study)], check=False)
    assert killed.returncode == -signal.SIGKILL
    tracker = offline(study)
    tracker.receive(Noted("after"))
    tracker.close()
    last = read_runs(study, "controller", killed=1)[-1]
    assert last.lines() == ["before the kill", "after"]
    assert [point["_step"] for point in last.history] == [0, 1]


def test_without_events_no_run_is_opened(study: Path) -> None:
    offline(study).close()
    assert not (study / "tracking" / "wandb").exists()


def test_a_study_that_is_deleted_and_begun_again_under_its_name_has_new_runs(
    study: Path, make_spec: Make, end_trial: End, tmp_path: Path
) -> None:
    ids: list[set[str]] = []
    for number in range(2):
        tracker = offline(study)
        tracker.receive(end_trial(make_spec(), [20], State.DONE))
        tracker.receive(Noted("a line"))
        tracker.close()
        ids.append({run.id for kind in ("trial", "controller") for run in read_runs(study, kind)})
        study.rename(tmp_path / f"deleted{number}")
        study.mkdir()
    assert [len(each) for each in ids] == [2, 2]
    assert not ids[0] & ids[1]


def test_with_wandb_disabled_nothing_is_written(
    study: Path, make_spec: Make, end_trial: End, write_report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    tracker = WandbTracker(study=study)
    tracker.receive(end_trial(make_spec(), [20], State.DONE))
    tracker.receive(Noted("a line"))
    tracker.receive(write_report({"t": [{"a": 1}]}))
    tracker.close()
    assert list(study.iterdir()) == []


def test_without_an_api_key_auto_is_offline(study: Path, make_spec: Make, end_trial: End) -> None:
    tracker = WandbTracker(study=study)
    tracker.receive(end_trial(make_spec(), [20], State.DONE))
    tracker.close()
    assert len(read_runs(study, "trial")) == 1


@pytest.mark.parametrize("host", ["api.wandb.ai", "127.0.0.1:9"])
def test_with_an_api_key_auto_is_online_for_its_own_server_only(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    private = SimpleNamespace(api_key=None, base_url=DEAD_SERVER)
    (tmp_path / "home" / "netrc").write_text(f"machine {host}\n login user\n password {KEY}\n")
    assert weights_and_biases._mode("auto", private) == ("online" if host == "127.0.0.1:9" else "offline")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert weights_and_biases._mode("auto", private) == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert weights_and_biases._mode("auto", private) == "offline"


def test_online_without_an_api_key_is_refused(study: Path) -> None:
    with pytest.raises(ConfigError, match=r"online needs an API key.*wandb login.*offline"):
        WandbTracker(study=study, mode="online")


@pytest.fixture
def dead_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import wandb

    for name, value in (("init_timeout", 0.5), ("base_url", DEAD_SERVER), ("api_key", KEY)):
        monkeypatch.setitem(weights_and_biases.QUIET, name, value)
    with monkeypatch.context() as patch:
        patch.setenv("WANDB_API_KEY", KEY)
        yield
    wandb.teardown()


@pytest.mark.usefixtures("dead_network")
@pytest.mark.parametrize("is_said_first", [True, False])
def test_a_dead_network_neither_ends_the_study_nor_loses_data(
    is_said_first: bool, study: Path, make_spec: Make, end_trial: End
) -> None:
    def work() -> None:
        tracker = WandbTracker(study=study, mode="online")
        if is_said_first:
            tracker.receive(Noted("a line"))
        tracker.receive(end_trial(make_spec(), [20], State.DONE))
        tracker.receive(Noted("another line"))
        tracker.close()

    with pytest.warns(UserWarning, match=r"cannot be reached \(.*\): .*upload them with `wandb sync`"):
        work()
    assert [run.curve() for run in read_runs(study, "trial")] == [[(20, 0.2, 10.0)]]
    (controller,) = read_runs(study, "controller")
    assert controller.lines() == ["a line", "another line"][not is_said_first :]


def test_a_missing_package_is_an_error_that_names_it(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nasproxy\[wandb\]'"):
        WandbTracker(study=study)


def test_a_damaged_journal_is_an_error_with_advice(study: Path) -> None:
    (study / "tracking").mkdir()
    (study / "tracking" / "wandb.jsonl").write_text("{}\nno json\n")
    with pytest.raises(CorruptFileError, match=r"needs a JSON object in every line, got .*: restore the file"):
        offline(study).receive(Noted("a line"))


@pytest.mark.parametrize("choice", ["none", "csv", "wandb"])
def test_every_choice_builds(choice: str, study: Path) -> None:
    import yaml

    conf = Path(__file__).parents[2] / "conf" / "tracking" / f"{choice}.yaml"
    node = yaml.safe_load(conf.read_text())
    tracker = build_target("tracking", node, study=study)
    tracker.receive(Noted("a line"))
    tracker.close()
    assert f"{type(tracker).__module__}.{type(tracker).__name__}" == node["_target_"]


def test_a_wrong_mode_is_refused(study: Path) -> None:
    node = {"_target_": "nasproxy.tracking.weights_and_biases.WandbTracker", "mode": "on-line"}
    with pytest.raises(ConfigError, match=r"tracking.mode must be .*got 'on-line'"):
        build_target("tracking", node, study=study)
