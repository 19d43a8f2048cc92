"""Strategies for the search: tables, the ladder's rungs, and one recommendation."""

from functools import partial

from nasproxy.report import wording
from nasproxy.report.tables import Column, Row, Table
from nasproxy.stages.study_results import StudyResults
from nasproxy.stages.worth.state import Outlook, WorthState
from nasproxy.statistics.strategies import ETA, FIXED_FRACTION, TOP
from nasproxy.statistics.worth import Prospect

COMPARED = (
    *("strategy", "candidates", "trained_fully", "cost", "cost_from_here", "better", "better_low", "better_high"),
    *("missed", "score", "score_low", "score_high", "is_recommended"),
)
"""Values of a row of a comparison of strategies; `better` are shares of all models."""
RUNGS = ("rung", "proxy_task", "step", "threshold", "share", "cost")
"""Values of a row of the ladder's table."""


SMALLEST_SHARE = 0.0001
"""Smallest share of all models that is written as a number."""


def name_strategy(worth: WorthState, prospect: Prospect) -> str:
    """Name a strategy for readers."""
    top = TOP if prospect.top is None else prospect.top
    names = {
        "random": "full training of random models",
        "halving": f"successive halving (eta {ETA})",
        "fixed_fraction": f"{100 * FIXED_FRACTION:.0f} % of full training + top {top}",
        "ladder": "certified ladder",
        "proxy": f"{worth.proxy_task} + top {top}",
        "zero_cost": f"{worth.zero_cost} + top {top}",
    }
    return names[prospect.strategy]


def make_comparison(results: StudyResults, outlooks: tuple[Outlook, ...]) -> Table:
    """Tabulate strategies, the best expected rank first."""
    worth = results.worth
    if worth is None or worth.recommended is None:
        return Table([], [], COMPARED)
    rows = list_rows(worth, outlooks)
    columns = [
        Column("strategy", lambda row: row["strategy"], is_number=False),
        Column("candidates", lambda row: wording.format_number(row["candidates"])),
        Column("total cost", lambda row: wording.format_about(row["cost"])),
        Column("still to pay", lambda row: wording.format_about(row["cost_from_here"])),
        Column("better models", lambda row: format_share(row["better"])),
        Column("95 % interval", lambda row: _format_shares(row["better_low"], row["better_high"])),
        Column("missed, worst 5 %", lambda row: format_share(row["missed"])),
        Column(f"{results.objective.name} of the best found", partial(_format_score, beyond=_name_beyond(results))),
    ]
    emphasised = frozenset(place for place, row in enumerate(rows) if row["is_recommended"])
    return Table(rows, columns, COMPARED, emphasised)


def list_rows(worth: WorthState, outlooks: tuple[Outlook, ...]) -> list[Row]:
    """List rows of plain values, the best expected rank first."""
    return [_make_row(worth, outlook) for outlook in sorted(outlooks, key=lambda each: each.prospect.rank)]


def make_planned(results: StudyResults) -> Table:
    """Tabulate all strategies with the planned number of candidates, and the recommended one with its own."""
    return make_comparison(results, () if results.worth is None else list_planned(results.worth))


def list_planned(worth: WorthState) -> tuple[Outlook, ...]:
    """List the strategies with the planned number of candidates, and the recommended one if it has another."""
    recommended = () if worth.recommended is None else (worth.recommended,)
    return tuple(dict.fromkeys((*worth.planned, *recommended)))


def make_equal_cost(results: StudyResults) -> Table:
    """Tabulate what each strategy finds within the total cost of the accepted proxy task."""
    return make_comparison(results, () if results.worth is None else results.worth.at_proxy_cost)


def make_at_recommended(results: StudyResults) -> Table:
    """Tabulate what each strategy finds within the total cost of the recommended one."""
    return make_comparison(results, () if results.worth is None else results.worth.at_recommended_cost)


def make_ladder(results: StudyResults) -> Table:
    """Tabulate the rungs of the ladder."""
    ladder = results.ladder
    rows: list[Row] = [
        {"rung": number, **{name: getattr(rung, name) for name in RUNGS[1:]}}
        for number, rung in enumerate(() if ladder is None else ladder.rungs, start=1)
    ]
    bound = "at most" if ladder is not None and ladder.mode == "min" else "at least"
    columns = [
        Column("rung", lambda row: wording.format_number(row["rung"])),
        Column("training", lambda row: row["proxy_task"] or "full training", is_number=False),
        Column("step", lambda row: wording.format_number(row["step"])),
        Column(f"{results.objective.name} {bound}", lambda row: wording.format_number(row["threshold"])),
        Column("candidates kept up to here", lambda row: format_percent(row["share"])),
        Column("cost of reaching this step, of a full training", lambda row: format_percent(row["cost"])),
    ]
    return Table(rows, columns, RUNGS)


def recommend(results: StudyResults) -> str | None:
    """Write the recommendation, or why there is none; None before strategies are compared."""
    worth = results.worth
    if worth is None:
        return None
    if worth.recommended is None:
        return f"No recommendation: {worth.reason}."
    best = worth.recommended.prospect
    cheaper = f", against {worth.trials:,} for training all {worth.trials:,}" if best.cost < worth.trials else ""
    return (
        f"For a search of {wording.format_count(worth.trials, 'model')}: {_instruct(worth, best)}. Expected "
        f"total cost {wording.format_about(best.cost)} full trainings{cheaper}; {format_share(best.rank)} of models "
        f"are expected to be better than the best one found (95 % interval {_format_shares(best.low, best.high)})"
        f"{_compare_with_all(worth, best)}.{_continue_from_here(worth)}"
    )


def _compare_with_all(worth: WorthState, best: Prospect) -> str:
    """State what training all planned candidates is expected to find."""
    everything = next((o.prospect for o in worth.planned if o.prospect.strategy == "random"), None)
    if everything is None or format_share(everything.rank) == format_share(best.rank):
        return ""
    return f", {format_share(everything.rank)} if all {worth.trials:,} are trained fully"


def _continue_from_here(worth: WorthState) -> str:
    """Write which strategy is cheapest now that the study is paid, if that is another one."""
    if worth.from_here is None or worth.from_here == worth.recommended:
        return ""
    cheapest = worth.from_here.prospect
    left = wording.format_about(cheapest.cost_from_here)
    return f" Now that the study is paid, the cheapest is to {_instruct(worth, cheapest)}: {left} full trainings more."


def _instruct(worth: WorthState, best: Prospect) -> str:
    """Write what to do, beginning with a verb."""
    others = "" if best.candidates == worth.trials else f" instead of {worth.trials:,}"
    searched = f"{wording.format_count(best.candidates, 'candidate')}{others}"
    return {
        "random": f"train {wording.format_count(best.candidates, 'random model')} fully{others}",
        "halving": f"use successive halving (eta {ETA}) on {searched}",
        "fixed_fraction": f"train {searched} for {100 * FIXED_FRACTION:.0f} % of full training, and the best "
        f"{best.top} fully",
        "ladder": f"use the certified ladder on {searched}",
        "proxy": f"use {worth.proxy_task} on {searched}, and train the best {best.top} fully",
    }[best.strategy]


def _make_row(worth: WorthState, outlook: Outlook) -> Row:
    prospect = outlook.prospect
    best = worth.recommended.prospect if worth.recommended else None
    return {
        "strategy": name_strategy(worth, prospect),
        "candidates": prospect.candidates,
        "trained_fully": prospect.top,
        "cost": prospect.cost,
        "cost_from_here": prospect.cost_from_here,
        "better": prospect.rank,
        "better_low": prospect.low,
        "better_high": prospect.high,
        "missed": prospect.missed,
        "score": outlook.score,
        "score_low": outlook.score_low,
        "score_high": outlook.score_high,
        "is_recommended": prospect == best,
    }


def format_share(share: float) -> str:
    """Format a share of all models in percent with two significant digits.

    >>> format_share(0.00123), format_share(0.25), format_share(0.00001), format_share(0.0)
    ('0.12 %', '25 %', 'below 0.01 %', '0 %')
    """
    return "below 0.01 %" if 0 < share < SMALLEST_SHARE else f"{100 * share:.2g} %"


def _format_shares(low: float, high: float) -> str:
    return f"{format_share(low)} to {format_share(high)}"


def format_percent(share: float | None) -> str:
    """Format a share in whole percent; a dash if it is missing."""
    return wording.MISSING if share is None else f"{100 * share:.0f} %"


def _name_beyond(results: StudyResults) -> str:
    """Name scores beyond the best reference model's, which are not extrapolated."""
    scores = [model.score for model in (*results.references, *results.added)]
    best = max(scores, key=results.objective.orient, default=None)
    return f"better than {wording.format_number(best, 3)}"


def _format_score(row: Row, *, beyond: str) -> str:
    low, middle, high = (
        beyond if row[name] is None else wording.format_number(row[name], 3)
        for name in ("score_low", "score", "score_high")
    )
    return beyond if low == beyond else f"{middle} ({low} to {high})"
