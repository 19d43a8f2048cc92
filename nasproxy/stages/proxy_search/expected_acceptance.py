"""Expected acceptance of a proxy task: the study's criterion applied to an assumed tau. Pure functions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

from nasproxy.stages.proxy_search.judge import Judge, JudgedModels
from nasproxy.stages.proxy_search.race import TaskSpeed
from nasproxy.stages.proxy_search.state import TaskState
from nasproxy.stages.references.candidate_pool import CandidatePool
from nasproxy.stages.references.state import Reference
from nasproxy.statistics.acceptance import LookPlan, VerdictKind
from nasproxy.statistics.tau_prior import PRIOR_VARIANCE, prior_mean
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Check, TrialRecord


@dataclass(frozen=True)
class ExpectedAcceptance:
    """Expected end of the proxy search.

    Attributes:
        task: Proxy task that is accepted.
        step: Step at which it is accepted; None if no task is accepted.
        added: Number of reference models added until then.
    """

    task: str
    step: int | None
    added: int


def assume_tau(fraction: float, tasks: int) -> float:
    """Compute the assumed tau of the best of several proxy tasks after a fraction of their training.

    Proxy tasks are assumed to rank as on published learning curves, with the mean and the variance of
    `nasproxy.statistics.tau_prior`. The best of several lies above the mean by the expected maximum of normal
    deviates, whose number is the square root of the number of tasks, because tasks of one grid rank similarly.

    Args:
        fraction: Fraction of the training, in (0, 1].
        tasks: Number of proxy tasks that are judged.

    Source: expected maximum of normal deviates after Blom (1958).

    >>> round(assume_tau(0.1, 1), 2), round(assume_tau(0.1, 6), 2)
    (0.66, 0.87)
    """
    effective_tasks = math.sqrt(tasks)
    deviate = NormalDist().inv_cdf((effective_tasks - 0.375) / (effective_tasks + 0.25))
    return math.tanh(prior_mean(fraction) + deviate * math.sqrt(PRIOR_VARIANCE))


def expect_acceptance(
    name: str, speed: TaskSpeed, *, judge: Judge, candidate_pool: CandidatePool, models: int, tasks: int
) -> ExpectedAcceptance:
    """Simulate the looks at a proxy task whose models rank with the assumed tau, and add references as requested.

    Args:
        name: Name of the proxy task.
        speed: Its checks and seconds per step.
        judge: Judge of the study.
        candidate_pool: Candidates that can be added to the references.
        models: Number of selected reference models.
        tasks: Number of proxy tasks that are judged.

    Returns:
        The step at which the criterion accepts, and the references added until then.
    """
    steps, size = speed.check_steps, models
    blank = TaskState(name, 0, ProxyTask(), "", (), steps[-1])
    plan = LookPlan(tasks, candidate_pool.sizes(models))
    for looks in range(1, len(steps) + 1):
        while True:
            assumed = _make_assumed_models(size, speed, tasks)
            check, verdict = judge.look(assumed, steps[:looks], speed, plan, total_steps=steps[-1])
            if verdict.kind is VerdictKind.ACCEPTED:
                return ExpectedAcceptance(name, steps[looks - 1], size - models)
            task = replace(_request_references(blank, size - models), checks=(check,))
            requested = candidate_pool.count_requested(
                task, verdict, size, size - models, is_last_look=looks == len(steps)
            )
            if requested == size - models:
                break
            size = models + requested
    return ExpectedAcceptance(name, None, size - models)


def make_ranking(n: int, tau: float) -> Sequence[int]:
    """Make a permutation of 0 to n - 1 with a given tau against the sorted order, by swaps spread over all ranks.

    Args:
        n: Number of models.
        tau: Kendall's tau, in [-1, 1]; reached as closely as the number of pairs allows.

    >>> make_ranking(5, 0.6)
    [1, 0, 3, 2, 4]
    """
    order = list(range(n))
    exchanges = round((1 - tau) / 2 * n * (n - 1) / 2)
    for turn in range(n):
        for place in range(turn % 2, n - 1, 2):
            if exchanges:
                order[place], order[place + 1] = order[place + 1], order[place]
                exchanges -= 1
    return order


def _request_references(task: TaskState, added: int) -> TaskState:
    return replace(task, requested=added, completed=added)


def _make_assumed_models(n: int, speed: TaskSpeed, tasks: int) -> JudgedModels:
    """Make models whose proxy scores rank with the assumed tau at each check."""
    last = speed.check_steps[-1]
    ranks = {step: make_ranking(n, assume_tau(step / last, tasks)) for step in speed.check_steps}
    references = tuple(Reference(model, {}, "", float(model), 0.0) for model in range(n))
    records = tuple(
        TrialRecord(checks=tuple(Check(step, float(ranks[step][m]), step * speed.seconds_per_step) for step in ranks))
        for m in range(n)
    )
    return JudgedModels(references, records)
