"""The command trainer with real programs of a few lines, processes and files."""

import json
import os
import re
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import joblib
import pytest

from helpers.cli import ROOT, conf
from nasproxy.errors import ConfigError, NonFiniteScoreError
from nasproxy.execution.backends.backend import BackendContext
from nasproxy.execution.backends.local import LocalBackend
from nasproxy.execution.work_order import OrderTemplate
from nasproxy.execution.worker.context import TrialContext, get_trainer_arguments
from nasproxy.execution.worker.preflight import preflight
from nasproxy.storage.json_records import write_record
from nasproxy.storage.trial_files import read_checks
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.storage.trial_stores import FolderTrialStore
from nasproxy.testing.backend_driver import BackendDriver
from nasproxy.trainers import command, placeholders
from nasproxy.trainers.program_reports import ProgramError, ProgramExitError
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Cause, Request, State
from nasproxy.trials.spec import Recipe, Split, TrialSpec

ARCHITECTURE = {"kernel": 3, "blocks.0.kind": "conv", "blocks.0.bias": True}

COUNTER = """
import json, os, signal, sys, time
trial = json.loads(os.environ["NASPROXY_TRIAL"])
position = trial["checkpoint_dir"] + "/step"
step = int(open(position).read()) if os.path.exists(position) else 0
over = []
signal.signal(signal.SIGTERM, lambda *_: over.append(1))
print("begins at", step)
for end in (check for check in trial["check_steps"] if check > step):
    print(json.dumps({"step": end, "accuracy": end / 100, "train_seconds": (end - step) * 2.0}))
    open(position + ".new", "w").write(str(end))
    os.replace(position + ".new", position)
    time.sleep(0.2)
    if over:
        sys.exit()
"""
"""Program that counts steps and reports on stdout; reported seconds are two per step."""


def spec(**changes: Any) -> TrialSpec:
    recipe = Recipe(
        model={},
        trainer={"_target_": "nasproxy.trainers.command.train", "version": 1, "command": ["true"]},
        data={"loader": None},
        data_fingerprint="own",
        total_steps=25,
        check_every_steps=10,
    )
    task = ProxyTask(data_fraction=0.5, width=0.25)
    return TrialSpec(ARCHITECTURE, task, Split.SEARCH, 7, replace(recipe, **changes))


def trial(folder: Path, **changes: Any) -> TrialContext:
    folder.mkdir(exist_ok=True)
    return TrialContext(folder, spec(**changes))


def python(code: str) -> list[str]:
    return ["{python}", "-c", code.replace("{", "{{").replace("}", "}}")]


def shell(code: str) -> list[str]:
    return ["sh", "-c", code.replace("{", "{{").replace("}", "}}")]


def run(trial: TrialContext, code: str | list[str], until: int | None = None, **arguments: Any) -> list[Any]:
    write_record(TrialFolder(trial.model_dir).request, Request(until_step=until))
    command.train(trial, command=python(code) if isinstance(code, str) else code, **arguments)
    return curve(trial)


def curve(trial: TrialContext) -> list[Any]:
    checks = read_checks(TrialFolder(trial.model_dir).metrics)
    return [(check.step, check.score, check.train_seconds) for check in checks]


WHOLE = [(10, 0.1, 20.0), (20, 0.2, 40.0), (25, 0.25, 50.0)]


def test_lines_of_json_are_checks_and_others_go_to_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(trial(tmp_path), COUNTER) == WHOLE
    assert capfd.readouterr().out == "begins at 0\n"


def test_a_line_of_output_is_a_heartbeat(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="without a check"):
        run(trial(tmp_path), "print('epoch 1 of 90')")
    assert TrialFolder(tmp_path).heartbeat.exists()


def test_a_stopped_program_resumes_from_its_checkpoint_folder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    parts = trial(tmp_path)
    assert run(parts, COUNTER, until=5) == WHOLE[:1]
    assert run(parts, COUNTER, until=20) == WHOLE[:2]
    assert run(parts, COUNTER) == WHOLE
    assert capfd.readouterr().out.splitlines() == ["begins at 0", "begins at 10", "begins at 20"]


def test_repeated_reports_have_no_effect(tmp_path: Path) -> None:
    parts = trial(tmp_path)
    run(parts, COUNTER, until=20)
    (tmp_path / "checkpoints" / "step").write_text("0")
    assert run(parts, COUNTER) == WHOLE


def test_a_program_restarts_if_a_report_was_lost(tmp_path: Path) -> None:
    parts = trial(tmp_path)
    run(parts, COUNTER, until=10)
    (tmp_path / "checkpoints" / "step").write_text("20")  # state after a kill before the report of step 20 was read
    assert [step for step, _, _ in run(parts, COUNTER)] == [10, 20, 25]
    assert (tmp_path / "checkpoints.lost" / "step").read_text() in ("20", "25"), (
        "the program is stopped after its report was read"
    )


def test_a_program_restarts_if_its_last_report_was_lost(tmp_path: Path) -> None:
    parts = trial(tmp_path)
    run(parts, COUNTER, until=20)
    (tmp_path / "checkpoints" / "step").write_text("25")
    assert [step for step, _, _ in run(parts, COUNTER)] == [10, 20, 25]


INTO_FILE = COUNTER.replace("print(json", "print(file=open(trial['model_dir'] + '/log.jsonl', 'a'), *[json").replace(
    "* 2.0}))", "* 2.0})])"
)
"""The same program with reports in a file."""


def test_reports_can_be_read_from_a_file(tmp_path: Path) -> None:
    parts = trial(tmp_path)
    arguments = {"reports": "file", "report_file": "log.jsonl"}
    first = run(parts, INTO_FILE, until=5, **arguments)
    assert first == WHOLE[: len(first)]
    assert first
    assert run(parts, INTO_FILE, **arguments) == WHOLE


def test_a_program_that_closed_its_output_is_monitored_until_it_ends(tmp_path: Path) -> None:
    silent = "import os\nos.dup2(os.open(os.devnull, os.O_RDWR), 1); os.dup2(1, 2)\n" + INTO_FILE
    slow = silent.replace("sleep(0.2)", "sleep(1.5)")
    parts = trial(tmp_path)
    arguments = {"reports": "file", "report_file": "log.jsonl"}
    assert run(parts, slow, until=5, **arguments) == WHOLE[:1], "it is stopped like other programs"
    assert TrialFolder(tmp_path).heartbeat.exists(), "a report is a heartbeat"
    assert run(parts, silent, **arguments) == WHOLE


def test_unread_reports_of_a_file_are_recovered_and_an_incomplete_line_is_truncated(tmp_path: Path) -> None:
    parts = trial(tmp_path)
    lines = [{"step": 10, "accuracy": 0.5, "train_seconds": 1.0}, {"step": 20, "accuracy": 0.6, "train_seconds": 2.0}]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 2')
    code = """import os
print('{"step": 25, "accuracy": 0.7}', file=open(os.environ["NASPROXY_MODEL_DIR"] + "/log.jsonl", "a"))"""
    found = run(parts, code, reports="file", report_file="log.jsonl")
    assert found[:2] == [(10, 0.5, 1.0), (20, 0.6, 2.0)]
    assert found[2][:2] == (25, 0.7)


def test_a_python_program_can_call_the_hooks(tmp_path: Path) -> None:
    code = """
import os
from nasproxy.integrations.vertex import hooks
folder, begin = os.environ["NASPROXY_MODEL_DIR"], 0
while not hooks.get_stop_training(folder, begin - 1, 25):
    end = min(begin + 10, 25)
    hooks.update_trial_training_accuracy_metric(folder, end / 100, begin, end - 1, 2.0 * (end - begin), 25)
    begin = end
"""
    parts = trial(tmp_path)
    assert run(parts, code, until=15, reports="hooks") == WHOLE[:2]
    assert run(parts, code, reports="hooks") == WHOLE


def test_a_program_that_ignores_the_hooks_is_stopped(tmp_path: Path) -> None:
    code = """
import os, time
from nasproxy.integrations.vertex import hooks
hooks.update_trial_training_accuracy_metric(os.environ["NASPROXY_MODEL_DIR"], 0.5, 0, 9, 1.0, 25)
time.sleep(600)
"""
    assert run(trial(tmp_path), code, until=10, reports="hooks", grace_seconds=0.5) == [(10, 0.5, 1.0)]


def test_a_program_that_ignores_sigterm_is_killed_with_its_children(tmp_path: Path) -> None:
    code = (
        f"trap '' TERM; sleep 600 & echo $! > {tmp_path}/pid; echo '{{\"step\": 10, \"accuracy\": 1}}'; wait; sleep 600"
    )
    began = time.monotonic()
    assert [step for step, _, _ in run(trial(tmp_path), shell(code), until=10, grace_seconds=0.3)] == [10]
    assert time.monotonic() - began < 60
    wait_until(lambda: not is_alive(int((tmp_path / "pid").read_text())))  # a kill takes effect asynchronously


def test_children_of_a_program_end_with_it(tmp_path: Path) -> None:
    reports = 'for s in 10 20 25; do echo "{\\"step\\": $s, \\"accuracy\\": 1}"; done'
    code = f"sleep 600 & echo $! > {tmp_path}/pid; {reports}"
    assert [step for step, _, _ in run(trial(tmp_path), shell(code))] == [10, 20, 25]
    wait_until(lambda: not is_alive(int((tmp_path / "pid").read_text())))  # a kill takes effect asynchronously


def test_without_train_seconds_the_time_between_reports_is_used(tmp_path: Path) -> None:
    code = """import time
for step in (10, 20, 25):
    time.sleep(0.1)
    print('{"step": %d, "accuracy": 1}' % step)"""
    seconds = [0.0] + [seconds for _, _, seconds in run(trial(tmp_path), code)]
    assert all(after - before >= 0.05 for before, after in pairwise(seconds))


def test_the_time_before_a_report_of_step_0_is_no_training(tmp_path: Path) -> None:
    code = """import time
time.sleep(1.0)
print('{"step": 0, "accuracy": 0}', flush=True)
print('{"step": 25, "accuracy": 1}')"""
    before, after = run(trial(tmp_path), code)
    assert before[2] == 0.0
    assert after[2] < 1.0


def test_a_report_can_contain_a_latency(tmp_path: Path) -> None:
    run(trial(tmp_path), shell('echo \'{"step": 10, "accuracy": 1, "latency_ms": 3.5}\''))
    assert json.loads((tmp_path / "latency.json").read_text())["latency_ms"] == 3.5


@pytest.mark.parametrize(
    ("lines", "error", "message"),
    [
        (['{"step": 10, "accuracy": NaN}'], NonFiniteScoreError, "got nan after step 10"),
        (['{"step": 10, "accuracy": null}'], NonFiniteScoreError, "got nan after step 10"),
        (['{"failure": "nan", "message": "loss is inf"}'], NonFiniteScoreError, "loss is inf"),
        (['{"failure": "oom"}'], MemoryError, "oom"),
        (['{"failure": "tired"}'], ProgramError, "failure: Input should be 'oom' or 'nan'"),
        (['{"step": "ten", "accuracy": 1}'], ProgramError, "step: Input should be a valid integer"),
        (['{"step": -1, "accuracy": 1}'], ProgramError, "must report increasing steps, got step -1 after step 0"),
        (['{"step": 32, "accuracy": 1}'], ProgramError, "must end after step 25, got a report of step 32"),
        (['{"step": 10, "accuracy": 1}', '{"step": 10, "accuracy": 1}'], ProgramError, "got step 10 after step 10"),
        (
            [f'{{"step": {step}, "accuracy": 1}}' for step in (10, 20, 25, 30)],
            ProgramError,
            "must end after step 25, got a report of step 30",
        ),
        (
            ['{"step": 10, "accuracy": 1, "train_seconds": 9}', '{"step": 20, "accuracy": 1, "train_seconds": 4}'],
            ProgramError,
            "train_seconds since its start, at least 9, got 4 after step 20",
        ),
        (["nothing to say"], ProgramError, "got an end without a check after step 0"),
    ],
)
def test_invalid_reports_are_refused_with_a_message(tmp_path: Path, lines: list[str], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        run(trial(tmp_path), shell("\n".join(f"echo '{line}'" for line in lines)))


def report_at(*steps: int) -> list[str]:
    """Make a command that reports at these steps, whatever was requested."""
    lines = (f'echo \'{{"step": {step}, "accuracy": {step}, "train_seconds": {step}}}\'' for step in steps)
    return shell("\n".join(lines))


def test_reports_at_other_steps_than_requested_are_recorded(tmp_path: Path) -> None:
    steps = (5, 16, 20, 25)
    assert run(trial(tmp_path), report_at(*steps)) == [(step, step, step) for step in steps]


def test_a_report_before_training_is_a_check_of_step_0(tmp_path: Path) -> None:
    parts = trial(tmp_path)
    assert run(parts, report_at(0, 10, 20)) == [(0, 0, 0), (10, 10, 10), (20, 20, 20)]
    assert run(parts, report_at(0, 10, 20, 25))[-1] == (25, 25, 25), "a repeated one changes nothing"


def test_a_report_without_the_metric_of_the_study_is_named(tmp_path: Path) -> None:
    code = """print('{"step": 10, "val_loss": 0.5, "train_seconds": 1, "note": "a"}')"""
    hint = (
        "lines with a step hold val_loss, and the study's metric is accuracy: choose one of them with metric.name=NAME"
    )
    with pytest.raises(ProgramError, match=hint):
        run(trial(tmp_path), code)
    assert hint in preflight_program(f"{code}; import time; time.sleep(60)", seconds=0.6)[0]


EPOCHS = COUNTER.replace(
    'for end in (check for check in trial["check_steps"] if check > step):',
    """
for end in range(step + 8, 25, 8):""",
)
"""The same program with a report after each epoch of 8 steps."""


def test_a_program_with_epochs_resumes_from_its_checkpoint_and_restarts_only_after_a_lost_report(
    tmp_path: Path,
) -> None:
    parts = trial(tmp_path, total_steps=24)
    assert [step for step, _, _ in run(parts, EPOCHS, until=10)] == [8, 16]
    assert [step for step, _, _ in run(parts, EPOCHS)] == [8, 16, 24]
    assert not (tmp_path / "checkpoints.lost").exists(), "the report of step 24 is expected after those of 8 and 16"

    lost = trial(tmp_path / "lost", total_steps=24)
    run(lost, EPOCHS, until=8)
    (lost.model_dir / "checkpoints" / "step").write_text("16")
    assert [step for step, _, _ in run(lost, EPOCHS)] == [8, 16, 24]
    assert (lost.model_dir / "checkpoints.lost").exists()


def test_the_error_of_a_failed_program_quotes_its_stderr(tmp_path: Path) -> None:
    with pytest.raises(ProgramExitError, match=r"sh ended with exit status 3 after step 10: no such layer: conv9$"):
        run(trial(tmp_path), shell("echo '{\"step\": 10, \"accuracy\": 1}'; echo 'no such layer: conv9' >&2; exit 3"))
    with pytest.raises(ProgramExitError, match="sh ended with signal SIGKILL after step 10"):
        run(trial(tmp_path), shell("kill -KILL $$"))


def test_arguments_and_environment_are_filled_from_the_trial(tmp_path: Path) -> None:
    one = trial(tmp_path, micro_batch=16, devices=2)
    run(
        one,
        [
            *shell(
                'printf "%s\\n" "$0" "$@" "$SEED" "$NASPROXY_MODEL_DIR" "$OMP_NUM_THREADS" > "$1"/told; '
                'for s in 10 20 25; do echo "{\\"step\\": $s, \\"accuracy\\": 1}"; done'
            ),
            "{architecture.blocks.0.kind}-{architecture.kernel}",
            "{model_dir}",
            "{width:.2f} {depth} {data_fraction} {split} {check_steps}",
            "{architecture.blocks.0.bias} {micro_batch} {devices} {rate} {{}}",
            "{architecture}",
        ],
        environment={"SEED": "{seed}"},
        values={"rate": 0.1},
    )
    assert (tmp_path / "told").read_text().splitlines() == [
        "conv-3",
        str(tmp_path),
        "0.25 1.0 0.5 search 10,20,25",
        "true 16 2 0.1 {}",
        json.dumps(ARCHITECTURE),
        "7",
        str(tmp_path),
        "1",
    ]


def test_a_placeholder_of_a_missing_choice_has_a_default() -> None:
    known = placeholders.list_values(TrialContext(Path(), spec()), {})
    assert (
        placeholders.fill_template("x", "{architecture.kernel?5} {architecture.stride?2}{architecture.pad?}", known)
        == "3 2"
    )
    with pytest.raises(ConfigError, match=r"must use known placeholders, got {colour}"):
        placeholders.fill_template("x", "{colour?red}", known)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"command": ["sh", "{colour}"]},
            r"trainer.command\[1\] must use known placeholders, got {colour}: choose from architecture, ",
        ),
        ({"command": ["sh", "{architecture.stride}"]}, r"must use known placeholders, got {architecture.stride}"),
        ({"command": ["sh", "{width"]}, "must be text with placeholders such as"),
        ({"command": ["sh", "{seed:s}"]}, "must be text with placeholders such as"),
        ({"command": ["sh", 3]}, r"trainer.command must be .*\[str\], got \['sh', 3\]"),
        ({"command": []}, "must be a list of the program and its arguments, got"),
        ({"command": ["no-such-program"]}, "must start with a program on PATH or in .*, got 'no-such-program'"),
        (
            {"command": ["sh"], "environment": {"A": "{colour}"}},
            "trainer.environment.A must use known placeholders, got {colour}",
        ),
        (
            {"command": ["sh"], "values": {"width": 2}},
            "trainer.values must not redefine placeholders of the trial, got 'width'",
        ),
        ({"command": ["sh"], "reports": "file"}, "report_file must be a file name if trainer.reports is file"),
        ({"command": ["sh"], "report_file": "log"}, "report_file must be a file name if trainer.reports is file"),
        ({"command": ["sh"], "reports": "mail"}, "trainer.reports must be"),
        ({"command": ["sh"], "grace_seconds": -1.0}, "grace_seconds must be at least 0, got -1"),
        ({"command": ["sh"], "working_dir": "/nowhere"}, "working_dir must be a folder, got /nowhere"),
    ],
)
def test_preflight_finds_an_invalid_argument(arguments: dict[str, Any], message: str) -> None:
    node = {"_target_": "nasproxy.trainers.command.train", "version": 1, **arguments}
    with pytest.raises(ConfigError, match=message):
        preflight([spec(trainer=node)])


def test_a_valid_command_passes_preflight() -> None:
    node = {**conf("trainer/command"), "command": ["{python}", "x.py", "--lr={rate}"], "values": {"rate": 0.1}}
    assert preflight([spec(trainer=node)]) == []


def test_every_documented_placeholder_exists() -> None:
    known = placeholders.list_values(TrialContext(Path(), spec()), {})
    text = (ROOT / "docs" / "your_own_trainer.md").read_text()
    table = text[text.index("| placeholder |") : text.index("The environment")]
    named = {word for word in table.replace("`", " ").split() if word.startswith("{")}
    assert len(named) > 20
    for word in named:
        placeholders.fill_template("docs", word.replace("PATH", "kernel"), known)
    assert {f"{{{name}}}" for name in known if not name.startswith("architecture.")} <= named


def submit(
    tmp_path: Path, code: str, *, arguments: Mapping[str, Any] = MappingProxyType({}), max_attempts: int = 2
) -> tuple[BackendDriver, FolderTrialStore, str]:
    store = FolderTrialStore(tmp_path / "trials")
    node = {"_target_": "nasproxy.trainers.command.train", "version": 1, "command": python(code), **arguments}
    backend = LocalBackend(context=BackendContext(store, tmp_path), slots=1)
    driver = BackendDriver(backend, store, OrderTemplate(tmp_path, max_attempts=max_attempts))
    one = spec(trainer=node)
    driver.submit(one)
    return driver, store, one.key


def test_a_failing_program_is_a_crash_with_its_stderr_as_message(tmp_path: Path) -> None:
    driver, store, key = submit(tmp_path, "raise SystemExit('no such layer')", max_attempts=1)
    driver.finish()
    status = store.read(key).status
    assert (status.state, status.cause, status.failures) == (State.FAILED, Cause.CRASH, 1)
    assert "no such layer" in str(status.message)


def test_a_program_that_mentions_memory_on_stderr_is_a_crash(tmp_path: Path) -> None:
    words = "warning: not enough memory for the cache; KeyError: 3"
    driver, store, key = submit(tmp_path, f"import sys; sys.exit({words!r})")
    driver.finish()
    status = store.read(key).status
    assert status.cause is Cause.CRASH
    assert "not enough memory for the cache" in str(status.message)


def test_a_reported_out_of_memory_is_a_failure_of_the_model(tmp_path: Path) -> None:
    driver, store, key = submit(tmp_path, """print('{"failure": "oom", "message": "9 GB"}')""")
    driver.finish()
    status = store.read(key).status
    assert (status.state, status.cause, status.message) == (State.FAILED, Cause.OOM, "9 GB")


SLEEPER = """
import os, pathlib, subprocess, time
child = subprocess.Popen(["sleep", "600"])
folder = pathlib.Path(os.environ["NASPROXY_MODEL_DIR"])
(folder / "pids.new").write_text(f"{os.getpid()} {child.pid}")
(folder / "pids.new").rename(folder / "pids")
time.sleep(600)
"""


@pytest.mark.parametrize("way", ["cancelled", "killed alone"])
def test_a_program_ends_with_its_worker(tmp_path: Path, way: str) -> None:
    driver, store, key = submit(tmp_path, SLEEPER, max_attempts=1)
    pids = store.folder(key).path / "pids"
    wait_until(pids.exists)
    if way == "cancelled":
        driver.backend.cancel(key)
    else:
        os.kill(int(store.folder(key).lock.read_text().split()[1]), signal.SIGKILL)
        driver.finish()
        assert store.read(key).status.cause is Cause.LOST
    wait_until(lambda: not any(is_alive(int(pid)) for pid in pids.read_text().split()))


def wait_until(condition: Any, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def sklearn_weights(checkpoint: Path) -> Any:
    """Return step and weights, since equal contents can have different pickles."""
    step, classifier = joblib.load(checkpoint)
    return step, classifier.coef_.tobytes(), classifier.intercept_.tobytes()


EXAMPLES: dict[str, tuple[str, str, Callable[[Path], Any]]] = {
    "example_perl": ("random_features.pl", "weights.txt", Path.read_bytes),
    "example_sklearn": ("digits_partial_fit.py", "classifier.joblib", sklearn_weights),
}


@pytest.mark.parametrize("name", list(EXAMPLES))
def test_an_example_paused_and_resumed_equals_an_uninterrupted_one(tmp_path: Path, name: str) -> None:
    content = conf(f"experiment/{name}")
    arguments = {**conf("trainer/command"), **content["trainer"]}
    node = get_trainer_arguments(arguments)
    whole, parts = (
        TrialContext(tmp_path / way, replace(spec(), architecture=content["search_space"]["baseline"]))
        for way in ("whole", "parts")
    )
    for one, pauses in ((whole, (None,)), (parts, (10, 15, None))):
        one.model_dir.mkdir()
        for until in pauses:
            write_record(TrialFolder(one.model_dir).request, Request(until_step=until))
            command.train(one, **node)
    assert [check[:2] for check in curve(parts)] == [check[:2] for check in curve(whole)]
    assert [step for step, _, _ in curve(whole)] == [10, 20, 25]
    _, file, weights = EXAMPLES[name]
    assert weights(parts.model_dir / "checkpoints" / file) == weights(whole.model_dir / "checkpoints" / file)


def preflight_program(code: str, *, seconds: float = 30.0, kinds: int = 1, **arguments: Any) -> list[str]:
    node = {"_target_": "nasproxy.trainers.command.train", "version": 1, "command": python(code), **arguments}
    tasks = [ProxyTask(data_fraction=1 - kind / 10, width=0.5) for kind in range(kinds)]
    return preflight([replace(spec(trainer=node), proxy_task=task) for task in tasks], seconds=seconds)


IGNORES_TOTAL = """
import json
for step in range(10, 200, 10):
    print(json.dumps({"step": step, "accuracy": 0.5}), flush=True)
"""


def test_a_program_that_ends_at_its_total_passes_the_preflight() -> None:
    assert preflight_program(COUNTER) == []
    arguments = {"reports": "file", "report_file": "log.jsonl"}
    assert preflight_program(INTO_FILE, **arguments) == []


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (IGNORES_TOTAL, "must end after step 10, got a report of step 20: pass it {total_steps}, and let it end there"),
        ('print(\'{"step": 16, "accuracy": 1}\')', "must end after step 10, got a report of step 16"),
        ('print(\'{"step": -1, "accuracy": 1}\')', "must report increasing steps, got step -1"),
        ('print(\'{"step": 0, "accuracy": 1}\')', "must train until step 10 .*an end without a check after step 0"),
        ('print(\'{"step": 5, "accuracy": 1}\')', "must train until step 10 .*an end without a check after step 5"),
        ("raise SystemExit('unrecognized arguments: --steps')", "exit status 1 after step 0: unrecognized arguments"),
    ],
)
def test_the_preflight_refuses_a_program_that_breaks_its_contract(code: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        preflight_program(code)
    assert "(proxy task width50, in the preflight with 10 total_steps)" in str(refused.value)


CALLS_HOOKS = """
import os
from nasproxy.integrations.vertex import hooks
hooks.update_trial_training_accuracy_metric(os.environ["NASPROXY_MODEL_DIR"], 0.5, 0, 99, 2.0, 100)
"""


ROUNDED_EPOCHS = """
import json, os
total = json.loads(os.environ["NASPROXY_TRIAL"])["total_steps"]
for epoch in range(round(total / 16)):
    print(json.dumps({"step": 16 * (epoch + 1), "accuracy": 1}))
"""


@pytest.mark.parametrize("total", [5, 10])
def test_a_program_of_epochs_that_the_preflight_refuses_passes_with_checks_at_epochs(total: int) -> None:
    """With a first check after 5 steps the program trains no epoch, after 10 steps one of 16 steps."""
    node = {"_target_": "nasproxy.trainers.command.train", "version": 1, "command": python(ROUNDED_EPOCHS)}
    with pytest.raises(ConfigError, match=r"validates once an epoch, set training\.check_every_steps to the steps of"):
        preflight([spec(trainer=node, check_every_steps=total, total_steps=80)], seconds=30.0)
    assert preflight([spec(trainer=node, check_every_steps=16, total_steps=80)], seconds=30.0) == []


def test_the_preflight_refuses_a_program_that_calls_the_hooks_beyond_its_total() -> None:
    with pytest.raises(ConfigError, match="must end after step 10, got a report of step 100"):
        preflight_program(CALLS_HOOKS, reports="hooks")


def test_the_preflight_notes_what_it_did_not_see_in_time() -> None:
    (note,) = preflight_program("import time; time.sleep(60)", seconds=0.6)
    assert re.search("made no report in . s, so its reports are not checked", note)
    (note,) = preflight_program("""import time; print('{"step": 10, "accuracy": 1}'); time.sleep(60)""", seconds=1.5)
    assert re.search("did not end in . s, after the report of its last step, 10: does it train for {total_s", note)
    notes = preflight_program("import time; time.sleep(60)", seconds=0.6, kinds=2)
    assert "proxy task data90_width50 was not tried, as preflight.seconds, 0.6, were over" in notes[1]


def test_a_model_that_fails_in_the_preflight_of_a_program_is_noted() -> None:
    (note,) = preflight_program("""print('{"failure": "oom", "message": "9 GB were needed"}')""")
    assert "could not train a model: 9 GB were needed" in note


def test_a_program_is_not_run_by_a_preflight_without_time() -> None:
    assert preflight_program(IGNORES_TOTAL, seconds=0.0) == []


def test_a_program_is_run_once_for_tasks_that_change_the_same_dimensions(tmp_path: Path) -> None:
    runs = f"print('.', end='', file=open('{tmp_path}/runs', 'a'))\n{COUNTER}"
    assert preflight_program(runs, kinds=4) == []
    assert (tmp_path / "runs").read_text() == "..", "width alone, then width with less data"


def test_checks_beyond_the_total_are_no_part_of_a_trial(tmp_path: Path) -> None:
    """A program that calls the hooks with a total of its own records them before its trainer sees them."""
    report = "hooks.update_trial_training_accuracy_metric(os.environ['NASPROXY_MODEL_DIR'], 0.5, {}, {}, 2.0, 100)"
    code = "\n".join(
        [
            "import os",
            "from nasproxy.integrations.vertex import hooks",
            *(report.format(begin, begin + 9) for begin in (0, 10, 20)),
        ]
    )
    driver, store, key = submit(tmp_path, code, arguments={"reports": "hooks"}, max_attempts=3)
    driver.finish()
    record = store.read(key)
    assert (record.status.state, record.status.cause) == (State.FAILED, Cause.SETUP)
    assert "must end after step 25, got a report of step 30" in str(record.status.message)
    assert [check.step for check in record.checks] == [10, 20]


def test_a_program_that_reports_step_0_alone_is_told_so(tmp_path: Path) -> None:
    (note,) = preflight_program(
        """import time; print('{"step": 0, "accuracy": 0}', flush=True); time.sleep(60)""", seconds=1.5
    )
    assert "made no report after that of step 0 in" in note


@pytest.mark.parametrize(
    "code", [IGNORES_TOTAL.replace("range(10, 200, 10)", "(10, 20, 25, 30)"), 'print(\'{"step": 0, "accuracy": 1}\')']
)
def test_a_broken_contract_ends_a_trial_without_another_attempt(tmp_path: Path, code: str) -> None:
    driver, store, key = submit(tmp_path, code, max_attempts=3)
    driver.finish()
    status = store.read(key).status
    assert (status.state, status.cause, status.failures) == (State.FAILED, Cause.SETUP, 1)
