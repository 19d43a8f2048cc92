"""Equal scores of reference models, which cannot be ranked by them."""

import math
from collections import Counter
from collections.abc import Sequence

from nasproxy.stages.references.state import Reference
from nasproxy.trials.objective import Objective
from nasproxy.trials.records import TrialRecord

LEAST_REACHABLE_TAU = 0.9
"""Largest tau of a proxy task without ties below which ties of the references are reported."""


def have_equal_scores(references: Sequence[Reference]) -> bool:
    """Return whether all of several reference models have the same score, so that they cannot be ranked."""
    return len(references) > 1 and len({reference.score for reference in references}) == 1


def describe_equal_scores(references: Sequence[Reference], records: Sequence[TrialRecord], objective: Objective) -> str:
    """Describe why reference models with equal scores cannot be ranked, and what to do.

    Args:
        references: The reference models.
        records: Records of their full trainings.
        objective: The study's metric.
    """
    return (
        f"reference models need scores that differ, got {objective.name} {references[0].score:g} for all "
        f"{len(references)}: they cannot be ranked, so no proxy task can be judged. {_explain(records)} Then use "
        f"another study=NAME"
    )


def describe_ties(references: Sequence[Reference]) -> str | None:
    """Describe equal scores of reference models, and what they do to tau-b; None if they are few.

    A proxy task that ranks all n models without ties, and correctly wherever the references differ, reaches
    sqrt(1 - t), where t is the share of pairs with equal reference scores.

    Args:
        references: The reference models.
    """
    counts = Counter(reference.score for reference in references)
    pairs, tied = math.comb(len(references), 2), sum(math.comb(count, 2) for count in counts.values())
    if not pairs or math.sqrt(1 - tied / pairs) >= LEAST_REACHABLE_TAU:
        return None
    return (
        f"{len(references)} reference models have only {len(counts)} different scores: {tied} of {pairs} pairs are "
        f"equal, so that a proxy task without equal scores reaches tau {math.sqrt(1 - tied / pairs):.2f} at most; more "
        f"validation images, or a metric that is not saturated, tell models apart"
    )


def _explain(records: Sequence[TrialRecord]) -> str:
    """Explain equal scores by the learning curves: they never change, are the same for all models, or become equal."""
    curves = {tuple(check.score for check in record.checks) for record in records}
    if min(map(len, curves), default=0) < 2:
        return (
            "The metric may be constant, saturated or too coarse: check what the trainer reports, use harder or more "
            "validation images, or set metric.name to another metric."
        )
    if all(len(set(curve)) == 1 for curve in curves):
        return (
            "No training changes its score from check to check, so the metric does not measure the models: check what "
            "the trainer reports, or set metric.name to a metric that differs."
        )
    if len(curves) == 1:
        return (
            "All models have the same scores at all checks: check that the choices of the search space reach the "
            "model, or set metric.name to a metric that differs."
        )
    return (
        "The scores differ before the end of training, so the metric is saturated there, or too coarse: shorten "
        "training.total_steps, use harder or more validation images, or set metric.name to a finer metric."
    )
