"""How many reference models a study trains: the decision, from what the first ones have shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from nasproxy.stages.common_steps import list_common_steps
from nasproxy.stages.proxy_search.settings import SearchSettings
from nasproxy.stages.references.settings import AUTO, ReferencesSettings
from nasproxy.stages.references.state import Reference, read_references
from nasproxy.stages.workload import list_checks
from nasproxy.stages.worth.settings import LadderSettings
from nasproxy.statistics.acceptance import MOST_MODELS
from nasproxy.statistics.concordance import kendall_taus
from nasproxy.statistics.criteria.group_sequential import GroupSequential
from nasproxy.statistics.fisher import fisher_z
from nasproxy.statistics.reference_count import FEWEST, CountChoice, Economy, choose_references, thin_out
from nasproxy.statistics.tau_curve import TauCurve
from nasproxy.storage.study_stores import StudyStore
from nasproxy.storage.trial_stores import read_intact
from nasproxy.trials.objective import Objective
from nasproxy.trials.records import TrialRecord

if TYPE_CHECKING:
    from nasproxy.stages.definition import Design, StageContext

DECISION = "references/count"
"""Name of the `CountDecision` in a study."""
FORECAST = "references/count_forecast"
"""Name of the `CountDecision` that was made from estimated costs, before the first training."""
FEWEST_FOR_CURVE = 8
"""Fewest reference models whose own early checks count."""


@dataclass(frozen=True)
class CountDecision:
    """How many reference models a study trains, and why.

    Attributes:
        decided_by: Rules of the proxy search, with `auto` for numbers that were chosen.
        economy: What study and search cost.
        curve: What was known of how tau rises with the training fraction.
        models: Reference models whose own early checks were known.
        choice: The chosen numbers and two alternatives; of given numbers these and what `auto` would choose instead.
        is_given: Whether the numbers were given.
    """

    decided_by: str
    economy: Economy
    curve: TauCurve
    models: int
    choice: CountChoice
    is_given: bool = False


def read_decision(study: StudyStore) -> CountDecision | None:
    """Read how many reference models a study trains; None if the numbers were given, or are not decided yet."""
    return study.read(DECISION, CountDecision)


def is_chosen(design: "Design") -> bool:
    """Return whether numbers of references follow from the cost of the search: the criterion states its error."""
    return can_choose(design) and design.settings(ReferencesSettings).is_auto


def can_choose(design: "Design") -> bool:
    """Return whether numbers of references can be chosen: models are random, and the criterion states its error."""
    return design.selection.is_random and isinstance(design.criterion, GroupSequential)


def settle_references(context: "StageContext") -> bool:
    """Decide how many reference models the study trains, once the first ones are trained; a decision is kept.

    The jobs of a sweep judge different tasks, so their decision assumes one task as expensive as full training.

    Returns:
        Whether the numbers were chosen now.
    """
    design, study = context.design, context.study
    references = sorted(read_references(study), key=lambda reference: reference.number)
    if not references or not is_chosen(design):
        return False
    with context.hold("reference_count"):
        decision = read_decision(study)
        if decision is None or decision.decided_by != design.judged_by:
            economy = describe_economy(design, None if context.is_judging or context.is_merge else study)
            decision = decide(design, economy, *observe_curve(design, study, references))
            study.write(DECISION, decision)
            context.say(write_decision(decision))
    chosen = decision.choice.chosen
    initial = max(chosen.initial, len(references))
    context.use_references(initial, max(chosen.maximum, initial))
    return True


def decide(design: "Design", economy: Economy, curve: TauCurve, models: int) -> CountDecision:
    """Choose the numbers of references, given costs and what is known of how tau rises."""
    wanted = design.settings(ReferencesSettings)
    choice = _choose(design, economy, curve, wanted, least=design.references.initial)
    return CountDecision(design.judged_by, economy, curve, models, choice)


def weigh_given(design: "Design", economy: Economy) -> CountDecision:
    """Compare given numbers of references with those that `auto` would choose, by the prior of how tau rises."""
    given, fewest = design.settings(ReferencesSettings), min(FEWEST, design.task_origin.architectures or FEWEST)
    own = _choose(design, economy, TauCurve(), given, least=design.references.initial).chosen
    auto = _choose(design, economy, TauCurve(), replace(given, initial=AUTO, max=AUTO), least=fewest).chosen
    others = () if (auto.initial, auto.maximum) == (own.initial, own.maximum) else (auto,)
    return CountDecision(design.judged_by, economy, TauCurve(), 0, CountChoice(own, others), is_given=True)


def _choose(
    design: "Design", economy: Economy, curve: TauCurve, wanted: ReferencesSettings, *, least: int
) -> CountChoice:
    criterion = design.criterion
    assert isinstance(criterion, GroupSequential)
    return choose_references(
        economy,
        curve,
        target=criterion.target,
        alpha=criterion.alpha,
        initial=wanted.given_initial,
        maximum=wanted.given_max,
        step=wanted.step,
        least=least,
        most=max(least, min(MOST_MODELS, design.task_origin.architectures or MOST_MODELS)),
    )


def describe_economy(
    design: "Design", study: StudyStore | None = None, costs: Mapping[str, float] | None = None
) -> Economy:
    """Describe what study and search cost.

    Args:
        design: The configured study.
        study: A study whose forecast has the costs of its proxy tasks; None for a sweep.
        costs: Costs of whole trainings under each proxy task relative to a full training; None for the forecast's, or
            the ratio of their steps.
    """
    recipe = design.recipe
    looks = [step / recipe.total_steps for step in list_checks(recipe)]
    economy = Economy(
        design.settings(SearchSettings).trials,
        fractions=tuple(thin_out(looks).tolist()),
        max_risk=design.settings(LadderSettings).max_risk,
    )
    if study is None and costs is None:
        return economy
    forecast = None if study is None else study.read(FORECAST, CountDecision)
    if costs is None and forecast is not None:
        return replace(economy, proxy=forecast.economy.proxy, tasks=len(design.tasks))
    ratios = costs or {name: recipe.under(task).total_steps / recipe.total_steps for name, task in design.tasks.items()}
    return replace(economy, proxy=median(ratios.values()), tasks=len(design.tasks))


def observe_curve(design: "Design", study: StudyStore, references: Sequence[Reference]) -> tuple[TauCurve, int]:
    """Update the prior by the first references' own checks against their final scores.

    Returns:
        The curve, and the number of reference models that it is updated by; 0 if too few of them have early checks.
    """
    found = [(each, read_intact(study.trials, each.key)) for each in references[: design.references.initial]]
    first = [reference for reference, record in found if record is not None]
    records = [record for _, record in found if record is not None]
    curve = update_curve(first, records, design.recipe.objective, design.recipe.total_steps)
    return curve, 0 if curve == TauCurve() else len(first)


def update_curve(
    references: Sequence[Reference], records: Sequence[TrialRecord], objective: Objective, total_steps: int
) -> TauCurve:
    """Update the prior of how tau rises by the own checks of reference models; the prior if there are too few."""
    steps = list(list_common_steps(records))
    if len(references) < FEWEST_FOR_CURVE or not steps:
        return TauCurve()
    known = dict(zip((step / total_steps for step in steps), steps, strict=True))
    fractions = [float(each) for each in thin_out(list(known))]
    scores = np.array([[_read_score(record, known[each]) for record in records] for each in fractions])
    finals = objective.orient(np.array([reference.score for reference in references]))
    z = fisher_z(kendall_taus(objective.orient(scores), finals), len(references))
    seen = [(value, each) for value, each in zip(z.tolist(), fractions, strict=True) if np.isfinite(value)]
    return TauCurve().update([value for value, _ in seen], [each for _, each in seen], len(references))


def write_decision(decision: CountDecision) -> str:
    """Write the decision and its reason in a sentence or two."""
    chosen, trials = decision.choice.chosen, decision.economy.trials
    known = f"the first {decision.models} references' curves" if decision.models else "published learning curves"
    others = " and ".join(
        f"{each.cost:,.0f} with {write_numbers(each.initial, each.maximum)}" for each in decision.choice.alternatives
    )
    compared = f", against {others}" if others else ""
    worth = (
        f" Full training of all {trials:,} models is expected to cost no more: a study does not pay for this search."
        if chosen.cost >= trials
        else ""
    )
    auto = ""
    if decision.is_given:
        other = "auto would choose the latter" if others else "auto would choose the same"
        auto = f" The numbers were given; {other} (references.initial=auto references.max=auto)."
    return (
        f"{write_numbers(chosen.initial, chosen.maximum)} reference models for a search of {trials:,} models: study "
        f"and search are expected to cost {chosen.cost:,.0f} full trainings without variance and confirmation"
        f"{compared}, judged by {known}.{auto}{worth}"
    )


def write_numbers(initial: int, maximum: int) -> str:
    """Write the initial number of reference models and the maximum.

    >>> write_numbers(10, 10), write_numbers(10, 30)
    ('10', '10 to 30')
    """
    return f"{initial}" if maximum == initial else f"{initial} to {maximum}"


def _read_score(record: TrialRecord, step: int) -> float:
    check = record.check_at(step)
    return float("nan") if check is None else check.score
