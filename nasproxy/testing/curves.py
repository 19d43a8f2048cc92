"""Tables of made-up learning curves, for tests, benchmarks and trying things out.

    python -m nasproxy.testing.curves curves.csv --architectures 400 --checks 90 --proxy early=crossing

Every architecture has a quality, which orders its full training in the end. What a proxy's curves show of it, and when,
is the proxy's kind.
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
"""Seconds of a proxy's step over those of full training, unless told otherwise."""


@dataclass(frozen=True)
class SyntheticModels:
    """What a kind may make curves of.

    Attributes:
        quality: What orders the full trainings in the end, shape (n_models, 1).
        other: A property that has nothing to do with it, same shape.
    """

    quality: Floats
    other: Floats


def steady(models: SyntheticModels, progress: Floats) -> Floats:
    """Better models are ahead from the first check on, and more so later."""
    return models.quality * (0.2 + 0.8 * progress)


def crossing(models: SyntheticModels, progress: Floats) -> Floats:
    """The models that will be worse are ahead early on; the curves cross halfway."""
    return models.quality * (2 * progress - 1)


def rise_and_fall(models: SyntheticModels, progress: Floats) -> Floats:
    """Scores rise to a peak, then fall as a model overfits; the order stays."""
    beyond_peak: Floats = np.maximum(0, progress - 0.5 - 0.1 * np.tanh(models.other))
    return steady(models, progress) - 6 * beyond_peak


def hopeless(models: SyntheticModels, progress: Floats) -> Floats:
    """Scores tell nothing of the quality, however long the training."""
    return models.other * (0.2 + 0.8 * progress)


KINDS: Mapping[str, Callable[[SyntheticModels, Floats], Floats]] = {
    kind.__name__: kind for kind in (steady, crossing, rise_and_fall, hopeless)
}
"""What the command line calls them."""


@dataclass(frozen=True)
class Noise:
    """How far a score lies from where its model stands, as standard deviations in units of the final scores' spread.

    Attributes:
        early: Of each check when training begins; it falls with the square root of progress.
        late: Of each check in the end.
        seed: Between seeds, the same for all checks of a training.
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
    """Make up trainings, as rows of a table of learning curves.

    Args:
        architectures: How many models.
        checks: Checks of a whole training, one a step.
        proxies: Kind by proxy, besides the reference `full`, which is steady.
        costs: Seconds of a proxy's step over those of full training; 0.5 unless given.
        seeds: Trainings of each model under each proxy.
        noise: How noisy scores are.
        failures: Share of the trainings that fail, before their first check or after any but the last.
        seed: Which table.
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
    """Write rows as a CSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)


def _cost(text: str) -> float:
    """A cost as the command line gives it; one that is no number is none, 0."""
    try:
        return float(text) if text else PROXY_COST
    except ValueError:
        return 0.0


def main() -> None:
    """Write a table as the command line asks for it."""
    parser = argparse.ArgumentParser(
        prog="python -m nasproxy.testing.curves",
        description="Write a table of made-up learning curves, for backend=replay.",
    )
    parser.add_argument("path", type=Path, help="the CSV file to write")
    parser.add_argument("--architectures", type=int, default=400)
    parser.add_argument("--checks", type=int, default=90, help="of a whole training")
    parser.add_argument("--seeds", type=int, default=1, help="of each model under each proxy")
    parser.add_argument(
        "--proxy",
        action="append",
        default=[],
        metavar="NAME=KIND[:COST]",
        help=f"a proxy besides full, its kind ({', '.join(KINDS)}), and the seconds of its step over those of full "
        f"training ({PROXY_COST} unless given); may be given more than once",
    )
    parser.add_argument("--failures", type=float, default=0.0, help="share of the trainings that fail")
    parser.add_argument("--early-noise", type=float, default=Noise.early, help="of a score when training begins")
    parser.add_argument("--late-noise", type=float, default=Noise.late, help="of a score in the end")
    parser.add_argument("--seed-noise", type=float, default=Noise.seed, help="between seeds")
    parser.add_argument("--seed", type=int, default=0, help="which table")
    given = parser.parse_args()
    proxies, costs = {}, {}
    for text in given.proxy:
        name, _, setting = text.partition("=")
        proxies[name], _, cost = setting.partition(":")
        costs[name] = _cost(cost)
        if proxies[name] not in KINDS or not costs[name] > 0:
            parser.error(
                f"--proxy needs NAME=KIND[:COST] with a kind of {', '.join(KINDS)} and a cost above 0, got {text}"
            )
    if given.architectures < 1 or given.checks < 1 or given.seeds < 1 or not 0 <= given.failures <= 1:
        parser.error("architectures, checks and seeds must be at least 1, failures a share from 0 to 1")
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
