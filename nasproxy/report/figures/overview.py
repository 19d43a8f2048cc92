"""Overview figure of all proxy tasks: tau over training time, outcomes, and training time per model."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from nasproxy.cost.account import measure_train_saving
from nasproxy.report import wording
from nasproxy.report.figures.style import BLACK, BLUE, DPI, GREY, ORANGE, SERIES, VERMILION, WIDE, draw_bounds
from nasproxy.report.task_outcomes import TaskOutcome, get_outcome
from nasproxy.stages.proxy_search.state import TaskState
from nasproxy.stages.study_results import StudyResults, find_decisive_check, read_target

RING = {"marker": "o", "facecolors": "none", "edgecolors": BLACK, "s": 70, "linewidths": 1.2}
CROSS = {"marker": "x", "color": BLACK, "s": 85, "linewidths": 1.0}
SQUARE = {"marker": "s", "facecolors": "none", "edgecolors": VERMILION, "s": 65, "linewidths": 1.3}
ENDS: dict[TaskOutcome, dict[str, Any]] = {
    TaskOutcome.CHOSEN: RING,
    TaskOutcome.ACCEPTED: RING,
    TaskOutcome.DROPPED: CROSS,
    TaskOutcome.TIMED_OUT: CROSS,
    TaskOutcome.REJECTED: SQUARE,
    TaskOutcome.INCONCLUSIVE: SQUARE,
}
"""Markers at the end of a curve; unmarked tasks are not finished or could not be judged."""
BARS: dict[TaskOutcome, dict[str, Any]] = {
    TaskOutcome.CHOSEN: {"color": BLUE},
    TaskOutcome.ACCEPTED: {"color": BLUE, "alpha": 0.45},
    TaskOutcome.DROPPED: {"color": "#E8E8E8", "hatch": "////", "edgecolor": GREY},
    TaskOutcome.REJECTED: {"color": "#FBE3D6", "hatch": "xxxx", "edgecolor": VERMILION},
    TaskOutcome.INCONCLUSIVE: {"color": "#FBEBCB", "hatch": "....", "edgecolor": ORANGE},
}
OTHER_BAR = {"color": "#E8E8E8"}


def draw_overview(results: StudyResults, tasks: Sequence[TaskState]) -> Figure:
    """Draw tau of all proxy tasks over training time, and training time per model."""
    height = max(WIDE[1] + 0.3, 0.24 * len(tasks) + 2.2)
    figure = Figure(figsize=(WIDE[0], height), dpi=DPI)
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
    _draw_taus(left, results, tasks)
    _draw_training_times(right, results, tasks)
    figure.legend(loc="outside lower center", ncols=4, columnspacing=1.2)
    return figure


def _draw_taus(axes: Any, results: StudyResults, tasks: Sequence[TaskState]) -> None:
    longest = max(check.rated_seconds for task in tasks for check in task.checks)
    size, unit = wording.choose_time_unit(longest)
    ends: list[tuple[float, float, TaskOutcome]] = []
    for (dashes, (colour, marker)), task in zip(itertools.cycle(SERIES), tasks, strict=False):
        known = [(c.rated_seconds / size, c.correlation.tau) for c in task.checks if c.correlation is not None]
        if not known:
            continue
        x, taus = zip(*known, strict=True)
        axes.plot(x, taus, dashes, color=colour, marker=marker, markersize=2.5, label=task.name)
        ends.append((x[-1], taus[-1], get_outcome(results, task)))
        # in front of the outcome's mark, which would hide whose it is
        axes.plot(x[-1:], taus[-1:], color=colour, marker=marker, markersize=3.5, zorder=6)
    _mark_ends(axes, ends)
    full = list(results.full_training_curve())
    if full:
        places, own = [seconds / size for _, seconds, _ in full], [found.tau for _, _, found in full]
        axes.plot(places, own, ":", color=BLACK, label="full training vs its final scores (optimistic)")
    draw_bounds(axes, read_target(tasks[0]), results.ceiling)
    _mark_end_of_race(axes, results, size)
    axes.set(xlabel=f"rated training time ({unit})", ylabel="rank correlation (tau-b)", ylim=(None, 1.08))
    axes.set_xlim(0, 1.1 * longest / size)


def _mark_ends(axes: Any, ends: Sequence[tuple[float, float, TaskOutcome]]) -> None:
    """Mark the outcome at the end of each curve, with one legend entry per outcome after those of the curves."""
    marked: set[str] = set()
    for x, tau, outcome in ends:
        if outcome in ENDS:
            name = "accepted" if outcome.is_accepted else outcome.value
            axes.scatter([x], [tau], zorder=5, label=None if name in marked else name, **ENDS[outcome])
            marked.add(name)


def _mark_end_of_race(axes: Any, results: StudyResults, size: float) -> None:
    """Mark the end of the race, from where on no other task could be cheaper."""
    best = results.best
    if best is None or best.final_rated_seconds is None:
        return
    label = "chosen" if results.policy == "sequential" else "end of the race"
    place = best.final_rated_seconds / size
    axes.axvline(place, color=BLACK, linewidth=0.8, alpha=0.6, zorder=1)
    axes.annotate(
        label,
        (place, 0.02),
        xycoords=("data", "axes fraction"),
        xytext=(3, 0),
        textcoords="offset points",
        rotation=90,
        fontsize=6.5,
        color="#404040",
        va="bottom",
    )


def _draw_training_times(axes: Any, results: StudyResults, tasks: Sequence[TaskState]) -> None:
    rows = [(task, check.median_train_seconds) for task in tasks if (check := find_decisive_check(task)) is not None]
    rows.sort(key=lambda row: row[1])
    full = [reference.train_seconds for reference in results.references]
    longest = max([seconds for _, seconds in rows] + ([float(np.median(full))] if full else []))
    size, unit = wording.choose_time_unit(longest)
    for place, (task, seconds) in enumerate(rows):
        outcome = get_outcome(results, task)
        axes.barh(place, seconds / size, height=0.65, linewidth=0, **BARS.get(outcome, OTHER_BAR))
        saving = measure_train_saving(results, task) if outcome.is_accepted else None
        note = outcome.value if saving is None else f"{outcome.value}, speedup {wording.format_speedup(saving.ratio)}"
        axes.annotate(note, (seconds / size, place), (3, 0), textcoords="offset points", va="center", fontsize=6.5)
    names = [task.name for task, _ in rows]
    if full:
        axes.barh(len(rows), float(np.median(full)) / size, height=0.65, color=BLACK)
        names.append("full training")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel=f"training time per model ({unit})")
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.12)
    axes.invert_yaxis()
