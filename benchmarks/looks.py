"""Stated and simulated error of the default criterion at looks that nobody knew beforehand: `python -m benchmarks.looks`.

Each simulated study judges proxy tasks whose true tau is target - 0.10 at every look, on models with normal scores, and
adds models while a verdict is inconclusive. **Error** is the share of studies that accept a proxy task at any look; it
must not exceed the stated error. **Power** is the same share where the true tau is target + 0.15. A model's deviations
at fractions f and g of training have correlation min(f, g) / max(f, g), are independent, or are the sum of both in
equal shares; the table gives the largest error of the three, and the power for the sum.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.coverage import compute_upper95, correlate
from nasproxy.statistics.acceptance import (
    MARGIN,
    ROUNDING,
    Criterion,
    Evidence,
    LookPlan,
    VerdictKind,
    count_models_to_add,
)
from nasproxy.statistics.concordance import kendall_taus
from nasproxy.statistics.criteria.group_sequential import GroupSequential
from nasproxy.statistics.missing import Floats

NOISE_SHARES = (0.0, 0.5, 1.0)
STEP = 5
"""Number of models added at a time."""
BETTER = 0.15
"""Difference between the true tau and the target where power is measured."""


def make_schedules() -> dict[str, Floats]:
    """Make the fractions of training at each look, by the name of the schedule."""
    random = np.random.default_rng(11)
    doublings = 2.0 ** np.arange(-7, 1)
    schedules = {
        "1, at the end": [1.0],
        "3: 25, 50, 100 %": [0.25, 0.5, 1.0],
        "8, geometric": np.geomspace(0.01, 1, 8),
        "14, 41 % apart": 1.41 ** np.arange(-13.0, 1),
        "16, geometric": np.geomspace(0.01, 1, 16),
        "40, geometric": np.geomspace(0.01, 1, 40),
        "16, equal steps": np.arange(1, 17) / 16,
        "100, equal steps": np.arange(1, 101) / 100,
        "400, equal steps": np.arange(1, 401) / 400,
        "clusters of 5 at each doubling": np.outer(doublings, np.linspace(1 / 1.118, 1, 5)),
        "pairs, 12 and 41 % apart": np.outer(1.58 ** np.arange(-10.0, 1), [1 / 1.12, 1]),
        "sparse, then dense": [0.01, 0.02, 0.04, 0.08, *np.geomspace(0.1, 1, 50)],
        "dense, then sparse": [*np.geomspace(0.01, 0.1, 50), 0.15, 0.3, 0.6, 1.0],
        "late start, 21 from 80 %": np.linspace(0.8, 1, 21),
        "early start, 0.1 %, then 5 from 30 %": [0.001, 0.3, 0.45, 0.6, 0.8, 1.0],
        "10, random": [*random.uniform(0, 1, 9), 1.0],
        "30, random in the logarithm": [*np.exp(random.uniform(math.log(0.01), 0, 29)), 1.0],
    }
    return {name: np.unique(fractions) for name, fractions in schedules.items()}


def draw_study(
    fractions: Floats, models: int, tasks: int, tau: float, noise_share: float, random: np.random.Generator
) -> tuple[Floats, Floats]:
    """Draw full-training scores, shape (models,), and proxy scores of a given true tau, shape (tasks, looks, models)."""
    reference = random.standard_normal(models)
    waning, own = random.standard_normal((tasks, models)), random.standard_normal((tasks, fractions.size, models))
    rows = []
    for place, (before, now) in enumerate(pairwise([fractions[0], *fractions])):
        kept = before / now
        waning = kept * waning + math.sqrt(1 - kept**2) * random.standard_normal((tasks, models))
        rows.append(math.sqrt(1 - noise_share) * waning + math.sqrt(noise_share) * own[:, place])
    return reference, correlate(reference, tau, np.stack(rows, axis=1))


def accepts(rule: Criterion, reference: Floats, proxy: Floats, fractions: Floats, plan: LookPlan) -> bool:
    """Return whether a criterion accepts a proxy task at any look, adding models while it is inconclusive.

    Looks with a tau below the target are skipped, since no criterion accepts or adds models there.
    """
    models, taus = plan.sizes[0], {n: kendall_taus(proxy[:, :n], reference[:n]) for n in plan.sizes}
    for look in range(1, fractions.size + 1):
        while taus[models][look - 1] >= rule.target - ROUNDING:
            verdict = rule.judge(Evidence(reference[:models], proxy[:look, :models], fractions[:look], plan))
            if verdict.kind is VerdictKind.ACCEPTED:
                return True
            more = count_models_to_add(verdict, models, step=STEP, maximum=plan.sizes[-1])
            if not more:
                break
            models += more
    return False


def count_accepted(
    rule: Criterion, fractions: Floats, plan: LookPlan, *, tau: float, noise_share: float, studies: int, seed: int
) -> int:
    """Count the simulated studies that accept any proxy task at any look."""
    random, count = np.random.default_rng(seed), 0
    for _ in range(studies):
        reference, tasks = draw_study(fractions, plan.sizes[-1], plan.tasks, tau, noise_share, random)
        count += any(accepts(rule, reference, proxy, fractions, plan) for proxy in tasks)
    return count


def measure(
    schedules: Mapping[str, Floats], plans: Sequence[LookPlan], target: float, studies: int, seed: int
) -> list[dict[str, Any]]:
    """Measure error and power of each schedule and plan."""
    rule, found = GroupSequential(target=target), []
    for plan in plans:
        for name, fractions in schedules.items():
            given: dict[str, Any] = {"studies": studies, "seed": seed}
            floor = [
                count_accepted(rule, fractions, plan, tau=target - MARGIN, noise_share=share, **given)
                for share in NOISE_SHARES
            ]
            good = count_accepted(rule, fractions, plan, tau=target + BETTER, noise_share=0.5, **given)
            found.append(
                {
                    "sizes": plan.sizes,
                    "tasks": plan.tasks,
                    "looks": name,
                    "stated": rule.error_spent(plan) * plan.tasks,
                    "error": max(floor) / studies,
                    "upper95": compute_upper95(max(floor), studies),
                    "power": good / studies,
                }
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=10, help="reference models of a study")
    parser.add_argument("--most", type=int, help="maximum number of reference models (default: none are added)")
    parser.add_argument("--tasks", type=int, default=1, help="proxy tasks of a study")
    parser.add_argument("--target", type=float, default=0.65)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = parser.parse_args()
    most = given.most or given.models
    if not 8 <= given.models <= most or min(given.tasks, given.studies) < 1:
        parser.error("--models must be at least 8, --most not below --models, --tasks and --studies at least 1")
    plan = LookPlan(given.tasks, (*range(given.models, most, STEP), most))
    found = measure(make_schedules(), [plan], given.target, given.studies, given.seed)
    shown = Table("looks", "stated", "error", "upper 95 %", "power", title=f"{plan.sizes} models, {plan.tasks} tasks")
    for row in found:
        shown.add_row(row["looks"], *(f"{row[name]:.1%}" for name in ("stated", "error", "upper95", "power")))
    Console(width=120).print(shown)
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
