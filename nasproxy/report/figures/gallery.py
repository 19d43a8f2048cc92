"""All figures of a report, and their file names, which follow Vertex AI NAS."""

from collections.abc import Iterator

from nasproxy.report.figures.overview import draw_overview
from nasproxy.report.figures.proxy_tasks import draw_correlation, draw_median_score, draw_proxy_against_full
from nasproxy.report.figures.style import Over, Picture, make_picture
from nasproxy.report.figures.variance_and_references import (
    draw_reference_scores,
    draw_schedule_curves,
    draw_selection_scatter,
    draw_variance_curves,
)
from nasproxy.report.figures.worth import draw_ladder, draw_worth
from nasproxy.stages.proxy_search.state import TaskState
from nasproxy.stages.study_results import StudyResults, find_decisive_check


def draw_all(results: StudyResults) -> Iterator[Picture]:
    """Draw every figure for which the study has results."""
    if results.measured is not None:
        yield make_picture(
            "variance_learning_curves", "Learning curves of one model with several seeds", draw_variance_curves, results
        )
    if results.schedules is not None:
        alt = "Learning curves of one model under each learning-rate schedule, without and with weight averaging"
        yield make_picture("schedules", alt, draw_schedule_curves, results)
    for number, iteration in enumerate(results.selection.iterations if results.selection else (), start=1):
        if iteration.kept is not None and (
            number > 1 or iteration.fraction < 1.0
        ):  # otherwise `draw_reference_scores` shows the same scores
            alt = f"Scores of the candidates in iteration {number}: kept, removed and failed"
            yield make_picture(name_selection(number), alt, draw_selection_scatter, results, iteration)
    if results.references:
        yield make_picture(
            "reference_scores", "Scores of reference models and baseline model", draw_reference_scores, results
        )
    judged = [task for task in results.tasks.values() if task.checks]
    if judged:
        yield make_picture(
            "proxy_tasks_overview", "Tau and training time of all proxy tasks", draw_overview, results, judged
        )
    if results.worth is not None and results.worth.recommended is not None:
        alt = "Expected share of better models over total cost, for each strategy"
        yield make_picture("worth", alt, draw_worth, results.worth)
    if results.ladder is not None and results.ladder.rungs:
        alt = "Learning curves of the reference models with the thresholds of the ladder"
        yield make_picture("ladder", alt, draw_ladder, results, results.ladder)
    for task in judged:
        yield from _draw_task(results, task)


def name_selection(number: int) -> str:
    """Return the name of the figure of a selection's iteration, counted from 1."""
    return f"filtered_trial_scores_iteration_{number}"


def name_task(task: TaskState) -> list[str]:
    """Return the names of a proxy task's figures, in order."""
    prefix, check = f"proxy_task_{task.name}_accuracy", find_decisive_check(task)
    kinds = [f"{kind}vs_{over.value}" for kind in ("correlation_", "") for over in Over]
    return [f"{prefix}_{kind}" for kind in kinds] + (
        [] if check is None else [f"{prefix}_correlation_at_step_{check.step}"]
    )


def _draw_task(results: StudyResults, task: TaskState) -> Iterator[Picture]:
    names = iter(name_task(task))
    for over in Over:
        alt = f"Tau of {task.name} over {over.value.replace('_', ' ')}"
        yield make_picture(next(names), alt, draw_correlation, results, task, over)
    for over in Over:
        alt = f"Median score of {task.name} over {over.value.replace('_', ' ')}"
        yield make_picture(next(names), alt, draw_median_score, results, task, over)
    yield make_picture(
        next(names), f"Proxy and full-training scores of {task.name}", draw_proxy_against_full, results, task
    )
