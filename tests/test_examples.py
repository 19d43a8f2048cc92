"""Programs as trainers: complete studies with the examples of `docs/examples`."""

import re
from pathlib import Path

import pytest

from helpers import cli
from nasproxy.stages.proxy_search.state import read_tasks
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.trials.records import State

SHORT = (
    "training.total_steps=60",
    "training.check_every_steps=20",
    "variance.seeds=2",
    "variance.min_seeds=2",
    "variance.on_failure=warn",
    "references.initial=5",
    "references.max=0",
    "proxy=width50",
    "criterion=first_crossing",
    "criterion.target=0.1",
    "confirm.enabled=false",
    "cost.estimate_first=false",
)


@pytest.mark.parametrize(
    "name",
    [pytest.param("example_perl", marks=pytest.mark.gate), pytest.param("example_sklearn", marks=pytest.mark.slow)],
)
def test_an_example_designs_a_proxy_task(tmp_path: Path, name: str) -> None:
    code, output = cli.run(f"experiment={name}", *SHORT, folder=tmp_path)
    assert code == 0, output
    folder = FolderStudyStore(tmp_path / name)
    assert set(read_tasks(folder)) == {"width50"}
    assert (folder.path / "report" / "index.html").exists()
    store = folder.trials
    records = [store.read(key) for key in store.keys()]
    assert len(records) >= 5 + 5, "references and proxy trials"
    assert {record.status.state for record in records} <= {State.DONE, State.PAUSED}
    assert all(record.checks[-1].train_seconds > 0 for record in records if record.checks)


def test_the_documented_trainer_composes_and_is_checked_before_training(tmp_path: Path) -> None:
    text = (cli.ROOT / "docs" / "your_own_trainer.md").read_text()
    (block,) = re.findall(r"```yaml\n# conf/trainer/my_program.yaml\n(.*?)```", text, flags=re.DOTALL)
    path = tmp_path / "conf" / "trainer" / "my_program.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(block)
    choices = ["search_space=synthetic", "data=none", "data.fingerprint=own", "trainer=my_program"]
    code, output = cli.run("--config-dir", str(tmp_path / "conf"), *choices, "study=own", folder=tmp_path / "studies")
    assert code == 2
    assert "trainer.command[2] must use known placeholders, got {architecture.kernel}" in output
    assert not list((tmp_path / "studies").glob("*/trials/*")), "nothing was trained"
