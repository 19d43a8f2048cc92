"""The ladder and the comparison of strategies as a stage of jobs, of a sweep and of their own."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from helpers.written_studies import RECIPE, Author
from nasproxy.stages.proxy_search.settings import ProxySearchSettings, SearchSettings
from nasproxy.stages.references.random_selection import RandomSelection
from nasproxy.stages.references.spread_selection import SpreadSelection
from nasproxy.stages.worth.definition import SPREAD, WORTH
from nasproxy.stages.worth.settings import LadderSettings
from nasproxy.stages.worth.state import LADDER, STATE, LadderState, WorthState, read_ladder, read_worth
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.trials.proxy_task import ProxyTask

NARROW = {"width50": ProxyTask(width=0.5)}


@dataclass
class WorthJob:
    """A job that runs this stage alone; `meanwhile` is what another job does before it gets the lock."""

    study: FolderStudyStore
    selection: Any = field(default_factory=RandomSelection)
    architectures: int | None = None
    max_risk: float = 0.25
    is_judging: bool = False
    meanwhile: Callable[[], object] = lambda: None
    said: list[str] = field(default_factory=list)

    def say(self, message: str) -> None:
        self.said.append(message)

    @property
    def design(self) -> Any:
        sections = {
            SearchSettings: SearchSettings(trials=50),
            LadderSettings: LadderSettings(self.max_risk),
            ProxySearchSettings: ProxySearchSettings(),
        }
        origin = SimpleNamespace(architectures=self.architectures)
        return SimpleNamespace(
            recipe=RECIPE, selection=self.selection, settings=sections.__getitem__, task_origin=origin
        )

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        self.meanwhile()
        yield

    def run(self) -> Any:
        return WORTH.run(self)  # type: ignore[arg-type]


@pytest.fixture
def author(new_study: Callable[..., Author]) -> Author:
    """Write a study of ten random reference models, without proxy tasks."""
    written = new_study(40)
    written.select_randomly()
    return written


def test_a_job_stores_the_ladder_and_the_comparison(author: Author) -> None:
    author.search(NARROW)
    worth = WorthJob(author.folder).run()
    assert (worth.proxy_task, worth.models, worth.reason) == ("width50", 10, "")
    assert read_worth(author.folder) == worth
    ladder = read_ladder(author.folder)
    assert ladder is not None
    assert ladder.models == 10


def test_a_job_says_the_ladder_once(author: Author) -> None:
    author.search(NARROW)
    first, again = WorthJob(author.folder), WorthJob(author.folder)
    first.run()
    again.run()
    (line,) = first.said
    assert line.startswith(("certified ladder: ", "no ladder: "))
    assert again.said == []


def test_a_job_of_a_sweep_leaves_the_stage_to_the_merge(author: Author) -> None:
    assert WorthJob(author.folder, is_judging=True).run() is None
    assert (read_ladder(author.folder), read_worth(author.folder)) == (None, None)
    author.search(NARROW)
    merged = WorthJob(author.folder).run()
    before = [author.folder.version(name) for name in (LADDER, STATE)]
    author.search(NARROW, target=0.999)
    assert WorthJob(author.folder, is_judging=True).run() == merged
    assert [author.folder.version(name) for name in (LADDER, STATE)] == before


def test_results_are_collected_while_the_lock_is_held(author: Author) -> None:
    worth = WorthJob(author.folder, meanwhile=lambda: author.search(NARROW)).run()
    assert worth.proxy_task == "width50", "another job accepted it while this one waited"


def test_models_selected_for_their_spread_are_not_compared(author: Author) -> None:
    worth = WorthJob(author.folder, selection=SpreadSelection()).run()
    assert worth == WorthState(50, 10, SPREAD)
    assert read_ladder(author.folder) == LadderState("accuracy", "max", 0.25, 10, SPREAD)


@pytest.mark.parametrize(
    ("architectures", "max_risk", "advice"),
    [
        (None, 0.1, "would make study and search cheapest (references.initial)"),
        (24, 0.1, "; 24 would make study and search cheapest (references.initial)"),
        (
            19,
            0.1,
            "at most 19 are practical in this study: 10 suffice for the larger risk ladder.max_risk=0.2",
        ),
        (
            None,
            0.002,
            "at most 200 are practical in this study: 10 suffice for the larger risk ladder.max_risk=0.2",
        ),
    ],
)
def test_the_advised_number_of_models_fits_the_search_space_and_the_criterion(
    architectures: int | None, max_risk: float, advice: str, author: Author
) -> None:
    WorthJob(author.folder, architectures=architectures, max_risk=max_risk).run()
    ladder = read_ladder(author.folder)
    assert ladder is not None
    assert ladder.reason.endswith(advice)
    if "max_risk=" in advice:
        WorthJob(author.folder, architectures=architectures, max_risk=0.2).run()
        followed = read_ladder(author.folder)
        assert followed is not None
        assert "reference models" not in followed.reason


def test_a_comparison_of_an_earlier_version_is_read(author: Author) -> None:
    worth = WorthJob(author.folder).run()
    path = author.folder.path / f"{STATE}.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    for name in ("proxy_reason", "left_out"):
        stored.pop(name, None)
    path.write_text(json.dumps(stored), encoding="utf-8")
    assert read_worth(author.folder) == worth
