"""When a proxy task ranks well enough: the interface of criteria, and the rule of the first crossing."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np

from nasproxy.errors import ConfigError, TooFewTrialsError
from nasproxy.statistics.missing import Floats
from nasproxy.statistics.rank_correlation import RankCorrelation, kendall_tau

ROUNDING = 1e-12
"""Tau is a ratio of counts, computed through square roots: 27/45 may come out just below 0.6."""


class VerdictKind(str, Enum):
    """What is decided about a proxy task."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNDECIDED = "undecided"


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known about one proxy task so far.

    Attributes:
        reference: Full-training scores, shape (n_models,); NaN where missing.
        proxy: Scores under the proxy task, shape (checks, n_models), same order; NaN where missing.
        fractions: Fraction of the training at each check, shape (checks,), in (0, 1], increasing.
        looks_planned: Checks that there will be at most.
        tasks_planned: Proxy tasks that are judged on these reference models.

    Raises:
        ValueError: Shapes do not fit, fractions are not increasing in (0, 1], or a plan is below 1.
    """

    reference: Floats
    proxy: Floats
    fractions: Floats
    looks_planned: int
    tasks_planned: int
    models_max: int = 1

    def __post_init__(self) -> None:
        expected = (*self.fractions.shape, *self.reference.shape)
        if len(expected) != 2 or self.proxy.shape != expected:
            raise ValueError(
                f"proxy must have shape (checks, models), got {self.proxy.shape} with fractions of shape "
                f"{self.fractions.shape} and reference of shape {self.reference.shape}: set NaN where missing"
            )
        bounds = np.concatenate([[0.0], self.fractions])
        if not ((np.diff(bounds) > 0).all() and bounds[-1] <= 1):
            raise ValueError(
                f"fractions must increase within (0, 1], got {self.fractions.tolist()}: give steps over total steps"
            )
        if self.looks_planned < 1 or self.tasks_planned < 1:
            raise ValueError(
                f"looks_planned and tasks_planned must be at least 1, got {self.looks_planned} and "
                f"{self.tasks_planned}: count the present ones too"
            )


@dataclass(frozen=True)
class Verdict:
    """The decision on a proxy task.

    Attributes:
        kind: Accepted, rejected or undecided.
        check: Index of the check that decided; None where undecided.
        correlation: Rank correlation at the accepted check, else at the last check where it is defined; None
            where it never is.
        reason: The decision in words.
        models_needed: Reference models to add before asking again; None where models would not help.
    """

    kind: VerdictKind
    check: int | None
    correlation: RankCorrelation | None
    reason: str
    models_needed: int | None = None
    needed: float | None = None
    lower_limit: float | None = None


def models_to_add(verdict: Verdict, models: int, *, step: int, maximum: int) -> int:
    """Interim."""
    if verdict.models_needed is None:
        return 0
    return min(step, maximum - models)


class Criterion(Protocol):
    """A rule of decision on a proxy task: pure and deterministic, so that a resumed study decides the same.

    Attributes:
        target: The tau that a good proxy task reaches.
    """

    target: float

    def judge(self, evidence: Evidence) -> Verdict:
        """Decide on the checks so far."""
        ...


class FirstCrossing:
    """Accept at the first check whose tau reaches the target: the usual practice, and an optimistic one.

    A single crossing is enough, however noisy; there is no allowance for the number of checks or proxy tasks.
    Checks at which tau is undefined, or fewer than 5 models have a score, are passed over.

    Args:
        target: Tau to reach, in (0, 1].

    Raises:
        ConfigError: The target lies outside.

    Source: the stop rule of Vertex AI NAS (proxy-task search controller).
    """

    def __init__(self, *, target: float = 0.65) -> None:
        if not 0 < target <= 1:
            raise ConfigError(f"criterion.target must lie in (0, 1], got {target}: give a tau, such as 0.65")
        self.target = target

    def judge(self, evidence: Evidence) -> Verdict:
        """Accept at the first crossing; reject when all planned looks are used without one."""
        last: RankCorrelation | None = None
        for check, correlation in _correlations(evidence):
            if correlation.tau >= self.target - ROUNDING:
                return self._accept(evidence, check, correlation)
            last = correlation
        looks = len(evidence.fractions)
        if looks < evidence.looks_planned:
            reason = f"tau has not reached {self.target:g} in {looks} of {evidence.looks_planned} checks"
            return Verdict(VerdictKind.UNDECIDED, check=None, correlation=last, reason=reason)
        reason = f"tau did not reach {self.target:g} in any of {looks} checks"
        return Verdict(VerdictKind.REJECTED, check=looks - 1, correlation=last, reason=reason)

    def _accept(self, evidence: Evidence, check: int, correlation: RankCorrelation) -> Verdict:
        reason = (
            f"tau is {correlation.tau:.3f} on {correlation.n} models after "
            f"{100 * evidence.fractions[check]:.3g} % of training, the first check to reach {self.target:g}"
        )
        return Verdict(VerdictKind.ACCEPTED, check=check, correlation=correlation, reason=reason)


def _correlations(evidence: Evidence) -> Iterator[tuple[int, RankCorrelation]]:
    """Index and rank correlation of each check at which it is defined."""
    for check, scores in enumerate(evidence.proxy):
        try:
            correlation = kendall_tau(scores, evidence.reference)
        except TooFewTrialsError:
            continue
        if correlation is not None:
            yield check, correlation
