"""Coverage and error rates of verdicts, by simulation on normal scores of known tau: `python -m benchmarks.coverage`.

**Coverage**: share of samples whose one-sided 95 % lower confidence limit, as stated by verdicts, lies at or below the
true tau. With few models tau is discrete, so coverage varies by up to 6 % between true taus for any limit; the table
gives the smallest, the mean and the largest over the true taus.

**False acceptance**: share of studies in which a criterion accepts any of several proxy tasks at any look, although
the true tau of all is target - 0.20 throughout. Decisions are made by the judge of the proxy search, with each of the
compared criteria and its default settings. A model's deviations at fractions f and g of training have correlation
min(f, g) / max(f, g), as `group_sequential` assumes, or are independent.
"""

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from benchmarks.criteria import CRITERIA
from nasproxy.stages.proxy_search.judge import Judge, JudgedModels
from nasproxy.stages.proxy_search.race import TaskSpeed
from nasproxy.stages.references.state import Reference
from nasproxy.statistics.acceptance import ROUNDING, Criterion, LookPlan, VerdictKind
from nasproxy.statistics.concordance import kendall_taus
from nasproxy.statistics.deviation import tau_lower_limit
from nasproxy.statistics.missing import Floats
from nasproxy.trials.records import Check, State, Status, TrialRecord

TRUE_TAUS = tuple(np.arange(0.30, 0.801, 0.025).round(3).tolist())
GAP = 0.20
"""Difference between the target and the true tau of a proxy task that must not be accepted."""
TOTAL_STEPS = 10_000
MIN_MODELS, MIN_VALID_RATIO = 5, 0.7


def sample_taus(tau: float, n: int, draws: int, random: np.random.Generator) -> Floats:
    """Sample taus of n models with normal scores and a given true tau, shape (draws,)."""
    reference = random.standard_normal((draws, n))
    proxy = correlate(reference, tau, random.standard_normal((draws, n)))
    in_order = np.argsort(reference, axis=1)  # after sorting by the reference, all samples share one reference
    return kendall_taus(np.take_along_axis(proxy, in_order, axis=1), np.arange(n, dtype=np.float64))


def correlate(reference: Floats, tau: float, noise: Floats) -> Floats:
    """Compute normal scores with a given true tau to the reference (Greiner, 1909); broadcastable shapes."""
    rho = math.sin(math.pi / 2 * tau)
    return rho * reference + math.sqrt(1 - rho**2) * noise


def compute_coverage(n: int, tau: float, draws: int, random: np.random.Generator) -> float:
    """Compute the share of samples whose lower confidence limit lies at or below the true tau."""
    values, counts = np.unique(sample_taus(tau, n, draws, random).round(9), return_counts=True)
    limits = [tau_lower_limit(value, n) for value in values.tolist()]
    is_covered = [limit is not None and limit <= tau for limit in limits]
    return float(counts[is_covered].sum() / draws)


@dataclass(frozen=True)
class Family:
    """A simulated study whose proxy tasks must not be accepted.

    Attributes:
        target: Tau of a good proxy task.
        models: Number of reference models.
        looks: Number of checks of a proxy task, spaced geometrically from 1 % to 98 % of training.
        tasks: Number of proxy tasks.
        is_correlated: Whether a model's deviations at different checks are correlated.
    """

    target: float
    models: int
    looks: int
    tasks: int
    is_correlated: bool

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps of the checks."""
        return tuple((TOTAL_STEPS * np.geomspace(0.01, 0.98, self.looks)).round().astype(int).tolist())

    def draw(self, random: np.random.Generator) -> tuple[Floats, Floats]:
        """Draw reference scores, shape (models,), and proxy scores, shape (tasks, looks, models)."""
        reference = random.standard_normal(self.models)
        steps = np.array(self.steps)
        fresh = random.standard_normal((self.looks, self.tasks, self.models))
        noise = [fresh[0]]
        for before, step, new in zip(steps, steps[1:], fresh[1:], strict=False):
            kept = float(before / step) if self.is_correlated else 0.0
            noise.append(kept * noise[-1] + math.sqrt(1 - kept**2) * new)
        return reference, correlate(reference, self.target - GAP, np.stack(noise, axis=1))

    def accepts(self, rule: Criterion, reference: Floats, scores: Floats) -> bool:
        """Return whether the judge accepts any proxy task at any look.

        Looks with a tau below the target are skipped, since no criterion accepts there.
        """
        judge = Judge(rule, MIN_MODELS, MIN_VALID_RATIO)
        plan, speed = LookPlan(self.tasks, (self.models,)), TaskSpeed(self.steps, 1.0)
        references = tuple(Reference(i, {}, str(i), float(score), 1.0) for i, score in enumerate(reference))
        for task in scores:
            hopeful = np.flatnonzero(kendall_taus(task, reference) >= self.target - ROUNDING)
            models = JudgedModels(references, tuple(self._records(task))) if hopeful.size else None
            for look in hopeful.tolist():
                assert models is not None
                _, verdict = judge.look(models, self.steps[: look + 1], speed, plan, total_steps=TOTAL_STEPS)
                if verdict.kind is VerdictKind.ACCEPTED:
                    return True
        return False

    def _records(self, task: Floats) -> Iterator[TrialRecord]:
        for scores in task.T.tolist():
            checks = (Check(step, score, float(step)) for step, score in zip(self.steps, scores, strict=False))
            yield TrialRecord(Status(State.RUNNING), tuple(checks))


def count_false_acceptances(family: Family, draws: int, seed: int) -> dict[str, int]:
    """Count the studies in which each criterion accepts a proxy task, on common random numbers."""
    random = np.random.default_rng(seed)
    rules = {name: make(family.target) for name, make in CRITERIA.items()}
    counts = dict.fromkeys(rules, 0)
    for _ in range(draws):
        reference, scores = family.draw(random)
        for name, rule in rules.items():
            counts[name] += family.accepts(rule, reference, scores)
    return counts


def compute_upper95(count: int, draws: int) -> float:
    """Compute the one-sided 95 % upper confidence limit of a share (Clopper and Pearson)."""
    return 1.0 if count == draws else float(stats.beta.ppf(0.95, count + 1, draws - count))


def measure_coverage(models: Sequence[int], draws: int, seed: int) -> list[dict[str, Any]]:
    """Measure the smallest, largest and mean coverage over the true taus, by number of models."""
    random, found = np.random.default_rng(seed), []
    for n in models:
        by_tau = {tau: compute_coverage(n, tau, draws, random) for tau in TRUE_TAUS}
        values = list(by_tau.values())
        found.append({"models": n, "low": min(values), "high": max(values), "mean": float(np.mean(values))})
        found[-1]["by_tau"] = by_tau
    return found


def measure_acceptance(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure the share of studies with a false acceptance, by number of models, correlation and criterion."""
    found = []
    for n in given.models:
        for is_correlated in (True, False):
            family = Family(given.target, n, given.looks, given.tasks, is_correlated)
            for name, count in count_false_acceptances(family, given.studies, given.seed).items():
                shares = {"share": count / given.studies, "upper95": compute_upper95(count, given.studies)}
                found.append({"models": n, "correlated": is_correlated, "criterion": name, **shares})
    return found


def print_tables(found: dict[str, Any]) -> None:
    """Print the results as tables."""
    console = Console(width=120)
    limits = Table("models", "smallest", "mean", "largest", title="coverage of the 95 % lower confidence limit")
    for row in found["coverage"]:
        limits.add_row(str(row["models"]), *(f"{row[name]:.3f}" for name in ("low", "mean", "high")))
    accepted = Table(
        "models", "looks", "criterion", "share", "upper 95 %", title="share of studies with a false acceptance"
    )
    for row in found["false_acceptance"]:
        looks = "correlated" if row["correlated"] else "independent"
        accepted.add_row(str(row["models"]), looks, row["criterion"], f"{row['share']:.1%}", f"{row['upper95']:.1%}")
    console.print(limits, accepted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, nargs="+", default=[10, 20, 30], help="reference models of a study")
    parser.add_argument("--draws", type=int, default=20_000, help="simulated samples for coverage")
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies for false acceptance")
    parser.add_argument("--target", type=float, default=0.65)
    parser.add_argument("--looks", type=int, default=20)
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = parser.parse_args()
    if min(given.draws, given.studies, given.looks, given.tasks) < 1 or min(given.models) < 8:
        parser.error("--models must be at least 8, --draws, --studies, --looks and --tasks at least 1")
    found = {
        "coverage": measure_coverage(given.models, given.draws, given.seed),
        "false_acceptance": measure_acceptance(given),
    }
    print_tables(found)
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
