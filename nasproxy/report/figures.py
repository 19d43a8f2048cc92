"""The report's pictures, in one style: from what a study knows to figures that may go into a paper's appendix.

Blue is the proxy, black full training, orange a target or what was dropped, green what noise allows. Colours after
Okabe and Ito (2008), told apart with any colour vision; markers and dashes tell them apart in print.
"""

import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nasproxy.controllers.states import Iteration, TaskCheck, TaskState
from nasproxy.report import wording
from nasproxy.report.costs import train_saving
from nasproxy.report.findings import Findings, decided_at, target
from nasproxy.statistics.ceiling import NoiseCeiling

BLACK, BLUE, SKY, GREEN = "#000000", "#0072B2", "#56B4E9", "#009E73"
ORANGE, VERMILION, PURPLE, GREY = "#E69F00", "#D55E00", "#CC79A7", "#8C8C8C"
MARKED = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "D"), (PURPLE, "^"), (SKY, "v"), (VERMILION, "P"))
SERIES = tuple(itertools.product(("-", "--", ":"), MARKED))
SMALL, WIDE = (3.5, 2.8), (7.2, 3.1)
DPI = 200
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.5,
    "figure.constrained_layout.use": True,
    "text.parse_math": False,
}


class Over(str, Enum):
    """What a curve is drawn over; the end of its file's name."""

    STEPS = "training_steps"
    TIME = "training_time"


@dataclass(frozen=True)
class Picture:
    """A drawn figure.

    Attributes:
        name: Its file's name.
        alt: What it shows, for those who do not see it.
        png: The image.
    """

    name: str
    alt: str
    png: bytes


def draw_all(findings: Findings) -> Iterator[Picture]:
    """Draw every picture that the study has the numbers for."""
    if findings.measured is not None:
        yield _picture("variance_learning_curves", "Learning curves of one model's seeds", variance_curves, findings)
    for number, iteration in enumerate(findings.selection.iterations if findings.selection else (), start=1):
        if iteration.kept is not None:
            alt = f"Scores of the candidates in iteration {number}, kept, dropped and failed"
            yield _picture(selection_name(number), alt, selection_scatter, findings, iteration)
    if findings.references:
        yield _picture("reference_scores", "Reference scores beside the baseline model's", reference_scores, findings)
    judged = [task for task in findings.tasks.values() if task.checks]
    if judged:
        yield _picture("proxy_tasks_overview", "Tau and cost of all proxy tasks", overview, findings, judged)
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


def variance_curves(findings: Findings) -> Figure:
    """Learning curves of one model's seeds, whole and, where they lie too close to be told apart, their end."""
    result = findings.measured
    assert result is not None
    figure = Figure(figsize=WIDE, dpi=DPI)
    whole, end = figure.subplots(1, 2)
    records = [
        (findings.trials[key].spec.seed, findings.trials[key].record) for key in result.keys if key in findings.trials
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
        label="mean \N{PLUS-MINUS SIGN} SD of the final scores",
    )
    whole.set(xlabel="training steps", ylabel="score", title="whole training")
    end.set(xlabel="training steps", title="last third")
    verdict = result.verdict
    figure.suptitle(
        f"CV {wording.number(verdict.variation, 3)}, smoothness {wording.number(verdict.smoothness, 3)}, seed SD "
        f"{deviation.sd:.3g} (95 % interval {deviation.low:.3g} to {deviation.high:.3g}, {deviation.n} seeds)",
        fontsize=STYLE["font.size"],
    )
    if any(axes.get_legend_handles_labels()[0] for axes in figure.axes):
        figure.legend(loc="outside lower center", ncols=6)
    return figure


def selection_scatter(findings: Findings, iteration: Iteration) -> Figure:
    """Candidates of one iteration by their scores at the deciding check; who failed has none and stands apart."""
    figure, axes = _figure(SMALL)
    kept_label = "reference model" if iteration.fraction == 1.0 else "kept"
    groups = (
        (iteration.kept or (), kept_label, {"color": BLUE, "marker": "o"}),
        (iteration.removed, "dropped: like another", {"color": ORANGE, "marker": "x"}),
    )
    for numbers, label, look in groups:
        points = [(score, n) for n in numbers if (score := _candidate_score(findings, n, iteration)) is not None]
        if points:
            axes.scatter(*zip(*points, strict=True), label=f"{label} ({len(points)})", s=18, linewidths=1.2, **look)
    if iteration.failed:
        _draw_failed_candidates(axes, iteration.failed)
    axes.set(xlabel=f"score at step {iteration.until_step}", ylabel="candidate's number")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_title(f"{len(iteration.candidates)} models to {100 * iteration.fraction:.3g} % of training")
    figure.legend(loc="outside lower center", ncols=3, handletextpad=0.2, columnspacing=1.0)
    return figure


def reference_scores(findings: Findings) -> Figure:
    """Full-training scores, best first, with seed noise, beside the baseline model's."""
    figure, axes = _figure(WIDE)
    scores, sd = [reference.score for reference in findings.references], findings.seed_sd
    ranks = np.arange(1, len(scores) + 1)
    noise = "" if sd is None else f", \N{PLUS-MINUS SIGN} one seed SD ({sd:.2g})"
    axes.errorbar(ranks, scores, yerr=sd, fmt="o", color=BLACK, elinewidth=1, capsize=2.5, label=f"reference{noise}")
    baseline = findings.selection.baseline if findings.selection else None
    if baseline is not None:
        axes.axhline(baseline.score, color=VERMILION, linestyle="--", label=f"baseline model ({baseline.score:.4g})")
        if sd is not None:
            axes.axhspan(baseline.score - sd, baseline.score + sd, color=VERMILION, alpha=0.12, linewidth=0)
    axes.set(xlabel="reference model, best first", ylabel="full-training score", xticks=ranks)
    axes.legend(loc="best")
    return figure


def correlation(findings: Findings, task: TaskState, over: Over) -> Figure:
    """Tau of a proxy task at each check, with target, noise ceiling and the deciding check."""
    figure, axes = _figure(SMALL)
    x, label = _places(task.checks, over)
    taus, lows, highs = (
        np.array([np.nan if c.correlation is None else getattr(c.correlation, end) for c in task.checks])
        for end in ("tau", "low", "high")
    )
    axes.fill_between(x, lows, highs, color=BLUE, alpha=0.15, linewidth=0, label="95 % interval")
    axes.plot(x, taus, color=BLUE, marker="o", label="tau-b")
    _draw_bounds(axes, target(task), findings.ceiling)
    check = decided_at(task)
    if check is not None and check.correlation is not None:
        place = x[task.checks.index(check)]
        ring = {"s": 60, "facecolors": "none", "edgecolors": BLACK, "linewidths": 1.2, "zorder": 4}
        what = "accepted" if task.stopping_state is not None and task.stopping_state.is_success else "last check"
        axes.scatter([place], [check.correlation.tau], label=f"{what}: {wording.tau(check.correlation.tau)}", **ring)
    floor = np.nanmin(lows) if np.isfinite(lows).any() else 0.0
    axes.set(xlabel=label, ylabel="rank correlation (tau-b)", ylim=(min(-0.1, floor - 0.05), 1.05))
    axes.set_xlim(left=0)
    axes.set_title(task.name)
    figure.legend(loc="outside lower center", ncols=3, columnspacing=1.0)
    return figure


def median_score(findings: Findings, task: TaskState, over: Over) -> Figure:
    """Median score of a proxy task's models at each check."""
    figure, axes = _figure(SMALL)
    x, label = _places(task.checks, over)
    axes.plot(x, [check.median_score for check in task.checks], color=BLUE, marker="s", label="proxy task")
    if findings.references:
        full = float(np.median([reference.score for reference in findings.references]))
        axes.axhline(full, color=BLACK, linestyle=":", label=f"full training: {full:.4g}")
    axes.set(xlabel=label, ylabel="median score")
    axes.set_xlim(left=0)
    axes.set_title(task.name)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def proxy_against_full(findings: Findings, task: TaskState) -> Figure:
    """Each model's proxy score at the deciding check against its full-training score."""
    figure, axes = _figure(SMALL)
    check = decided_at(task)
    assert check is not None
    scores = findings.scores_at(task, check.step)
    look: dict[str, Any] = {"color": BLUE, "ecolor": GREY, "elinewidth": 0.8}
    axes.errorbar(
        scores.reference,
        scores.proxy,
        xerr=findings.seed_sd,
        fmt="o",
        label="model, \N{PLUS-MINUS SIGN} one seed SD",
        **look,
    )
    if scores.has_failed.any():
        failed = {"color": VERMILION, "marker": "v", "s": 20, "clip_on": False, "transform": axes.get_xaxis_transform()}
        x = scores.reference[scores.has_failed]
        axes.scatter(x, np.zeros(x.size), label="failed, ranks last", **failed)
    shown = check.correlation
    found = "tau undefined" if shown is None else f"tau {wording.tau(shown.tau)}, {wording.count(shown.n, 'model')}"
    axes.set(xlabel="full-training score", ylabel="proxy score", title=f"{task.name}, step {check.step}: {found}")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def overview(findings: Findings, tasks: Sequence[TaskState]) -> Figure:
    """Tau of all proxy tasks over training time, and what a model costs under each."""
    height = max(WIDE[1], 0.24 * len(tasks) + 1.9)
    figure = Figure(figsize=(WIDE[0], height), dpi=DPI)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _draw_all_taus(left, findings, tasks)
    _draw_costs(right, findings, tasks)
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def _draw_task(findings: Findings, task: TaskState) -> Iterator[Picture]:
    names = iter(task_names(task))
    for over in Over:
        alt = f"Tau of {task.name} over {over.value.replace('_', ' ')}"
        yield _picture(next(names), alt, correlation, findings, task, over)
    for over in Over:
        alt = f"Median score of {task.name} over {over.value.replace('_', ' ')}"
        yield _picture(next(names), alt, median_score, findings, task, over)
    yield _picture(next(names), f"Proxy and full-training scores of {task.name}", proxy_against_full, findings, task)


def _picture(name: str, alt: str, draw: Callable[..., Figure], *arguments: Any) -> Picture:
    with mpl.rc_context(STYLE):
        figure = draw(*arguments)
        file = io.BytesIO()
        FigureCanvasAgg(figure).print_png(file, metadata={"Software": "nasproxy"})
    return Picture(f"{name}.png", alt, file.getvalue())


def _figure(size: tuple[float, float]) -> tuple[Figure, Any]:
    figure = Figure(figsize=size, dpi=DPI)
    return figure, figure.subplots()


def _draw_failed_candidates(axes: Any, numbers: Sequence[int]) -> None:
    """Draw who has no score in a strip of its own, or it would be read as a low score."""
    strip = 0.1
    low, high = axes.get_xlim()
    axes.set_xlim(low - (high - low) * strip / (1 - strip), high)
    place = axes.get_yaxis_transform()
    axes.axvspan(0, strip, transform=axes.transAxes, color=VERMILION, alpha=0.1, linewidth=0)
    look = {"color": VERMILION, "marker": "v", "s": 20, "transform": place}
    axes.scatter([strip / 2] * len(numbers), numbers, label=f"failed, no score ({len(numbers)})", **look)


def _candidate_score(findings: Findings, number: int, iteration: Iteration) -> float | None:
    assert findings.selection is not None
    trial = findings.trials.get(findings.selection.keys[number])
    check = None if trial is None else trial.record.check_at(iteration.until_step)
    return None if check is None else check.score


def _places(checks: Sequence[TaskCheck], over: Over) -> tuple[list[float], str]:
    """Where checks lie on the axis, and the axis's label."""
    if over is Over.STEPS:
        return [float(check.step) for check in checks], "training steps"
    seconds = [check.median_train_seconds for check in checks]
    size, unit = wording.time_unit(max(seconds))
    return [second / size for second in seconds], f"median training time ({unit})"


def _draw_bounds(axes: Any, wanted: float | None, ceiling: NoiseCeiling | None) -> None:
    if wanted is not None:
        axes.axhline(wanted, color=VERMILION, linestyle="--", linewidth=1.0, label=f"target {wanted:g}")
    if ceiling is not None:
        axes.axhspan(ceiling.low, ceiling.high, color=GREEN, alpha=0.12, linewidth=0)
        name = f"noise ceiling {wording.tau(ceiling.tau)}"
        axes.axhline(ceiling.tau, color=GREEN, linestyle="-.", linewidth=1.0, label=name)


def _draw_all_taus(axes: Any, findings: Findings, tasks: Sequence[TaskState]) -> None:
    longest = max(check.median_train_seconds for task in tasks for check in task.checks)
    size, unit = wording.time_unit(longest)
    for (dashes, (colour, marker)), task in zip(itertools.cycle(SERIES), tasks, strict=False):
        known = [(c.median_train_seconds / size, c.correlation.tau) for c in task.checks if c.correlation is not None]
        if not known:
            continue
        x, taus = zip(*known, strict=True)
        axes.plot(x, taus, dashes, color=colour, marker=marker, label=task.name)
        if task.stopping_state is not None and task.stopping_state.is_success:
            axes.scatter(x[-1:], taus[-1:], s=60, facecolors="none", edgecolors=BLACK, zorder=4)
    full = list(findings.full_training_curve())
    if full:
        places, own = [seconds / size for _, seconds, _ in full], [found.tau for _, _, found in full]
        axes.plot(places, own, ":", color=BLACK, label="full training's own checks (optimistic)")
    _draw_bounds(axes, target(tasks[0]), findings.ceiling)
    axes.set(xlabel=f"median training time ({unit})", ylabel="rank correlation (tau-b)", ylim=(None, 1.05))
    axes.set_xlim(0, 1.1 * longest / size)


def _draw_costs(axes: Any, findings: Findings, tasks: Sequence[TaskState]) -> None:
    rows = [(task, check.median_train_seconds) for task in tasks if (check := decided_at(task)) is not None]
    rows.sort(key=lambda row: row[1])
    full = [reference.train_seconds for reference in findings.references]
    longest = max([seconds for _, seconds in rows] + ([float(np.median(full))] if full else []))
    size, unit = wording.time_unit(longest)
    for place, (task, seconds) in enumerate(rows):
        is_accepted = task.stopping_state is not None and task.stopping_state.is_success
        look = {"color": BLUE} if is_accepted else {"color": "#D9D9D9", "hatch": "////", "edgecolor": GREY}
        axes.barh(place, seconds / size, height=0.65, linewidth=0, **look)
        saving = train_saving(findings, task)
        note = "" if saving is None else f" {wording.times(saving.ratio)}"
        axes.text(seconds / size, place, note, va="center", fontsize=7)
    names = [task.name for task, _ in rows]
    if full:
        axes.barh(len(rows), float(np.median(full)) / size, height=0.65, color=BLACK)
        names.append("full training")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel=f"training time of a model ({unit})", title="blue: accepted, hatched: not")
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.12)
    axes.invert_yaxis()
