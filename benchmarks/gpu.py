"""Training speed on a GPU: `python -m benchmarks.gpu`.

1. One optimized training (bf16, channels last, images on the GPU) compared with a plain loop (32 bit, images
   transferred batch by batch).
2. Small trainings as concurrent processes on one GPU: which number has the highest total throughput?
3. Five seeds of one architecture as one batched training, compared with a single seed.

`--device cpu` runs a small version on CPU cores, as a smoke test.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from benchmarks.training import build_chain, make_timm_builder
from nasproxy.data.dataset import ImageSplit
from nasproxy.data.stream import BatchStream
from nasproxy.trainers import optimization
from nasproxy.trainers.image_arrays import ImageArrays
from nasproxy.trainers.settings import ClassifierSettings

SEEDS = 5
LARGE_GOAL, SMALL_GOAL, SEEDS_GOAL = 1.0, 3.0, 2.0


@dataclass(frozen=True)
class Sizes:
    """Sizes of the measurements.

    Attributes:
        large: Model of the first measurement.
        large_side_px: Side of its images.
        large_batch: Images per step of the first measurement.
        small: Model of the other measurements, with images of 16 pixels and 64 images per step.
        images: Number of training images.
        steps: Steps of one run.
        processes: Numbers of concurrent trainings to measure.
        repeats: Number of runs, of which the median is reported.
    """

    large: Callable[[], nn.Module]
    large_side_px: int
    large_batch: int
    small: Callable[[], nn.Module]
    images: int
    steps: int
    processes: tuple[int, ...]
    repeats: int


SIZES = {
    "cuda": Sizes(
        make_timm_builder("resnet50"), 128, 256, partial(build_chain, 32, 4), 4096, 200, (1, 2, 3, 4, 6, 8), 3
    ),
    "cpu": Sizes(partial(build_chain, 4, 2), 16, 16, partial(build_chain, 4, 2), 128, 4, (1, 2), 1),
}
SETTINGS = ClassifierSettings(
    batch_size=64, learning_rate=0.01, weight_decay=5e-4, momentum=0.9, optimizer="sgd", schedule="constant"
)


def make_images(images: int, side_px: int) -> ImageSplit:
    """Make random images of 10 classes."""
    random = np.random.default_rng(0)
    pixels = random.normal(size=(images, 3, side_px, side_px)).astype(np.float32)
    labels = random.integers(0, 10, images)
    return ImageSplit(pixels, labels, pixels[:10], labels[:10], num_classes=10)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Training:
    """One training, step by step.

    Attributes:
        batches: Training batches.
        precision: Precision of the forward pass.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: ClassifierSettings,
        batches: Iterator[optimization.Batch],
        device: torch.device,
        precision: str = "32-true",
    ) -> None:
        self.model = optimization.prepare_model(model, settings, regularisation=1.0, device=device).train()
        self.optimizer = optimization.make_optimizer(self.model, settings)
        self.settings = settings
        self.batches = batches
        self.device = device
        self.precision = precision

    def step(self) -> None:
        self.optimizer.zero_grad()
        with optimization.make_autocast(self.precision, self.device):
            optimization.add_gradients(
                self.model, next(self.batches), self.settings, micro_batch=None, backward=torch.autograd.backward
            )
        self.optimizer.step()


def measure_seconds(step: Callable[[], None], steps: int, device: torch.device, warm_up: int = 5) -> float:
    """Measure the seconds of `steps` steps after `warm_up` unmeasured ones."""
    for _ in range(warm_up):
        step()
    synchronize(device)
    started = time.perf_counter()
    for _ in range(steps):
        step()
    synchronize(device)
    return time.perf_counter() - started


def transfer_batches(data: ImageSplit, batch_size: int, device: torch.device) -> Iterator[optimization.Batch]:
    """Yield batches that are stored on the host and transferred to the device one by one."""
    images, labels = torch.from_numpy(data.train_images), torch.from_numpy(data.train_labels)
    stream = BatchStream(len(labels), batch_size, seed=0)
    for step in range(sys.maxsize):
        chosen = torch.from_numpy(stream.indices(step))
        yield images[chosen].to(device), labels[chosen].to(device)


def yield_device_batches(
    data: ImageSplit, settings: ClassifierSettings, device: torch.device
) -> Iterator[optimization.Batch]:
    """Yield batches of images that are stored on the device."""
    return ImageArrays(data, settings, seed=0, device=device).batches(0, sys.maxsize)


def measure_large(sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """Compare an optimized training with a plain loop, in alternating runs."""
    data = make_images(sizes.images, sizes.large_side_px)
    plain = replace(SETTINGS, batch_size=sizes.large_batch)
    fast = replace(plain, channels_last=True)
    trainings = {
        "plain": Training(sizes.large(), plain, transfer_batches(data, sizes.large_batch, device), device),
        "fast": Training(sizes.large(), fast, yield_device_batches(data, fast, device), device, "bf16-mixed"),
    }
    times: dict[str, list[float]] = {name: [] for name in trainings}
    for _ in range(sizes.repeats):
        for name, training in trainings.items():
            times[name].append(measure_seconds(training.step, sizes.steps, device))
    rates = {name: sizes.steps / statistics.median(found) for name, found in times.items()}
    speed_up = rates["fast"] / rates["plain"]
    return {"steps_per_second": rates, "speed_up": speed_up, "is_reached": speed_up > LARGE_GOAL}


def measure_small(sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """Measure the total steps per second by number of concurrent processes."""
    rates = {count: statistics.median(_run_concurrently(count, sizes, device)) for count in sizes.processes}
    best = max(rates, key=lambda count: rates[count])
    speed_up = rates[best] / rates[1]
    return {"steps_per_second": rates, "best": best, "speed_up": speed_up, "is_reached": speed_up >= SMALL_GOAL}


def _run_concurrently(count: int, sizes: Sizes, device: torch.device) -> list[float]:
    context = multiprocessing.get_context("spawn")  # CUDA is initialized here and cannot be used after a fork
    barrier, times = context.Barrier(count), context.Queue()
    started = [
        context.Process(target=_train_concurrently, args=(barrier, times, sizes, str(device), seed))
        for seed in range(count)
    ]
    for process in started:
        process.start()
    found = [times.get(timeout=600) for _ in started]
    for process in started:
        process.join()
    return [
        count * sizes.steps / (max(one[run][1] for one in found) - min(one[run][0] for one in found))
        for run in range(sizes.repeats)
    ]


def _train_concurrently(barrier: Any, times: Any, sizes: Sizes, device_name: str, seed: int) -> None:
    """Train in a process of its own, starting each run together with the others; report start and end times."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    device = torch.device(device_name)
    training = Training(
        sizes.small(), SETTINGS, yield_device_batches(make_images(sizes.images, 16), SETTINGS, device), device
    )
    found = []
    for _ in range(sizes.repeats):
        measure_seconds(training.step, 0, device)
        barrier.wait(600)
        began = time.monotonic()  # shared by all processes of a machine
        measure_seconds(training.step, sizes.steps, device, warm_up=0)
        found.append((began, time.monotonic()))
    times.put(found)


class BatchedSeeds:
    """Several seeds of one architecture as one training with stacked weights.

    Batch-norm statistics are stacked too, so that each seed has its own. Seeds do not interact: results equal those of
    separate trainings up to the order of floating-point sums.
    """

    def __init__(
        self, models: list[nn.Module], batches: list[Iterator[optimization.Batch]], device: torch.device
    ) -> None:
        self.model = models[0].to(device).train()
        parameters, buffers = stack_module_state([model.to(device).train() for model in models])
        self.parameters: Mapping[str, Tensor] = parameters
        self.buffers: Mapping[str, Tensor] = buffers
        self.batches = batches
        decayed = [parameters[name] for name, one in self.model.named_parameters() if one.ndim > 1]
        spared = [parameters[name] for name, one in self.model.named_parameters() if one.ndim <= 1]
        self.optimizer = torch.optim.SGD(
            [{"params": decayed, "weight_decay": SETTINGS.weight_decay}, {"params": spared}],
            lr=SETTINGS.learning_rate,
            momentum=SETTINGS.momentum,
            nesterov=True,
        )
        self._losses = vmap(self._loss, randomness="different")

    def step(self) -> None:
        images, labels = (torch.stack(parts) for parts in zip(*(next(one) for one in self.batches), strict=True))
        self.optimizer.zero_grad()
        # The gradient of the sum with respect to a seed's weights is that of its own loss.
        self._losses(self.parameters, self.buffers, images, labels).sum().backward()
        self.optimizer.step()

    def _loss(
        self, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], images: Tensor, labels: Tensor
    ) -> Tensor:
        scores = functional_call(self.model, (dict(parameters), dict(buffers)), (images,))
        return nn.functional.cross_entropy(scores, labels)


def build_seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a model with the initial weights of a seed."""
    torch.manual_seed(seed)
    return build()


def make_batches(data: ImageSplit, device: torch.device) -> list[Iterator[optimization.Batch]]:
    """Make the batches of each seed, on the device."""
    images = [ImageArrays(data, SETTINGS, seed=seed, device=device) for seed in range(SEEDS)]
    return [one.batches(0, sys.maxsize) for one in images]


def measure_seeds(sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """Compare five batched seeds with a single one, in alternating runs."""
    data = make_images(sizes.images, 16)
    alone = Training(build_seeded(sizes.small, 0), SETTINGS, make_batches(data, device)[0], device)
    models = [build_seeded(sizes.small, seed) for seed in range(SEEDS)]
    together = BatchedSeeds(models, make_batches(data, device), device)
    times: dict[str, list[float]] = {"alone": [], "together": []}
    for _ in range(sizes.repeats):
        times["alone"].append(measure_seconds(alone.step, sizes.steps, device))
        times["together"].append(measure_seconds(together.step, sizes.steps, device))
    medians = {name: statistics.median(found) for name, found in times.items()}
    ratio = medians["together"] / medians["alone"]
    return {"seconds": medians, "times_one_seed": ratio, "is_reached": ratio <= SEEDS_GOAL}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=list(SIZES), default="cuda", help="(default: %(default)s)")
    name = parser.parse_args().device
    if name == "cuda" and not torch.cuda.is_available():
        print("This benchmark needs a GPU, got none, so nothing was measured: run it where torch.cuda.is_available().")
        print(json.dumps({"benchmark": "gpu", "device": None, "results": {}}))
        return
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = True
    sizes, device = SIZES[name], torch.device(name)
    results = {
        "large": measure_large(sizes, device),
        "small": measure_small(sizes, device),
        "seeds": measure_seeds(sizes, device),
    }
    words = {
        "large": (
            f"bf16, channels last, images on the device: {results['large']['speed_up']:.2f} times the speed of the "
            f"plain loop (goal: above {LARGE_GOAL:g})"
        ),
        "small": (
            f"{results['small']['best']} concurrent small trainings: {results['small']['speed_up']:.2f} times the "
            f"throughput of a single one (goal: at least {SMALL_GOAL:g})"
        ),
        "seeds": (
            f"{SEEDS} batched seeds: {results['seeds']['times_one_seed']:.2f} times the time of a single seed "
            f"(goal: at most {SEEDS_GOAL:g})"
        ),
    }
    for line in words.values():
        print(line)
    print(json.dumps({"benchmark": "gpu", "device": _get_device_name(device), "results": results}))


def _get_device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


if __name__ == "__main__":
    main()
