"""When a proxy task is likely to be accepted: the study's own criterion, asked about a tau that is assumed. Pure."""

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
    """When the proxy search is expected to end.

    Attributes:
        task: The proxy task that is accepted.
        step: At which of its steps; None where none is accepted.
        added: Reference models that are added until then.
    """

    task: str
    step: int | None
    added: int


def assume_tau(fraction: float, tasks: int) -> float:
    """The tau of the best of some proxy tasks after a fraction of their training.

    Proxy tasks are taken to rank as they do on published learning curves, with the mean and the variance of
    `nasproxy.statistics.tau_prior`; the best of several lies as far above the mean as the largest of some normal
    deviations: of the square root of their number, since tasks of one grid rank alike.

    Args:
        fraction: Of the training, in (0, 1].
        tasks: Proxy tasks that are judged.

    Source: expected largest of normal deviations after Blom (1958).

    >>> round(assumed_tau(0.1, 1), 2), round(assumed_tau(0.1, 6), 2)
    (0.66, 0.87)
    """
    alike = math.sqrt(tasks)
    above = NormalDist().inv_cdf((alike - 0.375) / (alike + 0.25))
    return math.tanh(prior_mean(fraction) + above * math.sqrt(PRIOR_VARIANCE))


def expect_acceptance(
    name: str, speed: TaskSpeed, *, judge: Judge, candidate_pool: CandidatePool, models: int, tasks: int
) -> ExpectedAcceptance:
    """Ask the criterion at every check about models that rank with the assumed tau, and add references as it asks.

    Args:
        name: The proxy task.
        speed: Its checks, and its seconds per step.
        judge: What it is judged by.
        candidate_pool: Candidates that may be added to the references.
        models: Reference models to begin with.
        tasks: Proxy tasks that are judged.
    """
    steps, size = speed.check_steps, models
    blank = TaskState(name, 0, ProxyTask(), "", (), steps[-1])
    plan = LookPlan(tuple(step / steps[-1] for step in steps), tasks, candidate_pool.sizes(models))
    for looks in range(1, len(steps) + 1):
        while True:
            check, verdict = judge.look(_assumed(size, speed, tasks), steps[:looks], speed, plan)
            if verdict.kind is VerdictKind.ACCEPTED:
                return ExpectedAcceptance(name, steps[looks - 1], size - models)
            task = replace(_grown(blank, size - models), checks=(check,))
            requested = candidate_pool.count_requested(
                task, verdict, size, size - models, is_last_look=looks == len(steps)
            )
            if requested == size - models:
                break
            size = models + requested
    return ExpectedAcceptance(name, None, size - models)


def make_ranking(n: int, tau: float) -> Sequence[int]:
    """An order of n models that agrees with 0 to n - 1 to a tau, exchanges spread over all ranks.

    >>> ranking(5, 0.6)
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


def _grown(task: TaskState, added: int) -> TaskState:
    return replace(task, requested=added, completed=added)


def _assumed(n: int, speed: TaskSpeed, tasks: int) -> JudgedModels:
    """Models whose proxy scores rank with the assumed tau at each check."""
    last = speed.check_steps[-1]
    ranks = {step: make_ranking(n, assume_tau(step / last, tasks)) for step in speed.check_steps}
    references = tuple(Reference(model, {}, "", float(model), 0.0) for model in range(n))
    records = tuple(
        TrialRecord(checks=tuple(Check(step, float(ranks[step][m]), step * speed.seconds_per_step) for step in ranks))
        for m in range(n)
    )
    return JudgedModels(references, records)
