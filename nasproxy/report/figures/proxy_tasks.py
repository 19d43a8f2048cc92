"""Figures of one proxy task: tau at every look, median score, and proxy against full-training scores."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from nasproxy.report import wording
from nasproxy.report.added_references import list_growths
from nasproxy.report.figures.style import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    SKY,
    SMALL,
    TALL,
    VERMILION,
    Over,
    draw_bounds,
    make_figure,
)
from nasproxy.report.task_outcomes import TaskOutcome, get_outcome
from nasproxy.stages.proxy_search.state import TaskCheck, TaskState
from nasproxy.stages.study_results import StudyResults, find_decisive_check, read_target
from nasproxy.statistics.missing import Floats

MANY_LOOKS = 40
"""Number of looks from which on small markers are used, so that they do not overlap."""


def draw_correlation(results: StudyResults, task: TaskState, over: Over) -> Figure:
    """Draw tau at each look with the acceptance threshold, the noise ceiling and the deciding look."""
    figure, axes = make_figure(TALL)
    x, label = _locate_checks(task.checks, over)
    taus, lows, highs = (_read_correlations(task.checks, end) for end in ("tau", "low", "high"))
    width = 6.0 if len(x) == 1 else 0.0  # the band of a single look would have no width
    axes.fill_between(x, lows, highs, color=BLUE, alpha=0.15, linewidth=width, label="95 % CI")
    size = 3.5 if len(x) < MANY_LOOKS else 1.8
    axes.plot(x, taus, color=BLUE, marker="o", markersize=size, label="tau-b at each look")
    _draw_thresholds(axes, x, task)
    draw_bounds(axes, None if _has_constant_threshold(task) else read_target(task), results.ceiling)
    _mark_additions(axes, x, task)
    _mark_decision(axes, x, results, task)
    limits = [check.lower_limit for check in task.checks if check.lower_limit is not None]
    floor = min([0.0, *lows[np.isfinite(lows)].tolist(), *limits])
    axes.set(xlabel=label, ylabel="rank correlation (tau-b)", ylim=(min(-0.1, floor - 0.05), 1.08))
    axes.set_xlim(left=0)
    axes.set_title(task.name)
    figure.legend(loc="outside lower center", ncols=2, columnspacing=1.0, labelspacing=0.3)
    return figure


def draw_median_score(results: StudyResults, task: TaskState, over: Over) -> Figure:
    """Draw the median score of a proxy task's models at each check."""
    figure, axes = make_figure(SMALL)
    x, label = _locate_checks(task.checks, over)
    axes.plot(x, [check.median_score for check in task.checks], color=BLUE, marker="s", label="proxy task")
    if results.references:
        full = float(np.median([reference.score for reference in results.references]))
        axes.axhline(full, color=BLACK, linestyle=":", label=f"full training: {full:.4g}")
    axes.set(xlabel=label, ylabel=f"median {results.metric_label}")
    axes.set_xlim(left=0)
    axes.set_title(task.name)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def draw_proxy_against_full(results: StudyResults, task: TaskState) -> Figure:
    """Draw each model's proxy score at the deciding check against its full-training score."""
    figure, axes = make_figure(SMALL)
    check = find_decisive_check(task)
    assert check is not None
    scores, name = results.scores_at(task, check.step), results.metric_label
    style: dict[str, Any] = {"color": BLUE, "ecolor": GREY, "elinewidth": 0.8}
    axes.errorbar(
        scores.reference,
        scores.proxy,
        xerr=results.seed_sd,
        fmt="o",
        label="model" if results.seed_sd is None else "model \N{PLUS-MINUS SIGN} 1 seed SD",
        **style,
    )
    if scores.has_failed.any():
        worst, marker = (0.0, "v") if results.objective.mode == "max" else (1.0, "^")
        failed = {"color": VERMILION, "marker": marker, "s": 20, "clip_on": False}
        x = scores.reference[scores.has_failed]
        axes.scatter(
            x, np.full(x.size, worst), transform=axes.get_xaxis_transform(), label="failed, ranked last", **failed
        )
    shown = check.correlation
    found = (
        "tau undefined"
        if shown is None
        else f"tau {wording.format_tau(shown.tau)}, {wording.format_count(shown.n, 'model')}"
    )
    axes.set(
        xlabel=f"{name}, full training", ylabel=f"{name}, proxy task", title=f"{task.name}, step {check.step}: {found}"
    )
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _read_correlations(checks: Sequence[TaskCheck], name: str) -> Floats:
    return np.array([np.nan if c.correlation is None else getattr(c.correlation, name) for c in checks], dtype=float)


def _locate_checks(checks: Sequence[TaskCheck], over: Over) -> tuple[list[float], str]:
    """Return the x coordinates of checks, and the label of the x axis."""
    if over is Over.STEPS:
        return [float(check.step) for check in checks], "training steps"
    seconds = [check.median_train_seconds for check in checks]
    size, unit = wording.choose_time_unit(max(seconds))
    return [second / size for second in seconds], f"median training time ({unit})"


def _has_constant_threshold(task: TaskState) -> bool:
    """Return whether the acceptance threshold is the target at every check, so that one line shows both."""
    return all(check.needed is not None and check.needed == read_target(task) for check in task.checks)


def _draw_thresholds(axes: Any, x: Sequence[float], task: TaskState) -> None:
    thresholds, limits = (
        np.array([np.nan if (value := getattr(check, name)) is None else value for check in task.checks])
        for name in ("needed", "lower_limit")
    )
    if np.isfinite(thresholds).any():
        axes.step(x, thresholds, where="mid", color=VERMILION, linewidth=1.1, label="acceptance threshold")
        if len(x) == 1:  # a step line through a single point is invisible
            axes.plot(x, thresholds, "_", color=VERMILION, markersize=12)
    if np.isfinite(limits).any():
        style = {"color": SKY, "linestyle": "--", "linewidth": 1.0, "marker": "." if len(x) == 1 else ""}
        axes.plot(x, limits, label="lower confidence bound", **style)


def _mark_additions(axes: Any, x: Sequence[float], task: TaskState) -> None:
    """Mark the looks at which reference models were added, with their number."""
    for number, (check, before, after) in enumerate(list_growths(task)):
        place = x[task.checks.index(check)]
        name = "reference models added" if number == 0 else None
        axes.axvline(place, color=ORANGE, linewidth=0.9, linestyle=(0, (1, 1.5)), zorder=1, label=name)
        axes.annotate(
            f"+{after - before}",
            (place, 0.01),
            xycoords=("data", "axes fraction"),
            xytext=(-1.5, 0),
            textcoords="offset points",
            ha="right",
            fontsize=7,
            color="#A85100",
            va="bottom",
        )


def _mark_decision(axes: Any, x: Sequence[float], results: StudyResults, task: TaskState) -> None:
    check = find_decisive_check(task)
    if check is None or check.correlation is None:
        return
    outcome = get_outcome(results, task)
    is_open = outcome in (TaskOutcome.RUNNING, TaskOutcome.OTHER_SETTINGS)
    words = "last look" if is_open else "accepted" if outcome.is_accepted else outcome.value
    ring = {"s": 60, "facecolors": "none", "edgecolors": BLACK, "linewidths": 1.2, "zorder": 4}
    place, tau = x[task.checks.index(check)], check.correlation.tau
    axes.scatter([place], [tau], label=f"{words}: tau {wording.format_tau(tau)}", **ring)
