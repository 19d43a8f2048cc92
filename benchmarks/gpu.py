"""What a GPU gives: a faster loop, several small trials at once, several seeds in one training.

    python -m benchmarks.gpu [--device cuda|cpu] [--seconds 20]

Every figure is a ratio of two things measured in turn in one run. Without a GPU it says so and ends well; with
`--device cpu` it runs the same on the processor, to see that it works.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from benchmarks.seeds import many_seeds, one_seed
from nasproxy.backends.local import LocalBackend
from nasproxy.models import small_cnn
from nasproxy.proxy import ProxyTask, flatten
from nasproxy.storage import FolderTrialStore
from nasproxy.trial import Recipe, Split, State, TrialSpec
from nasproxy.worker import load_dataset

CONF = Path(__file__).resolve().parent.parent / "conf"
AT_ONCE = (1, 2, 3, 4, 6, 8)
SEEDS, BATCH, SIDE_PX, CLASSES = 5, 64, 32, 10
REPEATS = 3
PACKING_GOAL, SEEDS_GOAL = 3.0, 2.0


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def steps_per_second(step: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Speed of a step, after a few that warm up."""
    for _ in range(3):
        step()
    synchronise(device)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        for _ in range(5):
            step()
        count += 5
        synchronise(device)
    return count / (time.perf_counter() - started)


def by_turns(kinds: dict[str, Callable[[], object]], device: torch.device, seconds: float) -> dict[str, float]:
    """Median steps a second of each kind, measured by turns so that what else the machine does touches all alike."""
    share = seconds / (REPEATS * len(kinds))
    speeds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(REPEATS):
        for name, step in kinds.items():
            speeds[name].append(steps_per_second(step, device, share))
    return {name: statistics.median(found) for name, found in speeds.items()}


def loops(device: torch.device, seconds: float, model: str) -> dict[str, Any]:
    """bf16, channels last and images that live on the device, against the loop that one writes first."""
    import timm

    images = torch.randn(16 * BATCH, 3, SIDE_PX, SIDE_PX)
    labels = torch.randint(0, CLASSES, (len(images),))

    def loop(*, is_bf16: bool, is_channels_last: bool, is_resident: bool) -> Callable[[], None]:
        layout = torch.channels_last if is_channels_last else torch.contiguous_format
        net = timm.create_model(model, num_classes=CLASSES).to(device, memory_format=layout).train()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        home = device if is_resident else torch.device("cpu")
        kept = (images.to(home).contiguous(memory_format=layout), labels.to(home))

        def step() -> None:
            chosen = torch.randint(0, len(labels), (BATCH,), device=home)
            batch, classes = (part.index_select(0, chosen).to(device) for part in kept)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=is_bf16):
                loss = nn.functional.cross_entropy(net(batch.contiguous(memory_format=layout)), classes)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return step

    none = {"is_bf16": False, "is_channels_last": False, "is_resident": False}
    kinds = {
        "plain": loop(**none),
        "bf16": loop(**{**none, "is_bf16": True}),
        "channels last": loop(**{**none, "is_channels_last": True}),
        "images on the device": loop(**{**none, "is_resident": True}),
        "all three": loop(is_bf16=True, is_channels_last=True, is_resident=True),
    }
    speeds = by_turns(kinds, device, seconds)
    return {"model": model, "over_plain": {name: round(speed / speeds["plain"], 3) for name, speed in speeds.items()}}


def packing(device: torch.device, steps: int) -> dict[str, Any]:
    """Throughput of small trials side by side on one device, against one at a time: whole trials, start included."""
    found = {count: _throughput(device, count, steps) for count in _at_once(device)}
    best = max(found, key=lambda count: found[count])
    return {
        "steps_per_second": {str(count): round(speed, 1) for count, speed in found.items()},
        "best_at_once": best,
        "over_one": round(found[best] / found[1], 3),
        "goal": PACKING_GOAL,
    }


def _at_once(device: torch.device) -> Iterator[int]:
    """How many trials to try at once; a processor has no more than two to spare for this."""
    yield from AT_ONCE if device.type == "cuda" else AT_ONCE[:2]


def _throughput(device: torch.device, count: int, steps: int) -> float:
    """Steps a second of `count` trials that run at once on one device."""
    with tempfile.TemporaryDirectory() as folder:
        store = FolderTrialStore(Path(folder) / "trials")
        backend = LocalBackend(
            store,
            slots=count,
            gpus=1 if device.type == "cuda" else None,
            gpus_per_trial=1 / count,
            device_type=device.type,
            trusted_modules=["nasproxy", "trainers"],
            preload=["trainers.plain_pytorch"],
        )
        backend.rehearse([_spec(0, device, steps)])  # the server is warm from here on
        digests = {spec.key: store.create(spec) for spec in (_spec(seed, device, steps) for seed in range(count))}
        started = time.perf_counter()
        for key, digest in digests.items():
            backend.submit(key, digest)
        while backend.live():
            backend.wait(1.0)
        seconds = time.perf_counter() - started
        backend.close()
        ended = {store.read(key).status.state for key in digests}
        if ended != {State.DONE}:
            raise RuntimeError(f"trials must end well to be measured, got {sorted(state.value for state in ended)}")
    return count * steps / seconds


def _spec(seed: int, device: torch.device, steps: int) -> TrialSpec:
    """A trial of the embedded study's baseline model."""
    space, data, trainer = (
        yaml.safe_load((CONF / f"{name}.yaml").read_text())
        for name in ("search_space/digits_cnn", "data/digits", "trainer/plain_pytorch")
    )
    recipe = Recipe(
        model=space["model"],
        trainer=trainer,
        data=data,
        data_fingerprint=load_dataset(data).fingerprint,
        total_steps=steps,
        check_every_steps=steps,
        device_type=device.type,
    )
    return TrialSpec(flatten(space["baseline"]), ProxyTask(), Split.FULL, seed, recipe)


def seeds(device: torch.device, seconds: float) -> dict[str, Any]:
    """Five seeds of one architecture batched into one training, against one seed alone."""
    architecture = flatten(yaml.safe_load((CONF / "search_space/digits_cnn.yaml").read_text())["baseline"])

    def build() -> nn.Module:
        scale = {"width": 1.0, "depth": 1.0, "num_classes": CLASSES, "channels": 3, "image_size_px": SIDE_PX}
        return small_cnn.build(architecture, **scale)  # type: ignore[arg-type]

    images = torch.randn(SEEDS, BATCH, 3, SIDE_PX, SIDE_PX, device=device)
    labels = torch.randint(0, CLASSES, (SEEDS, BATCH), device=device)
    alone, (together, _) = one_seed(build, device), many_seeds(build, SEEDS, device)
    kinds: dict[str, Callable[[], object]] = {
        "one": lambda: alone(images[0], labels[0]),
        "all": lambda: together(images, labels),
    }
    speeds = by_turns(kinds, device, seconds)
    return {"seeds": SEEDS, "time_over_one_seed": round(speeds["one"] / speeds["all"], 3), "goal": SEEDS_GOAL}


def measure(device: torch.device, seconds: float, steps: int, model: str) -> dict[str, Any]:
    """All figures of one device."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the processor, one thread"
    return {
        "device": name,
        "loops": loops(device, seconds, model),
        "packing": packing(device, steps),
        "seeds": seeds(device, seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each comparison of loops")
    parser.add_argument("--steps", type=int, default=4000, help="of each small trial")
    parser.add_argument("--model", default="mobilenetv3_small_100", help="a timm model, for the loops")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("no GPU here: nothing was measured; --device cpu shows that the benchmark itself works")
        return
    torch.set_num_threads(1)
    found = measure(torch.device(given.device), given.seconds, given.steps, given.model)
    print(f"on {found['device']}:")
    for kind, ratio in found["loops"]["over_plain"].items():
        print(f"  {found['loops']['model']}, {kind}: {ratio:.2f} of the plain loop's speed")
    for count, speed in found["packing"]["steps_per_second"].items():
        print(f"  {count} small trials at once: {speed:.0f} steps a second in all")
    best = found["packing"]
    print(f"  best: {best['best_at_once']} at once, {best['over_one']:.2f} of one at a time (goal {best['goal']:g})")
    many = found["seeds"]
    print(f"  {many['seeds']} seeds in one training: {many['time_over_one_seed']:.2f} of one seed's time, ", end="")
    print(f"goal {many['goal']:g}")
    print(json.dumps({"benchmark": "gpu", "results": found}))


if __name__ == "__main__":
    main()
