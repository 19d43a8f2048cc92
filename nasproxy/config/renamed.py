"""Keys and choices of earlier versions, and their present names or what replaces them."""

RENAMED_KEYS = {
    "backend.direction": "metric.mode",
    "backend.max_attempts": "failures.max_attempts",
    "failures.nan": "failures.on_nan",
    "failures.oom_halvings": "failures.max_oom_retries",
    "failures.rate_factor": "failures.learning_rate_factor",
    "job.steps": "job.stages",
    "run": "controller",
    "selection.final_models": "references.initial",
    "selection.models": "references.initial",
    "training.device": "training.accelerator",
    "variance.copies": "variance.seeds",
    "variance.gate": "variance.on_failure",
    "variance.max_smoothness": "variance.max_roughness",
    "variance.min_copies": "variance.min_seeds",
    "variance.workable_fraction": "variance.trainable_fraction",
}
"""New path by old path; a section's entry holds for all its keys."""

REMOVED_KEYS = dict.fromkeys(
    ("proxy_search.planned_tasks", "proxy_search.tasks_planned"),
    "the decision after a sweep (-m) counts the proxy tasks of all its jobs",
)
"""What replaces each key that was removed."""

RENAMED_CHOICES = {
    "criterion/alpha_spending": "criterion=group_sequential",
    "criterion/weak_prior": "criterion=group_sequential",
    "experiment/cloud_tool": "experiment=vertex_baseline",
}
"""Replacement of each file of conf/ that was renamed or removed."""

RENAMED_STAGES = {
    "compare_schedules": "schedule_comparison",
    "confirm": "confirmation",
    "measure_variance": "variance",
    "search_proxy_task": "proxy_search",
    "select_models": "references",
}
"""New name by old name of the stages in `job.stages`."""


def find_new_key(path: str) -> str | None:
    """Find the present path of a renamed key; None for one that never existed.

    >>> find_new_key("run.poll_seconds"), find_new_key("running")
    ('controller.poll_seconds', None)
    """
    for old, new in RENAMED_KEYS.items():
        if path == old or path.startswith(f"{old}."):
            return new + path.removeprefix(old)
    return None


def explain_renamed_key(path: str) -> str | None:
    """Explain how a renamed key is called now, or why a removed one is not needed; None for one that never existed."""
    if path in REMOVED_KEYS:
        return f"{path} does not exist any more: remove it, {REMOVED_KEYS[path]}"
    new = find_new_key(path)
    return None if new is None else f"{path} is named {new} now: set {new} instead"
