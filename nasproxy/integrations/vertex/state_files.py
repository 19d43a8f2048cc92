"""Write Vertex AI NAS's result files for programs that read them; nasproxy never reads them back.

Its units are used only here and in the hooks: percent of training, hours, 0-based inclusive steps. Missing is null.
`training_steps` are 0-based: the last step before each check. `final_training_steps` is a count of steps, which a user
copies into the configuration of a search. Links are paths of the files with the trials' keys. The tool has no
confirmation: its correlations over steps stay those of the proxy search, and keys of this program's own hold the tau of
the confirmation runs, the lower confidence bound that holds after selection, and the grade.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nasproxy.stages.confirmation.state import ConfirmationState, find_confirmation, read_confirmations
from nasproxy.stages.headline import find_headline
from nasproxy.stages.proxy_search.state import (
    PREFIX,
    StoppingState,
    TaskCache,
    TaskState,
    find_best_task,
    read_rules,
    read_tasks,
)
from nasproxy.stages.references.state import STATE, SelectionState, read_selection
from nasproxy.stages.variance.state import read_variance
from nasproxy.statistics.variance import VarianceVerdict
from nasproxy.storage.leases import hold_lease
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.tracking.events import DecisionTaken, Event, StageEnded

SECONDS_PER_HOUR = 3600.0
MOST_SMOOTHNESS = 10.0
"""Limit of Vertex AI NAS on its smoothness."""
NEAREST_STATES = {StoppingState.CONTRADICTED: StoppingState.RAN_TO_COMPLETION.value}
"""The tool's closest state for each stopping state that it does not have."""


class VertexStateFiles:
    """Tracker that keeps Vertex AI NAS's result files of a study current after each decision and each look.

    It writes what the stages have stored by then, so that the events of several looks that arrive while it writes lead
    to one more file, not to one each.
    """

    def __init__(
        self, *, study: Path, time_tolerance: float = 0.05, final_models: int = 10, removed_per_iteration: int = 0
    ) -> None:
        """Set the study and the settings that the stored states do not contain.

        Args:
            study: The study's folder.
            time_tolerance: Share by which a proxy task must be cheaper than the best one to replace it.
            final_models: Number of reference models at the end of the selection.
            removed_per_iteration: Candidates that the selection removes in each iteration.
        """
        self._study = FolderStudyStore(study)
        self._time_tolerance = time_tolerance
        self._final_models = final_models
        self._removed_per_iteration = removed_per_iteration
        self._cache: TaskCache = {}
        self._written: dict[str, bytes] = {}
        self._writers: Mapping[str, Callable[[], None]] = {
            "variance": self._write_variance,
            "references": self._write_selection,
            "proxy_search": self._write_search,
            "confirmation": self._write_search,
        }

    def receive(self, event: Event) -> None:
        """Write the file of the stage that took a decision or ended, if its content has changed."""
        if isinstance(event, DecisionTaken | StageEnded) and event.stage in self._writers:
            self._writers[event.stage]()

    def close(self) -> None:
        """Do nothing: no file is open between two events."""

    def _write_variance(self) -> None:
        state = read_variance(self._study)
        if state is not None and state.result is not None:
            content = describe_variance_and_smoothness(state.result.verdict)
            self._write("variance/variance_and_smoothness.json", content)

    def _write_selection(self) -> None:
        state = read_selection(self._study)
        if state is not None:
            content = describe_model_selection(
                state,
                link=self._study.path / f"{STATE}.json",
                final_models=self._final_models,
                removed_per_iteration=self._removed_per_iteration,
            )
            self._write("references/MODEL_SELECTION_STATE.json", content)

    def _write_search(self) -> None:
        # What jobs of a sweep judge is not decided before their merge, which writes this file.
        with hold_lease(self._study.lease("search_controller_state"), "the result file", wait_seconds=None):
            tasks = read_tasks(self._study, cache=self._cache)
            best = find_best_task(tasks, read_rules(self._study).judged_by, time_tolerance=self._time_tolerance)
            confirmations = read_confirmations(self._study)
            content = describe_search_controller(
                tasks, best, folder=self._study.path / f"{PREFIX}/tasks", confirmations=confirmations
            )
            self._write(f"{PREFIX}/SEARCH_CONTROLLER_STATE.json", content)

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        encoded = f"{json.dumps(content, indent=2, allow_nan=False)}\n".encode()
        if self._written.get(name) != encoded or self._study.read_file(name) is None:
            self._study.write_file(name, encoded)
            self._written[name] = encoded


def describe_variance_and_smoothness(verdict: VarianceVerdict) -> dict[str, Any]:
    """Describe the content of `variance_and_smoothness.json`."""
    return {
        "variance_value": verdict.variation,
        "variance_info": "good" if verdict.has_low_noise else " ".join(verdict.noise_advice),
        "smoothness_value": verdict.smoothness,
        "smoothness_info": _describe_smoothness(verdict.smoothness),
    }


def _describe_smoothness(smoothness: float | None) -> str:
    if smoothness is None:
        return "Not known: the learning curves are flat, or have fewer than 2 checks."
    if smoothness <= MOST_SMOOTHNESS:
        return "good"
    return (
        f"Learning curves fluctuate: smoothness {smoothness:.1f}, limit {MOST_SMOOTHNESS:g}. Decay the learning rate "
        f"per step, average the weights, or validate on more data."
    )


def describe_model_selection(
    state: SelectionState, *, link: Path, final_models: int, removed_per_iteration: int
) -> dict[str, Any]:
    """Describe the content of `MODEL_SELECTION_STATE.json`; trials are numbered from 1 in each iteration, as there.

    Args:
        state: State of the selection.
        link: File with the keys of its trials.
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
                "search_job_link": str(link),
                "latency_calculator_job_name": None,
                "latency_calculator_job_link": None,
                "desired_training_step_pct": 100.0 * iteration.fraction,
            }
        )
    return {
        "start_num_models": len(state.iterations[0].candidates),
        "final_num_models": final_models,
        "num_models_to_remove_per_iter": removed_per_iteration,
        "iterations": iterations,
        "accuracy_metric_id": "score",
        "latency_metric_id": None,
    }


def describe_search_controller(
    tasks: Mapping[str, TaskState],
    best: TaskState | None,
    *,
    folder: Path,
    confirmations: Sequence[ConfirmationState] = (),
) -> dict[str, Any]:
    """Describe the content of `SEARCH_CONTROLLER_STATE.json`.

    Args:
        tasks: Proxy tasks by name.
        best: The best accepted one; None without one.
        folder: Folder with a file for each proxy task, which holds the keys of its trials.
        confirmations: Confirmations of accepted proxy tasks.
    """
    return {
        "proxy_tasks_map": {
            name: _describe_proxy_task(task, folder / f"{name}.json", confirmations) for name, task in tasks.items()
        },
        "best_proxy_task_name": "" if best is None else best.name,
    }


def _describe_proxy_task(task: TaskState, link: Path, confirmations: Sequence[ConfirmationState]) -> dict[str, Any]:
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
            "final_training_steps": task.final_step,
            **_describe_confirmed(task, confirmations),
        },
        "proxy_task_name": task.name,
        "search_job_name": task.name,
        "search_job_link": str(link),
        "latency_calculator_job_name": None,
        "latency_calculator_job_link": None,
    }


def _describe_confirmed(task: TaskState, confirmations: Sequence[ConfirmationState]) -> dict[str, Any]:
    """Describe what the tool does not have: its correlations over steps are those that the task was selected by."""
    shown = None
    if task.is_accepted:
        shown = find_headline(task, find_confirmation(confirmations, task))
    found = None if shown is None or shown.is_selected else shown.correlation
    return {
        "confirmed_accuracy_correlation": found and found.tau,
        "confirmed_accuracy_correlation_p_value": found and found.p_value,
        "accuracy_correlation_lower_bound": shown and shown.bound,
        "grade": shown and shown.grade.value,
    }
