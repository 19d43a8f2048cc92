"""Advice on proxy tasks that reduce less, written so that the study's own configuration accepts it."""

import shlex
from collections.abc import Mapping

from nasproxy.stages.proxy_search.state import TaskOrigin, TaskState
from nasproxy.stages.study_results import StudyResults
from nasproxy.trials.grid import read_task

REDUCIBLE = ("data_fraction", "width", "depth", "image_size")
"""Dimensions whose value 1 reduces nothing, in the order in which a milder value is suggested."""
NEUTRAL = {**dict.fromkeys(REDUCIBLE, 1.0), "compound": 0.0}
"""Value of each axis that reduces nothing."""
DIGITS = 3


def advise_milder_tasks(results: StudyResults) -> str:
    """Advise proxy tasks that reduce less, in the way in which the study's tasks were given."""
    origin = results.origin or TaskOrigin()
    if origin.kind == "table":
        return (
            "Add rows of proxy tasks that reduce less to the table, and replay it under another name (study=NAME): a "
            "study keeps its table."
        )
    if origin.kind == "generator":
        return (
            "Let the function of proxy.generator also return proxy tasks that reduce less, and run the command again: "
            "finished trials are reused."
        )
    example = _suggest_task(results.tasks) if origin.kind == "tasks" else _suggest_axis(origin.axes)
    such = "" if example is None else f", such as {shlex.quote(example)},"
    where = " in the list proxy.tasks" if origin.kind == "tasks" and example is None else ""
    return f"Add proxy tasks that reduce less{such}{where} to the same study: finished trials are reused."


def _suggest_axis(axes: Mapping[str, tuple[float | str, ...]]) -> str | None:
    """Suggest milder values of an axis that the grid has; None if none of its axes reduces a model or the data."""
    for name, neutral in NEUTRAL.items():
        reduced = [value for value in axes.get(name, ()) if not isinstance(value, str) and value < neutral]
        if reduced:
            return f"proxy.{name}=[{_move_towards(max(reduced), neutral):g},{neutral}]"
    return None


def _suggest_task(tasks: Mapping[str, TaskState]) -> str | None:
    """Suggest an entry of `proxy.tasks` that reduces one dimension less; None if no task reduces any."""
    for name in REDUCIBLE:
        reduced = [value for task in tasks.values() if (value := getattr(task.proxy_task, name)) < 1]
        if reduced:
            value = _move_towards(max(reduced), 1.0)
            return f"proxy.tasks=[{{name: {_find_free_name(name, value, tasks)}, {name}: {value:g}}}]"
    return None


def _move_towards(value: float, neutral: float) -> float:
    return round((value + neutral) / 2, DIGITS)


def _find_free_name(dimension: str, value: float, tasks: Mapping[str, TaskState]) -> str:
    """Find a name that no proxy task of the study has."""
    name = read_task({dimension: value})[0] or dimension
    others = (f"{name}_{number}" for number in range(2, len(tasks) + 3))
    return next(free for free in (name, *others) if free not in tasks)
