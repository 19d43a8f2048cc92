"""Every picture of a report, and the names of their files, which are those that the cloud tool gives them."""

from collections.abc import Iterator

from nasproxy.report.figures.overview import overview
from nasproxy.report.figures.proxy_tasks import correlation, median_score, proxy_against_full
from nasproxy.report.figures.style import Over, Picture, picture
from nasproxy.report.figures.variance_and_references import (
    reference_scores,
    schedule_curves,
    selection_scatter,
    variance_curves,
)
from nasproxy.stages.proxy_search.state import TaskState
from nasproxy.stages.study_results import Findings, decided_at


def draw_all(findings: Findings) -> Iterator[Picture]:
    """Draw every picture that the study has the numbers for."""
    if findings.measured is not None:
        yield picture("variance_learning_curves", "Learning curves of one model's seeds", variance_curves, findings)
    if findings.schedules is not None:
        alt = "Learning curves of one model under each schedule, without smoothed weights and with"
        yield picture("schedules", alt, schedule_curves, findings)
    for number, iteration in enumerate(findings.selection.iterations if findings.selection else (), start=1):
        if iteration.kept is not None and (number > 1 or iteration.fraction < 1.0):  # else `reference_scores` has it
            alt = f"Scores of the candidates in iteration {number}, kept, dropped and failed"
            yield picture(selection_name(number), alt, selection_scatter, findings, iteration)
    if findings.references:
        yield picture("reference_scores", "Reference scores beside the baseline model's", reference_scores, findings)
    judged = [task for task in findings.tasks.values() if task.checks]
    if judged:
        yield picture("proxy_tasks_overview", "Tau and cost of all proxy tasks", overview, findings, judged)
    for task in judged:
        yield from _draw_task(findings, task)


def selection_name(number: int) -> str:
    """Name of the picture of a selection's iteration, counted from 1."""
    return f"filtered_trial_scores_iteration_{number}"


def task_names(task: TaskState) -> list[str]:
    """Names of a proxy task's pictures, in order."""
    prefix, check = f"proxy_task_{task.name}_accuracy", decided_at(task)
    kinds = [f"{kind}vs_{over.value}" for kind in ("correlation_", "") for over in Over]
    return [f"{prefix}_{kind}" for kind in kinds] + (
        [] if check is None else [f"{prefix}_correlation_at_step_{check.step}"]
    )


def _draw_task(findings: Findings, task: TaskState) -> Iterator[Picture]:
    names = iter(task_names(task))
    for over in Over:
        alt = f"Tau of {task.name} over {over.value.replace('_', ' ')}"
        yield picture(next(names), alt, correlation, findings, task, over)
    for over in Over:
        alt = f"Median score of {task.name} over {over.value.replace('_', ' ')}"
        yield picture(next(names), alt, median_score, findings, task, over)
    yield picture(next(names), f"Proxy and full-training scores of {task.name}", proxy_against_full, findings, task)
