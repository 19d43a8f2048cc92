"""Studies on a table of learning curves: which reference models they train, and what a criterion decides on them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.population import Population
from nasproxy.stages.references.settings import ReferencesSettings
from nasproxy.stages.worth.settings import LadderSettings
from nasproxy.statistics.acceptance import (
    MOST_MODELS,
    Criterion,
    Evidence,
    LookPlan,
    VerdictKind,
    count_models_to_add,
)
from nasproxy.statistics.concordance import kendall_taus
from nasproxy.statistics.criteria.group_sequential import GroupSequential
from nasproxy.statistics.fisher import fisher_z
from nasproxy.statistics.reference_count import FEWEST, Economy, choose_references
from nasproxy.statistics.spread import cumulative_fractions, removal_count, remove_closest
from nasproxy.statistics.tau_curve import TauCurve

STEP = ReferencesSettings.step
"""Models that are added at a time."""
MAXIMUM = 30
"""Largest number of reference models of an adaptive study whose maximum is not chosen."""
SPREAD_POOL = 30


@dataclass(frozen=True)
class Outcome:
    """Result of a criterion on one draw.

    Attributes:
        look: The look of acceptance; None without one.
        models: Reference models at the end.
        initial: Initial number of reference models.
        maximum: Maximum number of reference models.
    """

    look: int | None
    models: int
    initial: int
    maximum: int

    @property
    def added(self) -> int:
        """Number of reference models that were added."""
        return self.models - self.initial


class Draw:
    """Reference models of one study, with a cache of evidence that all criteria share.

    Args:
        population: The table.
        order: Its architectures in the order in which a study takes them.
        initial: Initial number of reference models.
        maximum: Maximum number of reference models, not above the length of `order`.
    """

    def __init__(self, population: Population, order: Sequence[int], initial: int, maximum: int) -> None:
        self.plan = LookPlan(sizes=(*range(initial, maximum, STEP), maximum))
        self.population = population
        self._order = list(order)
        self._known: dict[tuple[int, int], Evidence] = {}

    def models(self, count: int) -> list[int]:
        """Return the first models of the study."""
        return self._order[:count]

    def evidence(self, look: int, models: int) -> Evidence:
        """Return the evidence of the first models up to a look."""
        if (look, models) not in self._known:
            chosen, looks = self.models(models), self.population.looks[: look + 1]
            proxy = self.population.scores[np.ix_(looks, chosen)]
            fractions = self.population.fractions[: look + 1]
            self._known[look, models] = Evidence(self.population.reference[chosen], proxy, fractions, self.plan)
        return self._known[look, models]


def judge(draw: Draw, rule: Criterion, candidates: int | None = None) -> Outcome:
    """Apply a criterion look by look, as the controller does.

    Args:
        draw: The reference models.
        rule: The criterion.
        candidates: Models of the search: references are added while they cost less than longer training of these; None
            to add them wherever the criterion asks for more.
    """
    initial, most = draw.plan.sizes[0], draw.plan.sizes[-1]
    models = initial
    for look, fraction in enumerate(draw.population.fractions):
        while True:
            verdict = rule.judge(draw.evidence(look, models))
            if verdict.kind is VerdictKind.ACCEPTED:
                return Outcome(look, models, initial, most)
            more = count_models_to_add(verdict, models, step=STEP, maximum=most)
            if not more or (candidates is not None and more * (1 + fraction) > candidates * fraction):
                break
            models += more
    return Outcome(None, models, initial, most)


def choose_counts(
    population: Population,
    order: Sequence[int],
    rule: GroupSequential,
    candidates: int,
    max_risk: float = LadderSettings.max_risk,
) -> tuple[int, int]:
    """Choose the numbers of references from the curves of the first ten, as a study does.

    Returns:
        Initial number and maximum.
    """
    first, fractions = order[:FEWEST], population.fractions
    taus = kendall_taus(population.scores[np.ix_(population.looks, first)], population.reference[first])
    curve = TauCurve().update(tuple(fisher_z(taus, FEWEST).tolist()), tuple(fractions.tolist()), FEWEST)
    economy = Economy(candidates, fractions=tuple(fractions.tolist()), max_risk=max_risk)
    most = min(len(order), MOST_MODELS)
    chosen = choose_references(economy, curve, target=rule.target, alpha=rule.alpha, most=most).chosen
    return chosen.initial, chosen.maximum


def select_references(population: Population, n: int, way: str, random: np.random.Generator) -> list[int]:
    """Select the reference models of a study, followed by those that it may add."""
    order = random.permutation(population.reference.size).tolist()
    if way == "random":
        return order
    pool = order[:SPREAD_POOL]
    for fraction in cumulative_fractions(SPREAD_POOL, n)[:-1]:
        wanted = fraction * population.steps[-1]
        check = min(int(np.searchsorted(population.steps, wanted - 1e-9)), len(population.steps) - 1)
        count = removal_count(len(pool), 0, final=n)
        removed = set(remove_closest(population.scores[check, pool], None, count))
        pool = [model for place, model in enumerate(pool) if place not in removed]
    return pool
