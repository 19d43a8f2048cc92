"""Figures of the strategies' expected results and of the ladder."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from nasproxy.report.figures.style import BLACK, BLUE, DPI, GREY, MARKED, VERMILION, WIDE, make_figure
from nasproxy.report.strategies import name_strategy
from nasproxy.stages.study_results import StudyResults
from nasproxy.stages.worth.state import LadderState, StoredRung, WorthState
from nasproxy.trials.records import Check
from nasproxy.trials.spec import to_canonical_json


def draw_worth(worth: WorthState) -> Figure:
    """Draw the expected share of better models over total cost, and two intervals: more would hide each other."""
    figure, axes = make_figure(WIDE)
    banded = {"random"} if worth.recommended is None else {"random", worth.recommended.prospect.strategy}
    names = list(dict.fromkeys(outlook.prospect.strategy for outlook in worth.planned))
    for name, (colour, marker) in zip(names, MARKED, strict=False):
        points = sorted((p for p in worth.curves if p.strategy == name), key=lambda each: each.cost)
        if not points:
            continue
        costs = [point.cost for point in points]
        ranks = [100 * point.rank for point in points]
        low, high = [100 * point.low for point in points], [100 * point.high for point in points]
        label = name_strategy(worth, next(o.prospect for o in worth.planned if o.prospect.strategy == name))
        if name in banded:
            axes.fill_between(costs, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.plot(costs, ranks, color=colour, marker=marker, label=label)
    if worth.recommended is not None:
        best = worth.recommended.prospect
        axes.scatter([best.cost], [100 * best.rank], marker="*", s=110, color=BLACK, zorder=5, label="recommended")
    axes.set(
        xscale="log", yscale="log", xlabel="total cost, full trainings", ylabel="models better than the best found, %"
    )
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axis.set_minor_formatter(NullFormatter())
    figure.legend(loc="outside right center")
    return figure


def draw_ladder(results: StudyResults, ladder: LadderState) -> Figure:
    """Draw the reference models' curves and the scores to reach, one panel for each training that has rungs."""
    tasks = list(dict.fromkeys(rung.proxy_task for rung in ladder.rungs))
    figure = Figure(figsize=WIDE, dpi=DPI)
    panels = figure.subplots(1, max(1, len(tasks)), squeeze=False)[0]
    for axes, task in zip(panels, tasks, strict=False):
        _draw_curves(axes, _list_curves(results, task), ladder.best or 0)
        _draw_rungs(axes, [rung for rung in ladder.rungs if rung.proxy_task == task])
        axes.set(xlabel="step", title=task or "full training")
    panels[0].set(ylabel=results.metric_label)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
    return figure


def _list_curves(results: StudyResults, task: str | None) -> list[Sequence[Check]]:
    """List the checks of the reference models under a proxy task or full training, the best model last."""
    finals = {to_canonical_json(m.architecture): m.score for m in (*results.references, *results.added)}
    keys = results.tasks[task].keys if task else [model.key for model in (*results.references, *results.added)]
    found = [results.trials[key] for key in keys if key in results.trials]
    scores = [(finals.get(to_canonical_json(trial.spec.architecture)), trial.record.checks) for trial in found]
    known = [(results.objective.orient(score), checks) for score, checks in scores if score is not None]
    return [checks for _, checks in sorted(known, key=lambda curve: curve[0])]


def _draw_curves(axes: Any, curves: Sequence[Sequence[Check]], best: int) -> None:
    for place, checks in enumerate(curves):
        is_best = place >= len(curves) - best
        axes.plot(
            [check.step for check in checks],
            [check.score for check in checks],
            color=BLUE if is_best else GREY,
            linewidth=0.8,
            alpha=0.7,
            label={0: "reference models", len(curves) - 1: f"best {best} after\nfull training"}.get(place),
        )


def _draw_rungs(axes: Any, rungs: Sequence[StoredRung]) -> None:
    steps, thresholds = [rung.step for rung in rungs], [rung.threshold for rung in rungs]
    marks = {"linestyle": "", "marker": "_", "markersize": 16, "markeredgewidth": 2.5, "color": VERMILION}
    axes.plot(steps, thresholds, label="score to reach", **marks)
    for rung in rungs:
        axes.annotate(
            f"keeps {100 * rung.share:.0f} %",
            (rung.step, rung.threshold),
            (6, -10),
            textcoords="offset points",
            fontsize=7,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
        )
