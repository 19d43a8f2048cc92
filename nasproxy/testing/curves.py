"""Tables of synthetic learning curves, for tests, benchmarks and experiments.

    python -m nasproxy.testing.curves curves.csv --architectures 400 --checks 90 --proxy early=crossing

Each architecture has a quality, which determines its rank after full training. The kind of a proxy task determines how
its curves depend on the quality.
"""

import argparse
import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
COLUMNS = ("architecture", "proxy", "seed", "step", "score", "train_seconds", "status")
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
    seed: int = 0,
) -> Iterator[tuple[str, str, int, int, float, float, str]]:
    """Generate the rows of a table of synthetic learning curves.

    Args:
        architectures: Number of models.
        checks: Checks of a whole training, one per step.
        proxies: Kind by proxy task; full training, `full`, is added and has the kind steady.
        costs: Cost of a step by proxy task, relative to a step of full training; 0.5 by default.
        seeds: Trainings of each model under each proxy task.
        noise: Noise of the scores.
        failures: Share of trainings that fail, at a random check.
        seed: Seed of the table.
    """
    random = np.random.default_rng(seed)
    noise = noise or Noise()
    models = SyntheticModels(random.normal(size=(architectures, 1)), random.normal(size=(architectures, 1)))
    step_seconds = random.lognormal(0.0, 0.3, size=architectures)
    steps = np.arange(1, checks + 1)
    progress = steps / checks
    sd = noise.late + (noise.early - noise.late) * (1 - np.sqrt(progress))
    for proxy, kind in {REFERENCE: "steady", **(proxies or {})}.items():
        cost = step_seconds * (1.0 if proxy == REFERENCE else (costs or {}).get(proxy, PROXY_COST))
        for number in range(seeds):
            shown = KINDS[kind](models, progress) + sd * random.normal(size=(architectures, checks))
            shown += noise.seed * random.normal(size=(architectures, 1))
            scores = 0.5 + 0.3 * (1 - np.exp(-5 * progress)) + 0.05 * shown
            for model in range(architectures):
                length, cause = checks, ""
                if random.random() < failures:
                    length, cause = int(random.integers(checks)), str(random.choice(CAUSES))
                seconds = (steps[:length] * cost[model]).tolist()
                name = f"model{model:06}"
                values = zip(steps[:length].tolist(), scores[model, :length].tolist(), seconds, strict=True)
                yield from ((name, proxy, number, step, round(score, 6), round(s, 4), "") for step, score, s in values)
                if cause:
                    yield (
                        name,
                        proxy,
                        number,
                        length + 1,
                        float("nan"),
                        round((length + 1) * float(cost[model]), 4),
                        cause,
                    )


def write_table(path: Path, rows: Iterator[tuple[str, str, int, int, float, float, str]]) -> None:
    """Write rows to a CSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)


def _parse_cost(text: str) -> float:
    """Parse a cost of the command line; 0, which is rejected later, for text that is not a number."""
    try:
        return float(text) if text else PROXY_COST
    except ValueError:
        return 0.0


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
    rows = generate_rows(
        architectures=given.architectures,
        checks=given.checks,
        proxies=proxies,
        costs=costs,
        seeds=given.seeds,
        noise=Noise(given.early_noise, given.late_noise, given.seed_noise),
        failures=given.failures,
        seed=given.seed,
    )
    write_table(given.path, rows)


if __name__ == "__main__":
    main()
