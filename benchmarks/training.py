"""Speed of a Lightning trial relative to a bare PyTorch loop: `python -m benchmarks.training`.

Small networks show the overhead per step; timm models show its share of steps of 10 ms or more. Both train the same
model on the same batches.
`steps` is the ratio of steps per second, with the training seconds that the trial reports, which exclude validation and
checkpoints. `whole fit` is the ratio of total times, including Trainer, callbacks, checks, reports and checkpoints, but
not the model's forward passes in validation; it includes the fixed cost of a trial, which matters more for short ones.
`processor` is the same ratio in CPU time, which is more robust on a machine with other load.
"""

import argparse
import json
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn

from nasproxy.data.dataset import ImageSplit
from nasproxy.execution.worker.context import TrialContext
from nasproxy.storage.trial_files import read_checks
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.trainers import image_classifier, optimization
from nasproxy.trainers.settings import ClassifierSettings
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.spec import Recipe, Split, TrialSpec

SETTINGS = ClassifierSettings(
    batch_size=64, learning_rate=0.01, weight_decay=5e-4, momentum=0.9, optimizer="sgd", schedule="cosine"
)
IMAGES, VALIDATION_IMAGES = 1024, 256
REPEATS = 5


@dataclass(frozen=True)
class Workload:
    """A model of a given cost.

    Attributes:
        name: Name in the table.
        build: Builds the model, for images of 3 channels and 10 classes.
        side_px: Side of an image.
        steps: Optimizer steps of one run.
        goal: Lowest acceptable ratio to the bare loop's speed.
        goal_of: Ratio that the goal applies to.
    """

    name: str
    build: Callable[[], nn.Module]
    side_px: int
    steps: int
    goal: float
    goal_of: str = "steps"


def build_chain(channels: int, layers: int) -> nn.Module:
    """Build a chain of convolutions."""
    made: list[nn.Module] = []
    inputs = 3
    for number in range(layers):
        conv = nn.Conv2d(inputs, channels, 3, stride=1 if number else 2, padding=1, bias=False)
        made += [conv, nn.BatchNorm2d(channels), nn.ReLU()]
        inputs = channels
    return nn.Sequential(*made, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))


def make_timm_builder(name: str) -> Callable[[], nn.Module]:
    """Return a builder of a timm model."""
    return partial(timm.create_model, name, num_classes=10)


WORKLOADS = (
    Workload("about 1.5 ms a step", partial(build_chain, 8, 2), side_px=16, steps=600, goal=0.65, goal_of="whole fit"),
    Workload("about 10 ms a step", partial(build_chain, 22, 4), side_px=16, steps=400, goal=0.93, goal_of="whole fit"),
    Workload("mobilenetv3_small_050", make_timm_builder("mobilenetv3_small_050"), side_px=32, steps=200, goal=0.98),
    Workload("resnet10t", make_timm_builder("resnet10t"), side_px=32, steps=100, goal=0.98),
)


@dataclass(frozen=True)
class Seconds:
    """Wall-clock time and CPU time, in seconds."""

    wall: float
    processor: float

    def __sub__(self, other: "Seconds") -> "Seconds":
        return Seconds(self.wall - other.wall, self.processor - other.processor)

    def __add__(self, other: "Seconds") -> "Seconds":
        return Seconds(self.wall + other.wall, self.processor + other.processor)


def read_clocks() -> Seconds:
    return Seconds(time.perf_counter(), time.process_time())


class Timed(nn.Module):
    """Measures the time of a model's forward passes in evaluation mode."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.validation = Seconds(0.0, 0.0)

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            return self.model(images)
        started = read_clocks()
        scores = self.model(images)
        self.validation += read_clocks() - started
        return scores


class Trial(TrialContext):
    """A trial on random images."""

    def load_data(self) -> ImageSplit:
        random = np.random.default_rng(0)
        side_px = self.architecture["workload"].side_px
        shape = (IMAGES + VALIDATION_IMAGES, 3, side_px, side_px)
        images, labels = random.normal(size=shape).astype(np.float32), random.integers(0, 10, shape[0])
        return ImageSplit(images[:IMAGES], labels[:IMAGES], images[IMAGES:], labels[IMAGES:], num_classes=10)

    def build_model(self, data: ImageSplit) -> nn.Module:
        torch.manual_seed(self.seed)
        self.architecture["built"].append(Timed(self.architecture["workload"].build()))
        return self.architecture["built"][-1]


def run_bare_loop(workload: Workload) -> tuple[Seconds, float]:
    """Measure a bare training loop: total time, and seconds of the steps alone."""
    started = read_clocks()
    data = Trial(Path(), _make_spec(workload)).load_data()
    images, labels = torch.from_numpy(data.train_images), torch.from_numpy(data.train_labels)
    torch.manual_seed(0)
    model = workload.build().train()
    optimizer = optimization.make_optimizer(model, SETTINGS)
    batches = torch.randint(0, IMAGES, (workload.steps, SETTINGS.batch_size))
    ready = read_clocks()
    for batch in batches:
        loss = nn.functional.cross_entropy(model(images.index_select(0, batch)), labels.index_select(0, batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return read_clocks() - started, (read_clocks() - ready).wall


def run_lightning_trial(workload: Workload) -> tuple[Seconds, float]:
    """Measure a trial: total time without the forward passes of validation, and the reported training seconds."""
    spec = _make_spec(workload)
    with tempfile.TemporaryDirectory() as folder:
        started = read_clocks()
        image_classifier.train(Trial(Path(folder), spec), **vars(SETTINGS))
        took = read_clocks() - started - spec.architecture["built"][-1].validation
        return took, read_checks(TrialFolder(Path(folder)).metrics)[-1].train_seconds


def _make_spec(workload: Workload) -> TrialSpec:
    common = Recipe(
        model={},
        trainer={},
        data={},
        data_fingerprint="",
        total_steps=workload.steps,
        check_every_steps=workload.steps // 5,
    )
    architecture: dict[str, Any] = {"workload": workload, "built": []}
    return TrialSpec(architecture, ProxyTask(), Split.SEARCH, 0, common)


def measure(workload: Workload, repeats: int) -> dict[str, Any]:
    """Alternate runs of both, so that other load on the machine affects both equally."""
    pairs = [(run_bare_loop(workload), run_lightning_trial(workload)) for _ in range(repeats)]
    ratios = {
        "steps": [bare_steps / trial_steps for (_, bare_steps), (_, trial_steps) in pairs],
        "whole fit": [bare.wall / trial.wall for (bare, _), (trial, _) in pairs],
        "processor": [bare.processor / trial.processor for (bare, _), (trial, _) in pairs],
    }
    return {
        "workload": workload.name,
        "bare_ms_per_step": round(1e3 * statistics.median(steps for (_, steps), _ in pairs) / workload.steps, 3),
        "trial_ms_per_step": round(1e3 * statistics.median(steps for _, (_, steps) in pairs) / workload.steps, 3),
        **{name: round(statistics.median(values), 3) for name, values in ratios.items()},
        "goal": workload.goal,
        "goal_of": workload.goal_of,
    }


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", nargs="+", choices=[one.name for one in WORKLOADS], help="all by default")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="alternating runs of each (default: %(default)s)")
    arguments = parser.parse_args()
    ratios = ("steps", "whole fit", "processor")
    print(
        f"{'model':24}{'bare ms/step':>14}{'trial ms/step':>15}" + "".join(f"{name:>11}" for name in ratios) + "  goal"
    )
    results = []
    for workload in [one for one in WORKLOADS if one.name in (arguments.workloads or [one.name])]:
        run_lightning_trial(workload)  # warm-up: the first fit includes imports
        result = measure(workload, arguments.repeats)
        results.append(result)
        print(
            f"{result['workload']:24}{result['bare_ms_per_step']:14.2f}{result['trial_ms_per_step']:15.2f}"
            + "".join(f"{result[name]:11.3f}" for name in ratios)
            + f"  {result['goal']} of {result['goal_of']}"
        )
    print(json.dumps({"benchmark": "training", "results": results}))


if __name__ == "__main__":
    main()
