"""A stage from a folder of its own, registered in one call; and jobs whose requirements are missing."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nasproxy
from nasproxy.errors import ConfigError
from nasproxy.stages import registry
from nasproxy.stages.definition import StageDefinition
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.testing import curves

STAGE = """
from dataclasses import dataclass

from nasproxy.errors import ConfigError
from nasproxy.stages.definition import StageDefinition
from nasproxy.stages.runner import Decide, Train
from nasproxy.stages.section import StageSection
from nasproxy.tracking.events import Progress
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import TrialPurpose
from nasproxy.trials.spec import Split, TrialSpec


@dataclass
class LongestSettings:
    models: int = 2

    def check(self):
        if self.models < 1:
            raise ConfigError(f"longest.models must be at least 1, got {self.models}: give 2")


@dataclass(frozen=True)
class LongestState:
    scores: tuple[float, ...] = ()


class LongestStage:
    name = "longest"

    def __init__(self, specs, study):
        self._specs, self._study = specs, study

    def load(self):
        return load(self._study) or LongestState()

    def save(self, state):
        self._study.write("longest/state", state)
        return state

    def specs(self, state):
        return self._specs

    def purpose(self, spec):
        return TrialPurpose(self.name)

    def next_action(self, state, records):
        until = {spec.key: spec.total_steps for spec in self._specs if not records[spec.key].has_ended}
        if state.scores:
            return None
        if until:
            return Train(until)
        return Decide(LongestState(tuple(records[spec.key].score for spec in self._specs)), "longest: done")

    def progress(self, state, records):
        return Progress("longest")


def run(context):
    design = context.design
    models = design.candidates[: design.settings(LongestSettings).models]
    specs = [TrialSpec(model, ProxyTask(), Split.FULL, 7, design.recipe) for model in models]
    context.preflight()
    with context.hold("longest"):
        return context.run(LongestStage(specs, context.study))


def load(study):
    return study.read("longest/state", LongestState)


def report(state, results):
    rows = [{"model": number, "score": score} for number, score in enumerate(state.scores)]
    return StageSection("Longest trainings", ("Each was trained once.",), {"model": "model", "score": "score"}, rows)


def list_decisions(state):
    return [{"models": len(state.scores), "decision": "trained"}]


LONGEST = StageDefinition(
    "longest",
    run,
    load,
    settings={"longest": LongestSettings},
    report=report,
    list_decisions=list_decisions,
)
"""


@pytest.fixture
def longest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StageDefinition[Any]]:
    """Register a stage that lies in a temporary folder."""
    folder = tmp_path / "packages" / "longest_stage"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(STAGE)
    monkeypatch.syspath_prepend(folder.parent)
    import longest_stage

    registry.register(longest_stage.LONGEST)
    yield longest_stage.LONGEST
    registry.unregister("longest")
    del sys.modules["longest_stage"]


def test_a_registered_stage_runs_with_its_own_settings(
    longest: StageDefinition[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = nasproxy.run(["experiment=debug", "study=own", "job.stages=[longest,report]", "longest.models=3"])
    assert result.study is not None
    assert set(result.study.trials.stage) == {"longest"}, "each trial keeps what it was created for"
    assert list(result.study.decisions.decision) == ["trained"]
    assert result.report is not None
    assert "Longest trainings" in result.report.read_text()
    assert set(result.study.results.stage_results) == {"longest"}, "the results of other stages are read once"
    assert len(result.study.trials) == 3
    stored = longest.load(FolderStudyStore(result.study.path))
    assert sorted(stored.scores) == sorted(result.study.trials.score)


def test_settings_of_a_registered_stage_are_checked(longest: StageDefinition[Any]) -> None:
    with pytest.raises(ConfigError, match=r"longest.models must be at least 1, got 0: give 2"):
        nasproxy.run(["experiment=debug", "study=own", "longest.models=0"])
    with pytest.raises(ConfigError, match=r"has no longest.model: did you mean longest.models\?"):
        nasproxy.run(["experiment=debug", "study=own", "longest.model=0"])


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (
            "[proxy_search,report]",
            r"stage proxy_search needs the result of references, and study new has none: run job=design, or "
            r"job.stages=\[references,proxy_search,report\]",
        ),
        (
            "[confirmation]",
            r"stage confirmation needs the result of references and proxy_search, and study new has none: run "
            r"job=design, or job.stages=\[references,proxy_search,confirmation\]",
        ),
        ("[search_proxy_task]", "the stage search_proxy_task is named proxy_search now"),
        ("[varianse]", r"job.stages must list stages, got 'varianse': did you mean 'variance'\?"),
        ("[longest]", "job.stages must list stages, got 'longest': choose among variance, references"),
    ],
)
def test_a_job_whose_requirements_are_missing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stages: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        nasproxy.run(["experiment=debug", "study=new", f"job.stages={stages}"])
    assert not (tmp_path / "studies").exists(), "nothing was made"


def register_trivial(name: str, requires: tuple[str, ...]) -> None:
    """Register a stage that trains nothing, and of which a study never has a result."""
    registry.register(StageDefinition(name, lambda context: name, lambda study: None, requires=requires))


@pytest.fixture
def replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return overrides of a study that is replayed within a second."""
    monkeypatch.chdir(tmp_path)
    rows = curves.generate_rows(architectures=60, checks=12, proxies={"fast": "steady"}, costs={"fast": 0.2})
    curves.write_table(tmp_path / "curves.csv", rows)
    return ["experiment=replay", "backend.table=curves.csv", "references.max=0", "criterion=first_crossing"]


@pytest.mark.parametrize(
    ("requires", "stages", "advised"),
    [
        (("proxy_search",), "mine", "references,proxy_search,mine"),
        (("confirmation", "references"), "mine", "references,proxy_search,confirmation,mine"),
        (("references",), "mine,report,references", "references,mine,report"),
        (("other",), "mine", "references,proxy_search,other,mine"),
        (("other",), "references,mine,other", "references,proxy_search,other,mine"),
    ],
)
def test_the_advice_on_missing_requirements_is_accepted(
    replay: list[str], requires: tuple[str, ...], stages: str, advised: str
) -> None:
    register_trivial("other", ("proxy_search",))
    register_trivial("mine", requires)
    try:
        with pytest.raises(ConfigError, match="stage mine needs the result of") as refused:
            nasproxy.run([*replay, "study=new", f"job.stages=[{stages}]"])
        advice = re.search(r"job\.stages=\S+", str(refused.value))
        assert advice is not None
        assert advice[0] == f"job.stages=[{advised}]"
        assert ("run job=design" in str(refused.value)) == ("other" not in requires), "that job lacks the stage other"
        nasproxy.run([*replay, "study=new", advice[0]])
    finally:
        registry.unregister("mine")
        registry.unregister("other")


def test_only_what_the_study_lacks_is_advised(replay: list[str]) -> None:
    register_trivial("mine", ("proxy_search", "confirmation"))
    try:
        nasproxy.run([*replay, "study=new", "job.stages=[references]"])
        with pytest.raises(ConfigError, match=r"job\.stages=\[proxy_search,confirmation,mine\]$") as refused:
            nasproxy.run([*replay, "study=new", "job.stages=[mine]"])
        nasproxy.run([*replay, "study=new", str(refused.value).rpartition(" ")[2]])
    finally:
        registry.unregister("mine")


def test_a_name_that_no_configuration_can_hold_is_refused() -> None:
    with pytest.raises(ConfigError, match="a stage's name must be letters, digits and underscores, got 'a b'"):
        registry.register(StageDefinition("a b", lambda context: None, lambda folder: None))
