"""Section of the report on what the study is worth: strategies for the search, and the ladder."""

from collections.abc import Iterator

from nasproxy.report import wording
from nasproxy.report.content import Block, Figure, Heading, Paragraph, Section, ShownTable
from nasproxy.report.strategies import format_percent, recommend
from nasproxy.stages.study_results import StudyResults
from nasproxy.stages.worth.state import LadderState, WorthState


def make_section(results: StudyResults) -> Section | None:
    """Make the section; None before strategies are compared."""
    worth = results.worth
    if worth is None:
        return None
    title = f"Is it worth it? Strategies for a search of {wording.format_count(worth.trials, 'model')}"
    return Section("worth", "Worth", title, tuple(_write(results, worth)))


def _write(results: StudyResults, worth: WorthState) -> Iterator[Block]:
    yield Paragraph(recommend(results) or "")
    if worth.recommended is not None:
        study = wording.format_about(worth.study_cost or 0.0)
        yield ShownTable(
            "worth",
            f"Expected result with {worth.trials:,} candidates. Costs are in full trainings, by training time; the "
            f"total includes the study's {study} for the strategies that need reference models. Better models: share "
            f"of all models that are better than the best one found. Missed, worst 5 %: share of models between the "
            f"best candidate and the best one found, in the worst 5 % of simulated populations.",
        )
        if worth.at_proxy_cost:
            yield ShownTable("worth_at_equal_cost", summary=f"At the total cost of {worth.proxy_task}")
        if worth.recommended.prospect.strategy != "proxy":
            yield ShownTable("worth_at_recommended_cost", summary="At the total cost of the recommendation")
        yield Figure(
            "worth",
            "Expected share of better models over total cost. Bands: 95 % intervals of full training and of the "
            "recommended strategy.",
        )
        yield Paragraph(_explain(worth), is_note=True)
        if worth.proxy_reason:
            yield Paragraph(f"The accepted proxy task is not compared: {worth.proxy_reason}.", is_note=True)
    if results.ladder is not None:
        yield from _write_ladder(results.ladder)


def _explain(worth: WorthState) -> str:
    optimism = (
        ""
        if worth.optimism is None
        else f" The tau of the accepted task is reduced by its optimism of {worth.optimism:.2f} (cross-fitting)."
    )
    left_out = f" ({worth.left_out} without a score under {worth.proxy_task} left out)" if worth.left_out else ""
    return (
        f"Predicted from the ranks of {wording.format_count(worth.models, 'reference model')}{left_out} in populations "
        f"that rank like them (a smoothed empirical copula, resampled).{optimism} Scores beyond the best reference "
        f"model are not extrapolated. Recommended is the cheapest strategy whose expected share of better models is "
        f"within 0.1 % of all models, or 20 %, of the smallest, and which misses little in the worst 5 % of "
        f"populations, too (full training and the certified ladder need not show the latter). Zero-cost scores are "
        f"never recommended: on one of five published tables their 95 % interval held in 37 to 43 % of draws."
    )


def _state_risk(ladder: LadderState) -> str:
    """State the probability that a good candidate is eliminated, and for which candidates it holds."""
    score = wording.format_number(ladder.good_score, 3)
    good = (
        f"better than all but the {ladder.best} best reference models (score {score}; on average the top "
        f"{format_percent(ladder.top_share)} of all models)"
    )
    return (
        f"The probability that a random candidate {good} is eliminated, over all rungs together, is at most "
        f"{format_percent(ladder.risk)} (ladder.max_risk={ladder.max_risk:g}; "
        f"{wording.format_count(ladder.models, 'reference model')}), for any distribution of scores. No such statement "
        f"is possible for the single best candidate. It applies to candidates drawn at random, as the reference models "
        f"were, not to proposals of an adaptive sampler. File: ladder.json."
    )


def _write_ladder(ladder: LadderState) -> Iterator[Block]:
    yield Heading("Certified ladder", anchor="ladder")
    if ladder.reason:
        yield Paragraph(f"No ladder: {ladder.reason}.")
        return
    yield Paragraph(
        f"Train each candidate to the first rung, train on only those that reach its score, and so on; the "
        f"{ladder.least} best are always kept. At a rung of full training, keep training.total_steps as it is and stop "
        f"at the given step: scores of a shorter schedule do not compare with the thresholds. Survivors of a rung "
        f"under a proxy task start again. Expected cost of a candidate: {format_percent(ladder.cost)} of a full "
        f"training."
    )
    yield Paragraph(_state_risk(ladder))
    yield ShownTable("ladder")
    yield Figure("ladder", "Learning curves of the reference models, and the score to reach at each rung.")
