"""A synthetic trainer: scores and seconds from formulas, and faults on demand.

It makes the calls of a real trainer, in a real process and on real files, without training a model. Two choices of the
architecture have an effect: `quality` determines the rank of the final score, and `fault` the failure halfway through
training. Two faults can be avoided by a retry: `oom>8` runs out of memory above 8 images per batch, and `nan>0.1`
diverges at learning rates above 0.1 unless gradients are clipped. Of several faults, separated by spaces, the first
that is not avoided occurs.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping

import numpy as np

from nasproxy.errors import ConfigError
from nasproxy.execution.worker.context import TrialContext
from nasproxy.storage.files import replace_text
from nasproxy.trials.spec import Recipe, Split, TrialSpec

FAULTS = ("none", "oom", "nan", "crash", "crash_after", "oom_after", "broken", "die", "die_once", "hang", "orphan")


def make_recipe(*, total_steps: int = 100, check_every_steps: int = 10, **arguments: float | None) -> Recipe:
    """Make a recipe of the synthetic trainer, without data and model."""
    return Recipe(
        model={},
        trainer={"_target_": f"{__name__}.train", "version": 1, **arguments},
        data={"loader": None},
        data_fingerprint="synthetic",
        total_steps=total_steps,
        check_every_steps=check_every_steps,
    )


def train(
    trial: TrialContext,
    *,
    check_seconds: float = 0.0,
    noise: float = 0.01,
    reversed_below: int = 0,
    schedule_steps: int = 0,
    batch_size: int = 1,
    learning_rate: float = 0.0,
    clip_norm: float | None = None,
) -> None:
    """Report the curve of the trial's architecture.

    Args:
        trial: Trial to run.
        check_seconds: Wall-clock seconds of a cycle; reported training seconds are computed from a formula instead.
        noise: Standard deviation of an accuracy between seeds.
        reversed_below: Trainings with fewer total steps than this rank the models in reverse.
        schedule_steps: Length of the schedule, whatever the total number of steps; 0 for a schedule that ends with it.
        batch_size: Images per step, for the fault `oom`.
        learning_rate: Learning rate, for the fault `nan`.
        clip_norm: Norm to clip gradients at, for the fault `nan`; None for no clipping.
    """
    images = trial.spec.recipe.micro_batch or trial.proxy_task.batch(batch_size)
    fault = find_uncured(str(trial.architecture.get("fault", "none")), images, learning_rate, clip_norm)
    position = trial.checkpoint_dir / "position.json"
    done = int(json.loads(position.read_text())["step"]) if position.exists() else 0
    train_seconds = 0.0
    while not trial.should_stop(done):
        step = next(step for step in trial.check_steps if step > done)
        time.sleep(check_seconds)
        if 2 * step >= trial.total_steps:
            _fail(fault, trial)
        train_seconds += (step - done) * compute_step_seconds(trial.architecture, trial.proxy_task.width)
        progress = step / (schedule_steps or trial.total_steps)
        accuracy = compute_score(trial.spec, step, progress, noise, is_reversed=trial.total_steps < reversed_below)
        trial.report(step, {"accuracy": accuracy, "loss": 1.0 - accuracy}, train_seconds)
        replace_text(position, json.dumps({"step": step}))
        done = step
    if done == trial.total_steps and fault in ("oom_after", "crash_after"):
        _fail(fault.removesuffix("_after"), trial)


def find_uncured(faults: str, images: int, learning_rate: float, clip_norm: float | None) -> str:
    """Return the first fault that batch size, learning rate and clipping do not avoid, or "none"."""
    for fault in faults.split():
        kind, _, limit = fault.partition(">")
        if not limit:
            return kind
        is_cured = images <= int(limit) if kind == "oom" else learning_rate <= float(limit) or clip_norm is not None
        if not is_cured:
            return kind
    return "none"


def compute_step_seconds(architecture: Mapping[str, object], width: float) -> float:
    """Compute the reported seconds of a step: proportional to width, and up to twofold with quality."""
    quality = architecture.get("quality", 0)
    return 0.01 * width * (1 + 0.01 * float(quality if isinstance(quality, int | float) else 0))


def compute_score(spec: TrialSpec, step: int, progress: float, noise: float, *, is_reversed: bool = False) -> float:
    """Compute the accuracy at a share of the schedule: ranks are random at first and converge to those of `quality`."""
    quality = float(spec.architecture["quality"])
    settled = min(1.0, progress / (0.8 - 0.4 * spec.proxy_task.data_fraction * spec.proxy_task.width))
    shuffled = float(np.random.default_rng(int(quality)).random())
    seed = [spec.seed, step, int(quality), int(spec.split is Split.FULL)]
    jitter = float(np.random.default_rng(seed).normal(0.0, noise))
    return (
        0.5 * progress
        + 0.4 * (settled * (100 - quality if is_reversed else quality) / 100 + (1 - settled) * shuffled)
        + jitter
    )


def _fail(fault: str, trial: TrialContext) -> None:
    marker = trial.model_dir / "died.once"
    if fault not in FAULTS:
        raise ConfigError(f"fault must be one of {FAULTS}, got {fault!r}: choose one of them")
    if fault == "oom":
        raise MemoryError("not enough memory for this architecture")
    if fault == "nan":
        raise FloatingPointError("the loss is not finite")
    if fault == "crash":
        raise RuntimeError("the trainer has a mistake")
    if fault == "broken" and not (trial.model_dir.parent.parent / "fixed").exists():
        raise RuntimeError("the trainer has not been fixed yet")
    if fault == "orphan":  # leaves a process behind
        (trial.model_dir / "orphan").write_text(str(subprocess.Popen(["sleep", "600"]).pid))
    if fault == "hang":
        time.sleep(3600)
    if fault == "die" or (fault == "die_once" and not marker.exists()):
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
