"""The cloud tool's result files, with its names and fields, for programs that read them. Nothing reads them back.

Its dialect lives here and in the hooks: percent of training, hours, 0-based inclusive steps. What is missing is null.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasproxy.stages.proxy_search.state import StoppingState, TaskState
from nasproxy.stages.references.state import SelectionState
from nasproxy.statistics.variance import VarianceVerdict
from nasproxy.storage.files import replace_text

SECONDS_PER_HOUR = 3600.0
NEAREST_WORDS = {StoppingState.CONTRADICTED: StoppingState.RAN_TO_COMPLETION.value}
"""Of what the tool has no word for."""


def write_variance_and_smoothness(path: Path, verdict: VarianceVerdict) -> None:
    """Write `variance_and_smoothness.json`."""
    _write(
        path,
        {
            "variance_value": verdict.variation,
            "variance_info": "good" if verdict.has_low_variation else " ".join(verdict.advice),
            "smoothness_value": verdict.smoothness,
            "smoothness_info": "good" if verdict.is_smooth else " ".join(verdict.advice),
        },
    )


def write_model_selection_state(
    path: Path, state: SelectionState, *, final_models: int, removed_per_iteration: int
) -> None:
    """Write `MODEL_SELECTION_STATE.json`; trial numbers count from 1 in each iteration, as there."""
    iterations = []
    for iteration in state.iterations:
        place = {number: str(i + 1) for i, number in enumerate(iteration.candidates)}
        kept = iteration.kept if iteration.fraction < 1.0 else ()
        iterations.append(
            {
                "num_trials": len(iteration.candidates),
                "trials_to_retrain": [place[number] for number in kept or ()],
                "search_job_name": "selection",
                "search_job_link": [state.keys[number] for number in iteration.candidates],
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
    """Write `SEARCH_CONTROLLER_STATE.json`."""
    _write(
        path,
        {
            "proxy_tasks_map": {name: _proxy_task(task) for name, task in tasks.items()},
            "best_proxy_task_name": "" if best is None else best.name,
        },
    )


def _proxy_task(task: TaskState) -> dict[str, Any]:
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
            "stopping_state": "" if stopping is None else NEAREST_WORDS.get(stopping, stopping.value),
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
