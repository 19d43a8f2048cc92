"""Conversion of published learning curves to tables for replay: `python -m benchmarks.published KIND FILE TABLE`.

The published tables have one row per training and one column per check; the result has one row per check, with the
columns of docs/replay.md. Most tables lack training times: steps then take a time in proportion to the size of the
model, in units of the mean. Trainings that diverged become failures, and repetitions of a setting further seeds.
"""

import argparse
import csv
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nasproxy.errors import DataError, NasproxyError

COLUMNS = ("architecture", "proxy", "seed", "step", "score", "train_seconds", "status")
Row = Mapping[str, str]

DIVERGED = 0.006
"""Highest final accuracy of a diverged training on TinyImageNet, whose 200 classes give 0.005 by chance."""


@dataclass(frozen=True)
class Training:
    """One row of a published table.

    Attributes:
        architecture: Name of the architecture.
        proxy: Name of the proxy task, or `full`.
        seconds: Duration of the whole training, in any unit.
        scores: Score at each check; empty text if missing.
        is_diverged: Whether the training diverged.
    """

    architecture: str
    proxy: str
    seconds: float
    scores: Sequence[str]
    is_diverged: bool = False


def naap(row: Row) -> Training:
    """Small networks on CIFAR-10, accuracy after each of 90 epochs (higher is better)."""
    return Training(row["model_id"], "full", float(row["macs"]), _read_scores(row, "acc_ep"))


def metaqnn(row: Row) -> Training:
    """Random networks on CIFAR-10, accuracy after each of 20 epochs (higher is better)."""
    name = f"p{row['num_params']}_d{row['depth']}_lr{row['lr']}"
    return Training(name, "full", float(row["num_params"]), _read_scores(row, "acc_"))


def wikitext2(row: Row) -> Training:
    """Recurrent cells on WikiText-2, validation loss after each of 50 epochs: `--mode min`."""
    return Training(row["recipe"], "full", float(row["total_seconds"]), _read_scores(row, "val_loss_ep"))


def resnets(row: Row) -> Training:
    """ResNets on TinyImageNet (higher is better), all as full trainings."""
    return _read_resnet(row, "b{num_blocks}_f{num_filters}_k{filter_size}", "full")


def resnets_width(row: Row) -> Training:
    """ResNets on TinyImageNet with width as the proxy dimension: 20 filters are full training, fewer a proxy task."""
    proxy = "full" if row["num_filters"] == "20" else f"filters{row['num_filters']}"
    return _read_resnet(row, "b{num_blocks}_k{filter_size}", proxy)


def resnets_depth(row: Row) -> Training:
    """ResNets on TinyImageNet with depth as the proxy dimension: 8 blocks are full training, fewer a proxy task."""
    proxy = "full" if row["num_blocks"] == "8" else f"blocks{row['num_blocks']}"
    return _read_resnet(row, "f{num_filters}_k{filter_size}", proxy)


KINDS: Mapping[str, Callable[[Row], Training]] = {
    "naap": naap,
    "metaqnn": metaqnn,
    "wikitext2": wikitext2,
    "resnets": resnets,
    "resnets-width": resnets_width,
    "resnets-depth": resnets_depth,
}


def _read_resnet(row: Row, name: str, proxy: str) -> Training:
    work = float(row["num_blocks"]) * (float(row["num_filters"]) * float(row["filter_size"])) ** 2
    scores = _read_scores(row, "acc_")
    return Training(name.format(**row), proxy, work, scores, is_diverged=float(scores[-1]) <= DIVERGED)


def _read_scores(row: Row, prefix: str) -> list[str]:
    """Return the columns of a prefix in order of their number, without a check before the first step."""
    places = sorted(
        int(name[len(prefix) :]) for name in row if name.startswith(prefix) and name[len(prefix) :].isdigit()
    )
    return [row[f"{prefix}{place}"] for place in places if place > 0]


def list_rows(trainings: Sequence[Training], every: int) -> Iterator[tuple[str, str, int, int, str, float, str]]:
    """Yield a row for every `every`-th check and the last check, and for each failure.

    Args:
        trainings: Published trainings.
        every: Interval between written checks, in checks.
    """
    seeds: Counter[tuple[str, str]] = Counter()
    mean = sum(training.seconds for training in trainings) / len(trainings)
    for training in trainings:
        seed = seeds[training.architecture, training.proxy]
        seeds[training.architecture, training.proxy] += 1
        checks = len(training.scores)
        names = (training.architecture, training.proxy, seed)
        cost = training.seconds / mean / checks
        if training.is_diverged:
            yield (*names, 1, "", cost, "nan")
            continue
        for step in range(1, checks + 1):
            if not training.scores[step - 1]:
                yield (*names, step, "", step * cost, "nan")
                break
            if step % every == 0 or step == checks:
                yield (*names, step, training.scores[step - 1], step * cost, "")


def convert(kind: str, path: Path, *, every: int = 1, schedule: str | None = None) -> Iterator[tuple[object, ...]]:
    """Convert a published table to rows of a table for replay.

    Args:
        kind: Key of `KINDS`.
        path: Published file, unchanged.
        every: Interval between written checks, in checks.
        schedule: Schedule of the ResNets, a value of column `ss`; None for the most frequent.

    Raises:
        DataError: The file lacks a column of its kind, or rows of the schedule.
    """
    with path.open(encoding="utf-8", newline="") as file:
        found: list[Row] = list(csv.DictReader(file))
    try:
        if kind.startswith("resnets"):
            wanted = schedule or Counter(row["ss"] for row in found).most_common(1)[0][0]
            found = [row for row in found if row["ss"] == wanted]
        trainings = [KINDS[kind](row) for row in found]
    except (KeyError, ValueError, IndexError) as error:
        raise DataError(
            f"{path} must be the published table {kind}, got a table without {error}: give the published file"
        ) from error
    if not trainings:
        raise DataError(
            f"{path} must contain trainings of schedule {schedule}, got none: omit --schedule for the most frequent"
        )
    yield from list_rows(trainings, every)


def write_table(path: Path, converted: Iterator[tuple[object, ...]]) -> None:
    """Write rows to a CSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(converted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "kind", choices=KINDS, help="; ".join(f"{name}: {kind.__doc__}" for name, kind in KINDS.items())
    )
    parser.add_argument("file", type=Path, help="published file, unchanged")
    parser.add_argument("table", type=Path, help="CSV file to write")
    parser.add_argument("--every", type=int, default=1, help="interval between written checks, in checks")
    parser.add_argument(
        "--schedule", help="schedule of the ResNets, a value of column `ss` (default: the most frequent)"
    )
    given = parser.parse_args()
    if given.every < 1:
        parser.error(f"--every must be at least 1, got {given.every}: give a number of checks")
    try:
        write_table(given.table, convert(given.kind, given.file, every=given.every, schedule=given.schedule))
    except (NasproxyError, OSError) as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
