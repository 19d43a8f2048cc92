"""Design the ladder and compare strategies, from the curves of the reference models. Pure functions."""

from dataclasses import replace

from nasproxy.stages.worth.evidence import LEAST_MODELS, ReferenceCurves
from nasproxy.stages.worth.state import LadderState, Outlook, StoredRung, WorthState
from nasproxy.statistics.ladder import LEAST, Ladder, count_needed, design_ladder, suggest_references
from nasproxy.statistics.strategies import (
    FULL_TRAINING,
    Strategy,
    halve,
    train_all,
    use_fixed_fraction,
    use_proxy,
    use_zero_cost,
)
from nasproxy.statistics.worth import Prospect, SearchSimulation, compare_strategies, score_of_share
from nasproxy.trials.objective import Objective

NO_RUNG = "no rung would make a search cheaper than training all candidates fully"


def find_ladder(curves: ReferenceCurves, max_risk: float) -> Ladder | None:
    """Design the ladder; None with too few reference models."""
    scores = curves.rung_scores
    costs = {place: curves.models.costs[place] for place in scores}
    return design_ladder(scores, costs, curves.models.finals, max_risk=max_risk)


def describe_ladder(
    ladder: Ladder | None, curves: ReferenceCurves, objective: Objective, *, max_risk: float, trials: int, most: int
) -> LadderState:
    """Describe the ladder as it is stored, with scores as the trainer reports them.

    Args:
        ladder: The ladder; None with too few reference models.
        curves: Curves of the reference models.
        objective: The study's metric.
        max_risk: Accepted risk.
        trials: Number of models of the search.
        most: Largest practical number of reference models.
    """
    empty = LadderState(objective.name, objective.mode, max_risk, curves.models.finals.size)
    if ladder is None:
        return replace(empty, reason=_explain_missing_ladder(curves, max_risk, trials, most))
    if not ladder.rungs:
        return replace(empty, reason=NO_RUNG)
    rungs = [
        StoredRung(
            None if rung.place.task == FULL_TRAINING else rung.place.task,
            rung.place.step,
            float(objective.orient(rung.threshold)),
            rung.share,
            rung.cost,
        )
        for rung in ladder.rungs
    ]
    return replace(
        empty,
        rungs=tuple(rungs),
        risk=ladder.risk,
        best=ladder.best,
        good_score=float(objective.orient(ladder.good_score)),
        top_share=ladder.top_share,
        cost=ladder.cost,
        least=LEAST,
    )


def _explain_missing_ladder(curves: ReferenceCurves, max_risk: float, trials: int, most: int) -> str:
    """Explain that there are too few reference models, with advice that this study can follow."""
    models, needed = curves.models.finals.size, count_needed(max_risk)
    usable = max(models, most - curves.left_out)
    others = f" with a score under {curves.proxy_task}" if curves.left_out else ""
    missing = f"a ladder of risk {max_risk:g} needs {needed} reference models at least, and there are {models}{others}"
    if needed < trials and needed <= usable:
        wanted = min(suggest_references(trials, max_risk), usable) + curves.left_out
        return f"{missing}; {wanted} would make study and search cheapest (references.initial)"
    why = (
        f"at most {usable} are practical in this study"
        if needed > usable
        else f"a search of {trials} does not pay them"
    )
    limit, risk = f"{missing}; {why}", find_least_risk(models)
    return limit if risk is None else f"{limit}: {models} suffice for the larger risk ladder.max_risk={risk:g}"


def find_least_risk(models: int) -> float | None:
    """Find the smallest risk, in whole thousandths, that a ladder can be designed for on so many reference models.

    >>> find_least_risk(8), find_least_risk(20), find_least_risk(3)
    (0.25, 0.1, None)
    """
    risks = (thousandths / 1000 for thousandths in range(1, 501))
    return next((risk for risk in risks if count_needed(risk) <= models), None)


def write_ladder(ladder: LadderState) -> str:
    """Write the ladder in a line."""
    if ladder.reason or ladder.cost is None or ladder.risk is None:
        return f"no ladder: {ladder.reason}"
    rungs = f"{len(ladder.rungs)} rung{'s' if len(ladder.rungs) > 1 else ''}"
    return (
        f"certified ladder: {rungs}, risk {ladder.risk:.2g}, {100 * ladder.cost:.0f} % of a full training for each "
        f"candidate, in ladder.json"
    )


def list_strategies(curves: ReferenceCurves, ladder: Ladder | None) -> list[Strategy]:
    """List the strategies that the reference models can compare."""
    strategies = [train_all()]
    early = {place: c for place, c in curves.models.costs.items() if place.task == FULL_TRAINING}
    if early:
        strategies += [halve(early), use_fixed_fraction(early)]
    if ladder is not None and ladder.rungs:
        strategies.append(ladder.strategy)
    if curves.proxy is not None:
        strategies.append(use_proxy(curves.proxy))
    if curves.zero_cost is not None:
        strategies.append(use_zero_cost(curves.zero_cost.task))
    return strategies


def compare(curves: ReferenceCurves, ladder: Ladder | None, objective: Objective, *, trials: int) -> WorthState:
    """Compare the strategies for a search of so many models."""
    finals = curves.models.finals
    if finals.size < LEAST_MODELS:
        reason = f"strategies are compared on {LEAST_MODELS} reference models at least, and there are {finals.size}"
        return WorthState(trials, finals.size, reason)
    attenuation = {} if curves.proxy is None else {curves.proxy: curves.attenuation}
    simulation = SearchSimulation(curves.models, curves.study_cost, attenuation=attenuation)
    worth = compare_strategies(list_strategies(curves, ladder), trials, simulation, proxy="proxy")

    def look_out(prospect: Prospect) -> Outlook:
        scores = [score_of_share(finals, share) for share in (prospect.rank, prospect.high, prospect.low)]
        return Outlook(prospect, *(None if score is None else float(objective.orient(score)) for score in scores))

    return WorthState(
        trials,
        finals.size,
        study_cost=curves.study_cost,
        full_seconds=curves.full_seconds,
        proxy_task=None if curves.proxy is None else curves.proxy_task,
        proxy_reason=curves.proxy_reason,
        left_out=curves.left_out,
        zero_cost=None if curves.zero_cost is None else curves.zero_cost.task,
        optimism=curves.optimism,
        planned=tuple(map(look_out, worth.planned)),
        at_proxy_cost=tuple(map(look_out, worth.at_proxy_cost)),
        at_recommended_cost=tuple(map(look_out, worth.at_recommended_cost)),
        curves=worth.curves,
        recommended=look_out(worth.recommended),
        from_here=look_out(worth.from_here),
    )
