"""Write Vertex AI NAS's result files for programs that read them; nasproxy never reads them back.

Its units are used only here and in the hooks: percent of training, hours, 0-based inclusive steps. Missing is null.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasproxy.stages.proxy_search.state import (
    ProxySearchState,
    StoppingState,
    TaskState,
    find_best_task,
    read_rules,
    read_tasks,
)
from nasproxy.stages.references.state import SelectionState
from nasproxy.stages.variance.state import VarianceState
from nasproxy.statistics.variance import VarianceVerdict
from nasproxy.storage.files import replace_text
from nasproxy.storage.locks import FileLock
from nasproxy.storage.study import StudyFolder
from nasproxy.tracking.tracker import NullTracker

SECONDS_PER_HOUR = 3600.0
MOST_SMOOTHNESS = 10.0
"""Limit of Vertex AI NAS on its smoothness."""
ROUGH = "Learning curves fluctuate: decay the learning rate per step, average the weights, or validate on more data."
NEAREST_STATES = {StoppingState.CONTRADICTED: StoppingState.RAN_TO_COMPLETION.value}
"""The tool's closest state for each stopping state that it does not have."""


class VertexStateFiles(NullTracker):
    """Tracker that updates Vertex AI NAS's result files of a study after each decision of a stage."""

    def __init__(
        self, *, study: Path, time_tolerance: float = 0.05, final_models: int = 10, removed_per_iteration: int = 0
    ) -> None:
        """Set the study and the settings that the states do not contain.

        Args:
            study: The study's folder.
            time_tolerance: Share by which a proxy task must be cheaper than the best one to replace it.
            final_models: Number of reference models at the end of the selection.
            removed_per_iteration: Candidates that the selection removes in each iteration.
        """
        super().__init__(study=study)
        self._folder = StudyFolder(study)
        self._time_tolerance = time_tolerance
        self._final_models = final_models
        self._removed_per_iteration = removed_per_iteration
        self._ended: dict[str, StoppingState | None] | None = None

    def decided(self, state: object) -> None:
        """Write the file that belongs to the type of `state`; other states are ignored."""
        if isinstance(state, VarianceState) and state.result is not None:
            write_variance_and_smoothness(self._folder.variance / "variance_and_smoothness.json", state.result.verdict)
        elif isinstance(state, SelectionState):
            write_model_selection_state(
                self._folder.selection / "MODEL_SELECTION_STATE.json",
                state,
                final_models=self._final_models,
                removed_per_iteration=self._removed_per_iteration,
            )
        elif isinstance(state, ProxySearchState):
            self._write_search(state)

    def _write_search(self, state: ProxySearchState) -> None:
        """Write all looks of all proxy tasks when one has ended; at each look it would cost as much as the search."""
        ended = {name: task.stopping_state for name, task in state.tasks.items()}
        if ended == self._ended:
            return
        self._ended = ended
        folder = self._folder.proxy_tasks
        # The jobs of a sweep share this file, so it is made from the files of all tasks, not from this job's state.
        with FileLock(folder.parent / "merge.lock").hold("the proxy search", wait_seconds=None):
            tasks = read_tasks(folder)
            best = find_best_task(tasks, read_rules(folder).judged_by, time_tolerance=self._time_tolerance)
            write_search_controller_state(folder.parent / "SEARCH_CONTROLLER_STATE.json", tasks, best)


def write_variance_and_smoothness(path: Path, verdict: VarianceVerdict) -> None:
    """Write `variance_and_smoothness.json`."""
    _write(
        path,
        {
            "variance_value": verdict.variation,
            "variance_info": "good" if verdict.has_low_noise else " ".join(verdict.advice),
            "smoothness_value": verdict.smoothness,
            "smoothness_info": "good" if _is_smooth(verdict.smoothness) else ROUGH,
        },
    )


def _is_smooth(smoothness: float | None) -> bool:
    return smoothness is not None and smoothness <= MOST_SMOOTHNESS


def write_model_selection_state(
    path: Path, state: SelectionState, *, final_models: int, removed_per_iteration: int
) -> None:
    """Write `MODEL_SELECTION_STATE.json`; trial numbers count from 1 in each iteration, as in the tool.

    Args:
        path: The file.
        state: State of the selection.
        final_models: Number of reference models at the end of the selection.
        removed_per_iteration: Candidates removed in each iteration.
    """
    iterations = []
    for iteration in state.iterations:
        trial_numbers = {candidate: str(i + 1) for i, candidate in enumerate(iteration.candidates)}
        kept = iteration.kept if iteration.fraction < 1.0 else ()
        iterations.append(
            {
                "num_trials": len(iteration.candidates),
                "trials_to_retrain": [trial_numbers[candidate] for candidate in kept or ()],
                "search_job_name": "selection",
                "search_job_link": [state.keys[candidate] for candidate in iteration.candidates],
                "latency_calculator_job_name": None,
                "latency_calculator_job_link": None,
                "desired_training_step_pct": 100.0 * iteration.fraction,
            }
        )
    _write(
        path,
        {
            "start_num_models": len(state.iterations[0].candidates),
            "final_num_models": final_models,
            "num_models_to_remove_per_iter": removed_per_iteration,
            "iterations": iterations,
            "accuracy_metric_id": "score",
            "latency_metric_id": None,
        },
    )


def write_search_controller_state(path: Path, tasks: Mapping[str, TaskState], best: TaskState | None) -> None:
    """Write `SEARCH_CONTROLLER_STATE.json`; `best` is None without an accepted proxy task."""
    _write(
        path,
        {
            "proxy_tasks_map": {name: _format_proxy_task(task) for name, task in tasks.items()},
            "best_proxy_task_name": "" if best is None else best.name,
        },
    )


def _format_proxy_task(task: TaskState) -> dict[str, Any]:
    correlations = [check.correlation for check in task.checks]
    seconds, stopping = task.final_train_seconds, task.stopping_state
    return {
        "proxy_task_stats": {
            "training_steps": [check.step - 1 for check in task.checks],
            "accuracy_correlation_over_step": [c and c.tau for c in correlations],
            "accuracy_correlation_p_value_over_step": [c and c.p_value for c in correlations],
            "median_accuracy_over_step": [check.median_score for check in task.checks],
            "median_training_time_hrs_over_step": [
                check.median_train_seconds / SECONDS_PER_HOUR for check in task.checks
            ],
            "latency_correlation": None,
            "latency_correlation_p_value": None,
            "stopping_state": "" if stopping is None else NEAREST_STATES.get(stopping, stopping.value),
            "posted_stop_trials_message": task.stopping_state is not None,
            "final_training_time_in_hours": None if seconds is None else seconds / SECONDS_PER_HOUR,
            "final_training_steps": None if task.final_step is None else task.final_step - 1,
        },
        "proxy_task_name": task.name,
        "search_job_name": task.name,
        "search_job_link": list(task.keys),
        "latency_calculator_job_name": None,
        "latency_calculator_job_link": None,
    }


def _write(path: Path, content: Mapping[str, Any]) -> None:
    replace_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
