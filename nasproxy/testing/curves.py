"""Tables of synthetic learning curves, for tests, benchmarks and experiments.

    python -m nasproxy.testing.curves curves.csv --architectures 400 --checks 90 --proxy early=crossing

Each architecture has a quality, which determines its rank after full training. The kind of a proxy task determines how
its curves depend on the quality.

A training on a compressed schedule ends sooner. At its end its scores are those that a whole training has at the
geometric mean of the share of its steps and of its whole length: it has trained less, but its learning rate is low.
"""

import argparse
import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
COLUMNS = ("architecture", "proxy", "seed", "step", "score", "train_seconds", "status")
Row = tuple[str, str, int, int, float, float, str]
ScheduledRow = tuple[str, str, int, int, float, float, str, int]
CAUSES = ("oom", "nan", "crash", "lost")
REFERENCE = "full"
PROXY_COST = 0.5
"""Default cost of a step of a proxy task, relative to a step of full training."""


@dataclass(frozen=True)
class SyntheticModels:
    """Latent properties of the models that curves are computed from.

    Attributes:
        quality: Determines the ranks after full training, shape (n_models, 1).
        other: A property that is independent of the quality, same shape.
    """

    quality: Floats
    other: Floats


def steady(models: SyntheticModels, progress: Floats) -> Floats:
    """Rank models by quality at all checks, with differences that grow."""
    return models.quality * (0.2 + 0.8 * progress)


def crossing(models: SyntheticModels, progress: Floats) -> Floats:
    """Rank models in reverse in the first half, and by quality in the second."""
    return models.quality * (2 * progress - 1)


def rise_and_fall(models: SyntheticModels, progress: Floats) -> Floats:
    """Rank models by quality, with scores that fall after a peak, as under overfitting."""
    beyond_peak: Floats = np.maximum(0, progress - 0.5 - 0.1 * np.tanh(models.other))
    return steady(models, progress) - 6 * beyond_peak


def hopeless(models: SyntheticModels, progress: Floats) -> Floats:
    """Rank models independently of their quality at all checks."""
    return models.other * (0.2 + 0.8 * progress)


KINDS: Mapping[str, Callable[[SyntheticModels, Floats], Floats]] = {
    kind.__name__: kind for kind in (steady, crossing, rise_and_fall, hopeless)
}
"""Kinds of proxy tasks by name on the command line."""


@dataclass(frozen=True)
class Noise:
    """Standard deviations of the noise of scores, in units of the final scores' spread.

    Attributes:
        early: Noise of each check at the beginning of training; it decreases with the square root of progress.
        late: Noise of each check at the end of training.
        seed: Noise between seeds, the same for all checks of a training.
    """

    early: float = 0.3
    late: float = 0.05
    seed: float = 0.1


def generate_rows(
    *,
    architectures: int = 400,
    checks: int = 90,
    proxies: Mapping[str, str] | None = None,
    costs: Mapping[str, float] | None = None,
    seeds: int = 1,
    noise: Noise | None = None,
    failures: float = 0.0,
    schedules: Sequence[int] = (),
    seed: int = 0,
) -> Iterator[Row | ScheduledRow]:
    """Generate the rows of a table of synthetic learning curves.

    Args:
        architectures: Number of models.
        checks: Checks of a whole training, one per step.
        proxies: Kind by proxy task; full training, `full`, is added and has the kind steady.
        costs: Cost of a step by proxy task, relative to a step of full training; 0.5 by default.
        seeds: Trainings of each model under each proxy task.
        noise: Noise of the scores.
        failures: Share of trainings that fail, at a random check.
        schedules: Steps of compressed schedules, on which each model is trained too, under each proxy task. Rows then
            have the schedule as an eighth value.
        seed: Seed of the table.
    """
    random = np.random.default_rng(seed)
    models = SyntheticModels(random.normal(size=(architectures, 1)), random.normal(size=(architectures, 1)))
    step_seconds = random.lognormal(0.0, 0.3, size=architectures)
    made = _Trainings(models, checks, noise or Noise(), failures, random)
    kinds = {REFERENCE: "steady", **(proxies or {})}
    for proxy, kind in kinds.items():
        cost = step_seconds * (1.0 if proxy == REFERENCE else (costs or {}).get(proxy, PROXY_COST))
        for length in (checks, *schedules):
            for number in range(seeds):
                for row in made.make(proxy, KINDS[kind], cost, number, length):
                    yield (*row, length) if schedules else row


@dataclass(frozen=True)
class _Trainings:
    """Makes the trainings of all models under one proxy task, with one seed, on one schedule."""

    models: SyntheticModels
    checks: int
    noise: Noise
    failures: float
    random: np.random.Generator

    def make(
        self, proxy: str, kind: Callable[[SyntheticModels, Floats], Floats], cost: Floats, number: int, length: int
    ) -> Iterator[Row]:
        """Make the rows of these trainings; `length` is the number of steps of their schedule."""
        steps = np.arange(1, length + 1)
        scores = self._make_scores(kind, steps / np.sqrt(self.checks * length))
        for model, model_scores in enumerate(scores):
            names = (f"model{model:06}", proxy, number)
            reached, cause = length, ""
            if self.random.random() < self.failures:
                reached, cause = int(self.random.integers(length)), str(self.random.choice(CAUSES))
            seconds = (steps[:reached] * cost[model]).tolist()
            values = zip(steps[:reached].tolist(), model_scores[:reached].tolist(), seconds, strict=True)
            yield from ((*names, step, round(score, 6), round(s, 4), "") for step, score, s in values)
            if cause:
                yield (*names, reached + 1, float("nan"), round((reached + 1) * float(cost[model]), 4), cause)

    def _make_scores(self, kind: Callable[[SyntheticModels, Floats], Floats], progress: Floats) -> Floats:
        """Make the scores of all models, shape (n_models, n_checks), at these shares of a whole training."""
        shape = (self.models.quality.size, progress.size)
        sd = self.noise.late + (self.noise.early - self.noise.late) * (1 - np.sqrt(progress))
        shown = kind(self.models, progress) + sd * self.random.normal(size=shape)
        shown += self.noise.seed * self.random.normal(size=(shape[0], 1))
        scores: Floats = 0.5 + 0.3 * (1 - np.exp(-5 * progress)) + 0.05 * shown
        return scores


def write_table(path: Path, rows: Iterator[Row | ScheduledRow]) -> None:
    """Write rows to a CSV file, with the schedule as the last column if they have one."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for place, row in enumerate(rows):
            if place == 0:
                writer.writerow((*COLUMNS, "schedule")[: len(row)])
            writer.writerow(row)


def _parse_cost(text: str) -> float:
    """Parse a cost of the command line; 0, which is rejected later, for text that is not a number."""
    try:
        return float(text) if text else PROXY_COST
    except ValueError:
        return 0.0


def _parse_schedules(text: str) -> tuple[int, ...]:
    """Parse the schedules of the command line; argparse reports one that is not a whole number."""
    return tuple(sorted({int(steps) for steps in text.split(",")}))


def main() -> None:
    """Write the table that the command line describes."""
    parser = argparse.ArgumentParser(
        prog="python -m nasproxy.testing.curves",
        description="Write a table of synthetic learning curves, for experiment=replay.",
    )
    parser.add_argument("path", type=Path, help="CSV file to write")
    parser.add_argument("--architectures", type=int, default=400)
    parser.add_argument("--checks", type=int, default=90, help="checks of a whole training")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each model under each proxy task")
    parser.add_argument(
        "--proxy",
        action="append",
        default=[],
        metavar="NAME=KIND[:COST]",
        help=f"proxy task, its kind ({', '.join(KINDS)}) and its cost per step relative to full training "
        f"(default: {PROXY_COST}); repeatable",
    )
    parser.add_argument(
        "--schedules",
        type=_parse_schedules,
        default=(),
        metavar="N,N,...",
        help="steps of compressed schedules, on which each model is trained too, so that proxy tasks can be confirmed",
    )
    parser.add_argument("--failures", type=float, default=0.0, help="share of trainings that fail")
    parser.add_argument(
        "--early-noise", type=float, default=Noise.early, help="noise of a check at the beginning of training"
    )
    parser.add_argument("--late-noise", type=float, default=Noise.late, help="noise of a check at the end of training")
    parser.add_argument("--seed-noise", type=float, default=Noise.seed, help="noise between seeds")
    parser.add_argument("--seed", type=int, default=0, help="seed of the table")
    given = parser.parse_args()
    proxies, costs = {}, {}
    for text in given.proxy:
        name, _, setting = text.partition("=")
        proxies[name], _, cost = setting.partition(":")
        costs[name] = _parse_cost(cost)
        if proxies[name] not in KINDS or not costs[name] > 0:
            parser.error(
                f"--proxy needs NAME=KIND[:COST] with a kind of {', '.join(KINDS)} and a cost above 0, got {text}"
            )
    if given.architectures < 1 or given.checks < 1 or given.seeds < 1 or not 0 <= given.failures <= 1:
        parser.error("architectures, checks and seeds must be at least 1, --failures a share in [0, 1]")
    if not all(0 < steps < given.checks for steps in given.schedules):
        parser.error(f"--schedules must lie between 1 and {given.checks - 1}, the checks of a whole training less one")
    rows = generate_rows(
        architectures=given.architectures,
        checks=given.checks,
        proxies=proxies,
        costs=costs,
        seeds=given.seeds,
        noise=Noise(given.early_noise, given.late_noise, given.seed_noise),
        failures=given.failures,
        schedules=given.schedules,
        seed=given.seed,
    )
    write_table(given.path, rows)


if __name__ == "__main__":
    main()
