"""A worker as other backends start it: `python -m nasproxy.execution.worker ORDER.json`."""

import resource
import subprocess
import sys
from pathlib import Path

from nasproxy.execution.process_groups import is_alive
from nasproxy.execution.work_order import OrderTemplate, write_order
from nasproxy.storage.trial_stores import FolderTrialStore
from nasproxy.testing.backend_contract import make_spec
from nasproxy.trials.records import State
from nasproxy.trials.spec import TrialSpec


def start_worker(store: FolderTrialStore, spec: TrialSpec, **options: object) -> "subprocess.Popen[str]":
    path = store.root.parent / "order.json"
    write_order(path, OrderTemplate(store.root.parent).train(spec, store.create(spec)))
    command = [sys.executable, "-m", "nasproxy.execution.worker", str(path)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, **options)  # type: ignore[call-overload,no-any-return]


def test_a_worker_ends_what_its_trainer_left_behind(tmp_path: Path) -> None:
    store, spec = FolderTrialStore(tmp_path / "trials"), make_spec(fault="orphan")
    assert start_worker(store, spec).wait(120) == 0
    assert store.read(spec.key).status.state is State.DONE
    assert not is_alive(int((store.folder(spec.key).path / "orphan").read_text()))


def test_a_worker_that_cannot_write_says_so_in_a_sentence(tmp_path: Path) -> None:
    store, spec = FolderTrialStore(tmp_path / "trials"), make_spec()

    def forbid_writing() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    worker = start_worker(store, spec, preexec_fn=forbid_writing)
    _, output = worker.communicate(timeout=120)
    assert worker.returncode == 1
    assert output.startswith(f"trial {spec.key} cannot begin: ")
    assert "Free space and run the command again" in output
    assert len(output.splitlines()) == 1
