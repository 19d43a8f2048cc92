"""Stated and simulated error of the default criterion at irregular looks: `python -m benchmarks.looks`.

Each simulated study judges one proxy task whose true tau is target - 0.10 at every look, on models with normal scores,
and adds models while the verdict is inconclusive. **Error** is the share of studies that accept it at any look; it must
not exceed the stated error. **Power** is the share accepted where the true tau is target + 0.10. A model's deviations
at fractions f and g of training have correlation min(f, g) / max(f, g), are independent, or are the sum of both in
equal shares: the table gives the largest error of the three, and the power for the sum. For several proxy tasks the
stated error is divided by their number, so the error over all of them is at most the number times that of one.
"""

import argparse
import json
import math
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.coverage import compute_upper95
from nasproxy.errors import NasproxyError
from nasproxy.statistics.acceptance import MARGIN, LookPlan
from nasproxy.statistics.boundary import SIMULATED_MODELS
from nasproxy.statistics.criteria.group_sequential import GroupSequential, SimulatedStudies
from nasproxy.statistics.missing import Floats

NOISE_SHARES = (0.0, 0.5, 1.0)
STEP = 5
"""Number of models added at a time."""
BETTER = 0.10
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


def measure(name: str, rule: GroupSequential, plan: LookPlan, seed: int) -> dict[str, Any]:
    """Measure error and power at one schedule of looks."""
    fractions = make_schedules()[name]
    boundaries = np.array([rule.find_boundary(fractions[: look + 1], plan) for look in range(fractions.size)])

    def simulate(noise_share: float, gap: float) -> tuple[float, int]:
        made = SimulatedStudies(
            fractions.tolist(), plan.sizes, rule.target, noise_share, true_tau=rule.target + gap, seed=seed
        )
        return made.accepted(boundaries), made.number

    error, studies = max(simulate(share, -MARGIN) for share in NOISE_SHARES)
    return {
        "looks": name,
        "stated": rule.error_spent(plan),
        "error": error,
        "upper95": compute_upper95(round(error * studies), studies),
        "power": simulate(0.5, BETTER)[0],
        "studies": studies,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=10, help="reference models of a study")
    parser.add_argument("--most", type=int, help="maximum number of reference models (default: none are added)")
    parser.add_argument("--tasks", type=int, default=1, help="proxy tasks that the error is divided over")
    parser.add_argument("--target", type=float, default=0.65)
    parser.add_argument("--alpha", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=1, help="seed of the simulation; the criterion's own is 0")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = parser.parse_args()
    most = given.most or given.models
    if not 8 <= given.models <= most <= SIMULATED_MODELS or given.tasks < 1:
        parser.error(f"--models must be at least 8, --most from there to {SIMULATED_MODELS}, --tasks at least 1")
    try:
        rule = GroupSequential(target=given.target, alpha=given.alpha)
    except NasproxyError as error:
        parser.exit(2, f"{error}\n")
    plan = LookPlan(given.tasks, (*range(given.models, most, STEP), most))
    found = [measure(name, rule, plan, given.seed) for name in make_schedules()]
    shown = Table("looks", "stated", "error", "upper 95 %", "power", title=f"models {plan.sizes}, tasks {plan.tasks}")
    for row in found:
        shown.add_row(row["looks"], *(f"{row[name]:.1%}" for name in ("stated", "error", "upper95", "power")))
    Console(width=120).print(shown)
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
