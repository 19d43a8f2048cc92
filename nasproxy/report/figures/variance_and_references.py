"""Figures of the first two stages: seed noise, compared schedules, selection and reference models."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nasproxy.report import wording
from nasproxy.report.figures.style import BLACK, BLUE, DPI, ORANGE, SERIES, SMALL, STYLE, VERMILION, WIDE, make_figure
from nasproxy.stages.references.selection import sort_best_first
from nasproxy.stages.references.state import Iteration
from nasproxy.stages.schedule_comparison.state import ScheduleCurve
from nasproxy.stages.study_results import StudyResults

LEARNING_RATE = "learning_rate"
"""Metric with the learning rate of the last step before a check."""


def draw_variance_curves(results: StudyResults) -> Figure:
    """Draw learning curves of one model under several seeds: the whole training, and its last third enlarged."""
    result = results.measured
    assert result is not None
    figure = Figure(figsize=WIDE, dpi=DPI)
    whole, end = figure.subplots(1, 2)
    records = [
        (results.trials[key].spec.seed, results.trials[key].record) for key in result.keys if key in results.trials
    ]
    for (dashes, (colour, marker)), (seed, record) in zip(SERIES, records, strict=False):
        steps, scores = [check.step for check in record.checks], [check.score for check in record.checks]
        late = slice(2 * len(steps) // 3, None)
        whole.plot(steps, scores, dashes, color=colour, marker=marker, label=f"seed {seed}")
        end.plot(steps[late], scores[late], dashes, color=colour, marker=marker)
    mean, deviation = float(np.mean(result.final_scores)), result.deviation
    end.axhspan(
        mean - deviation.sd,
        mean + deviation.sd,
        color=BLACK,
        alpha=0.08,
        linewidth=0,
        label="mean \N{PLUS-MINUS SIGN} SD of final scores",
    )
    whole.set(xlabel="training steps", ylabel=results.metric_label, title="whole training")
    end.set(xlabel="training steps", title="last third")
    end.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    verdict = result.verdict
    figure.suptitle(
        f"CV {wording.format_number(verdict.variation, 3)}, roughness "
        f"{wording.format_number(verdict.roughness, 3)}, seed SD "
        f"{deviation.sd:.3g} (95 % CI {deviation.low:.3g} to {deviation.high:.3g}, {deviation.n} seeds)",
        fontsize=STYLE["font.size"],
    )
    if any(axes.get_legend_handles_labels()[0] for axes in figure.axes):
        figure.legend(loc="outside lower center", ncols=6)
    return figure


def draw_schedule_curves(results: StudyResults) -> Figure:
    """Draw learning curves of one model under each schedule, a panel per kind of weight averaging, and the rates."""
    assert results.schedules is not None
    curves = [curve for curve in results.schedules.curves if curve.key in results.trials]
    smoothings = list(dict.fromkeys(curve.smoothing for curve in curves))
    styles = dict(zip(dict.fromkeys(curve.schedule for curve in curves), itertools.cycle(SERIES), strict=False))
    has_rates = any(_list_rates(results, curve) for curve in curves)
    panels = len(smoothings) + has_rates
    rows = math.ceil(panels / 2)
    figure = Figure(figsize=(WIDE[0], WIDE[1] * rows), dpi=DPI)
    every = [figure.add_subplot(rows, min(panels, 2), place + 1) for place in range(panels)]
    for axes, smoothing in zip(every, smoothings, strict=False):
        if axes is not every[0]:
            axes.sharey(every[0])
        for curve in (curve for curve in curves if curve.smoothing == smoothing):
            checks = results.trials[curve.key].record.checks
            points = [(check.step, check.score) for check in checks]
            _draw_schedule(axes, points, styles[curve.schedule], f"{curve.schedule} ({_label_curve(curve)})")
        weights = "no weight averaging" if smoothing == "none" else f"weight averaging: {smoothing}"
        axes.set(xlabel="training steps", ylabel=results.metric_label, title=weights)
        axes.legend(loc="lower right")
    if has_rates:
        for schedule, style in styles.items():
            shown = next(curve for curve in curves if curve.schedule == schedule)
            _draw_schedule(every[-1], _list_rates(results, shown), style, schedule)
        every[-1].set(xlabel="training steps", ylabel="learning rate", title="learning rate at each check")
        every[-1].legend(loc="center right")
    return figure


def _draw_schedule(axes: Any, points: Sequence[tuple[int, float]], style: Any, label: str) -> None:
    dashes, (colour, marker) = style
    steps, values = [step for step, _ in points], [value for _, value in points]
    axes.plot(steps, values, dashes, color=colour, marker=marker, label=label)


def _label_curve(curve: ScheduleCurve) -> str:
    if curve.score is None:
        return "failed"
    score, change = wording.format_number(curve.score, 3), wording.format_number(curve.late_change, 2)
    return f"{score}, late change {change}"


def _list_rates(results: StudyResults, curve: ScheduleCurve) -> list[tuple[int, float]]:
    """List the learning rate at each check, if the trainer reported it."""
    checks = results.trials[curve.key].record.checks
    return [(check.step, rate) for check in checks if (rate := check.metrics.get(LEARNING_RATE)) is not None]


def draw_selection_scatter(results: StudyResults, iteration: Iteration) -> Figure:
    """Draw the candidates of one iteration by score at the deciding check; failed ones are drawn in a strip apart."""
    figure, axes = make_figure(SMALL)
    kept_label = "reference model" if iteration.fraction == 1.0 else "kept"
    groups = (
        (iteration.kept or (), kept_label, {"color": BLUE, "marker": "o"}),
        (iteration.removed, "removed: too similar", {"color": ORANGE, "marker": "x"}),
    )
    for numbers, label, style in groups:
        points = [(score, n) for n in numbers if (score := _find_candidate_score(results, n, iteration)) is not None]
        if points:
            axes.scatter(*zip(*points, strict=True), label=f"{label} ({len(points)})", s=18, linewidths=1.2, **style)
    if iteration.failed:
        _draw_failed_candidates(axes, iteration.failed)
    axes.set(xlabel=f"{results.metric_label} at step {iteration.until_step}", ylabel="candidate number")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_title(f"{len(iteration.candidates)} models after {100 * iteration.fraction:.3g} % of training")
    figure.legend(loc="outside lower center", ncols=3, handletextpad=0.2, columnspacing=1.0)
    return figure


def draw_reference_scores(results: StudyResults) -> Figure:
    """Draw full-training scores with seed noise, best first, and the baseline model's score."""
    figure, axes = make_figure(WIDE)
    models = list(sort_best_first((*results.references, *results.added), results.objective))
    sd = results.seed_sd
    noise = "" if sd is None else f" \N{PLUS-MINUS SIGN} 1 seed SD ({sd:.2g})"
    style: dict[str, Any] = {"fmt": "o", "color": BLACK, "elinewidth": 1, "capsize": 2.5}
    for group, label, face in (
        (results.references, f"reference model{noise}", BLACK),
        (results.added, "added after an inconclusive look", "white"),
    ):
        if group:
            ranks = [models.index(model) + 1 for model in group]
            axes.errorbar(ranks, [m.score for m in group], yerr=sd, label=label, markerfacecolor=face, **style)
    baseline = results.selection.baseline if results.selection else None
    if baseline is not None:
        axes.axhline(baseline.score, color=VERMILION, linestyle="--", label=f"baseline model ({baseline.score:.4g})")
        if sd is not None:
            axes.axhspan(baseline.score - sd, baseline.score + sd, color=VERMILION, alpha=0.12, linewidth=0)
    axes.set(
        xlabel="reference model, by rank",
        ylabel=f"{results.metric_label} of full training",
        xticks=range(1, len(models) + 1),
    )
    axes.legend(loc="best")
    return figure


def _draw_failed_candidates(axes: Any, numbers: Sequence[int]) -> None:
    """Draw candidates without a score in a strip of their own, so that they are not read as low scores."""
    strip = 0.1
    low, high = axes.get_xlim()
    axes.set_xlim(low - (high - low) * strip / (1 - strip), high)
    place = axes.get_yaxis_transform()
    axes.axvspan(0, strip, transform=axes.transAxes, color=VERMILION, alpha=0.1, linewidth=0)
    style = {"color": VERMILION, "marker": "v", "s": 20, "transform": place}
    axes.scatter([strip / 2] * len(numbers), numbers, label=f"failed, no score ({len(numbers)})", **style)


def _find_candidate_score(results: StudyResults, number: int, iteration: Iteration) -> float | None:
    assert results.selection is not None
    trial = results.trials.get(results.selection.keys[number])
    check = None if trial is None else trial.record.check_at(iteration.until_step)
    return None if check is None else check.score
