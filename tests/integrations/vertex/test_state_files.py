"""The state files of Vertex AI NAS are current after each look, and hold what its own programs expect."""

import json
from pathlib import Path
from typing import Any

from helpers.reported_curves import ComputedStudy, DecisionTracker, report_epochs
from nasproxy.integrations.vertex.state_files import VertexStateFiles, describe_variance_and_smoothness
from nasproxy.stages.references.state import Iteration, SelectionState
from nasproxy.statistics.variance import judge_variance
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.tracking.dispatch import Trackers
from nasproxy.tracking.events import DecisionTaken, Event, StageEnded
from nasproxy.tracking.tracker import NullTracker
from nasproxy.trials.proxy_task import ProxyTask

TASKS = {"half": ProxyTask(width=0.5), "full": ProxyTask()}


def read_search(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "proxy_search" / "SEARCH_CONTROLLER_STATE.json").read_text())
    return content


class StateReader(DecisionTracker):
    """Writes the state files, and keeps the number of looks in the file after each decision, and in the study."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._files = VertexStateFiles(study=folder)
        self._folder = folder
        self.counts: list[tuple[int, int]] = []

    def receive(self, event: Event) -> None:
        super().receive(event)
        self._files.receive(event)
        if isinstance(event, DecisionTaken):
            tasks = read_search(self._folder)["proxy_tasks_map"].values()
            written = sum(len(task["proxy_task_stats"]["training_steps"]) for task in tasks)
            self.counts.append((written, len(self.looks)))


def test_the_search_controllers_state_is_current_after_each_look(tmp_path: Path) -> None:
    reader = StateReader(tmp_path)
    ComputedStudy(tmp_path, report_epochs(10)).search(TASKS, reader, early_stop_if_not_best=False)
    assert len(reader.looks) > 4
    assert all(written == taken for written, taken in reader.counts)


def test_looks_that_come_while_it_writes_lead_to_one_file(tmp_path: Path) -> None:
    search = ComputedStudy(tmp_path, report_epochs(10)).search(TASKS)
    files = VertexStateFiles(study=tmp_path)
    written = []
    for _ in range(5):
        files.receive(DecisionTaken("proxy_search"))
        written.append((tmp_path / "proxy_search" / "SEARCH_CONTROLLER_STATE.json").stat().st_ino)
    assert len(set(written)) == 1
    assert set(read_search(tmp_path)["proxy_tasks_map"]) == set(search.tasks)


def test_the_last_state_is_written_before_the_trackers_are_closed(tmp_path: Path) -> None:
    state = ComputedStudy(tmp_path, report_epochs(10)).search(TASKS)
    trackers = Trackers({"none": NullTracker(study=tmp_path)}, {"state files": VertexStateFiles(study=tmp_path)})
    trackers.receive(StageEnded("proxy_search"))
    trackers.close()
    found = read_search(tmp_path)["proxy_tasks_map"]
    assert {name: task["proxy_task_stats"]["final_training_steps"] for name, task in found.items()} == {
        name: task.final_step for name, task in state.tasks.items()
    }


def test_final_training_steps_is_a_count_and_training_steps_are_0_based(tmp_path: Path) -> None:
    state = ComputedStudy(tmp_path, report_epochs(10)).search({"half": ProxyTask(width=0.5)})
    VertexStateFiles(study=tmp_path).receive(StageEnded("proxy_search"))
    (task,) = read_search(tmp_path)["proxy_tasks_map"].values()
    stats, final = task["proxy_task_stats"], state.tasks["half"].final_step
    assert final is not None
    assert (stats["final_training_steps"], stats["training_steps"][-1]) == (final, final - 1)
    assert stats["latency_correlation"] is None


def test_links_are_text_and_name_a_file_with_the_trials(tmp_path: Path) -> None:
    state = ComputedStudy(tmp_path, report_epochs(10)).search(TASKS)
    folder = FolderStudyStore(tmp_path)
    selected = SelectionState(({"quality": 1}, {"quality": 2}), ("one", "two"), (Iteration((0, 1), 1.0, 160),))
    folder.write("references/state", selected)
    files = VertexStateFiles(study=tmp_path)
    for stage in ("proxy_search", "references"):
        files.receive(StageEnded(stage))
    for name, task in read_search(tmp_path)["proxy_tasks_map"].items():
        assert state.tasks[name].keys[0] in Path(task["search_job_link"]).read_text()
    (iteration,) = json.loads((tmp_path / "references" / "MODEL_SELECTION_STATE.json").read_text())["iterations"]
    assert "two" in Path(iteration["search_job_link"]).read_text()
    assert iteration["num_trials"] == 2


def test_an_undecided_task_has_null_where_a_value_is_missing(tmp_path: Path) -> None:
    study = ComputedStudy(tmp_path, report_epochs(10))
    stage = study.make_search(TASKS)
    stage.save(stage.load())
    VertexStateFiles(study=tmp_path).receive(DecisionTaken("proxy_search"))
    content = read_search(tmp_path)
    stats = content["proxy_tasks_map"]["half"]["proxy_task_stats"]
    assert (stats["final_training_steps"], stats["final_training_time_in_hours"]) == (None, None)
    assert (stats["stopping_state"], content["best_proxy_task_name"]) == ("", "")
    assert "-1" not in json.dumps(content).replace(str(tmp_path), ""), "no number stands for a missing one"


STEPS = [10, 20, 30, 40]


def test_each_value_of_the_variance_has_its_own_advice() -> None:
    rough = judge_variance([(STEPS, [0.1, 0.9, 0.1, 0.9]), (STEPS, [0.1, 0.8, 0.1, 0.9])])
    content = describe_variance_and_smoothness(rough)
    assert rough.curve_advice
    assert content["variance_info"] == "good"
    noisy = judge_variance([(STEPS, [0.1, 0.2, 0.3, 0.4]), (STEPS, [0.1, 0.2, 0.3, 4.0])])
    content = describe_variance_and_smoothness(noisy)
    assert content["variance_info"].startswith("Final scores of one architecture differ between seeds")
    assert content["smoothness_info"] == "good"
    fluctuating = judge_variance([(range(100), [place % 2 for place in range(100)])] * 2)
    content = describe_variance_and_smoothness(fluctuating)
    assert content["smoothness_info"].startswith("Learning curves fluctuate: smoothness")
    flat = describe_variance_and_smoothness(judge_variance([(STEPS, [0.5] * 4)] * 2))
    assert (flat["smoothness_value"], flat["smoothness_info"][:9]) == (None, "Not known")
