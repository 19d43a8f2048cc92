"""The loop that runs stages: how often it decides, counted on replays of tables of several sizes."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest

from benchmarks.decisions import Study
from nasproxy.execution.backends.replay.curve_table import CurveTable, read_table
from nasproxy.stages import runner
from nasproxy.stages.proxy_search import state as states
from nasproxy.stages.proxy_search.stage import ProxySearchStage
from nasproxy.stages.references.random_selection import RandomSelectionStage
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.testing import curves

MakeTable = Callable[..., CurveTable]


@pytest.fixture
def make_table(tmp_path: Path) -> MakeTable:
    def make(architectures: int, failures: float = 0.0) -> CurveTable:
        path = tmp_path / f"{architectures}.csv"
        proxies = {"one": "hopeless", "two": "hopeless"}
        curves.write_table(
            path, curves.generate_rows(architectures=architectures, checks=4, proxies=proxies, failures=failures)
        )
        return read_table(path)

    return make


def count_decisions(study: Study) -> Counter[str]:
    """Run a study and count the decisions of each stage."""
    counts: Counter[str] = Counter()

    def counting(kind: type) -> Callable[..., object]:
        original = kind.next_action

        def next_action(self: object, *arguments: object) -> object:
            counts[kind.__name__] += 1
            return original(self, *arguments)

        return next_action

    kinds = (RandomSelectionStage, ProxySearchStage)
    with (
        patch.object(kinds[0], "next_action", counting(kinds[0])),
        patch.object(kinds[1], "next_action", counting(kinds[1])),
    ):
        runner.run_stage(study.make_stage(study.select()), study.runtime)
    return counts


def test_the_number_of_decisions_does_not_grow_with_the_number_of_trials(make_table: MakeTable, tmp_path: Path) -> None:
    small, large = (
        count_decisions(Study(make_table(count), count, tmp_path / str(count), slots=5)) for count in (40, 160)
    )
    assert large == small, "a decision reads all trials, so the number of decisions must be constant"


def test_a_failed_candidate_is_replaced_while_others_train(make_table: MakeTable, tmp_path: Path) -> None:
    study = Study(make_table(60, failures=0.1), 40, tmp_path, slots=5)
    references = study.select()
    assert len(references) == 40, "failed candidates are replaced"


def test_states_of_proxy_tasks_are_not_read_again(make_table: MakeTable, tmp_path: Path) -> None:
    study = Study(make_table(10), 10, tmp_path)
    stage = study.make_stage(study.select())
    with patch.object(FolderStudyStore, "read", autospec=True, side_effect=FolderStudyStore.read) as reading:
        state = runner.run_stage(stage, study.runtime)
    assert sum(len(task.checks) for task in state.tasks.values()) == 8
    kinds = Counter(call.args[2].__name__ for call in reading.call_args_list)
    assert kinds["TaskState"] == 0, "states written by this process are cached"


def test_states_written_by_another_job_are_read(make_table: MakeTable, tmp_path: Path) -> None:
    table = make_table(10)
    first, second = (Study(table, 10, tmp_path) for _ in range(2))
    one, two = (study.make_stage(study.select()) for study in (first, second))
    state = two.save(two.load())
    ended = runner.run_stage(one, first.runtime)
    known = states.read_tasks(FolderStudyStore(tmp_path))
    assert known == ended.tasks
    assert state.tasks != ended.tasks
    assert two.load().tasks == ended.tasks
