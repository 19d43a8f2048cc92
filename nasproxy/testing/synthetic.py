"""A trainer that trains nothing: curves from a formula, seconds from a formula, and faults on demand.

It makes the calls of a real trainer, in a real process, on real files, and takes next to no time. What an
architecture's choices mean here: `quality` orders the final scores, `fault` names what goes wrong halfway. Two faults
can be cured: `oom>8` runs out of memory with more than 8 images at once, and `nan>0.1` diverges at a learning rate
above 0.1 unless gradients are clipped. Of several faults, parted by spaces, the first that is not cured comes up.
"""

import json
import os
import signal
import time
from collections.abc import Mapping

import numpy as np

from nasproxy.errors import ConfigError
from nasproxy.execution.worker.context import TrialContext
from nasproxy.storage.files import replace_text
from nasproxy.training import hooks
from nasproxy.trials.spec import Recipe, Split

FAULTS = ("none", "oom", "nan", "crash", "crash_after", "oom_after", "broken", "die", "die_once", "hang")


def make_recipe(*, total_steps: int = 100, check_every_steps: int = 10, **arguments: float | None) -> Recipe:
    """A recipe whose trials this module trains; it has no data and no model."""
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
    batch_size: int = 1,
    learning_rate: float = 0.0,
    clip_norm: float | None = None,
) -> None:
    """Report the curve of the trial's architecture.

    Args:
        trial: What to train.
        check_seconds: Seconds that a cycle really takes; what is reported as training time is another matter.
        noise: Standard deviation of a score between seeds.
        reversed_below: A whole training of fewer steps than this ranks the models in reverse.
        batch_size: Images of a step; memory may not hold as many.
        learning_rate: Some architectures diverge at high ones.
        clip_norm: Clips their gradients.
    """
    images = trial.spec.recipe.micro_batch or trial.proxy_task.batch(batch_size)
    fault = find_uncured(str(trial.architecture.get("fault", "none")), images, learning_rate, clip_norm)
    position = hooks.get_checkpoint_dir(trial.model_dir) / "position.json"
    done = int(json.loads(position.read_text())["step"]) if position.exists() else 0
    while not hooks.get_stop_training(trial.model_dir, done - 1, trial.total_steps):
        step = next(step for step in trial.check_steps if step > done)
        time.sleep(check_seconds)
        if 2 * step >= trial.total_steps:
            _go_wrong(fault, trial)
        seconds = (step - done) * compute_step_seconds(trial.architecture, trial.proxy_task.width)
        score = compute_score(trial, step, noise, is_reversed=trial.total_steps < reversed_below)
        hooks.update_trial_training_accuracy_metric(trial.model_dir, score, done, step - 1, seconds, trial.total_steps)
        replace_text(position, json.dumps({"step": step}))
        done = step
    if done == trial.total_steps and fault in ("oom_after", "crash_after"):
        _go_wrong(fault.removesuffix("_after"), trial)


def find_uncured(faults: str, images: int, learning_rate: float, clip_norm: float | None) -> str:
    """The first of some faults that is not cured by as few images at once, or by such a learning rate or clipping."""
    for fault in faults.split():
        kind, _, limit = fault.partition(">")
        if not limit:
            return kind
        is_cured = images <= int(limit) if kind == "oom" else learning_rate <= float(limit) or clip_norm is not None
        if not is_cured:
            return kind
    return "none"


def compute_step_seconds(architecture: Mapping[str, object], width: float) -> float:
    """Reported seconds of a step: dearer for wide models, a little so for good ones."""
    quality = architecture.get("quality", 0)
    return 0.01 * width * (1 + 0.01 * float(quality if isinstance(quality, int | float) else 0))


def compute_score(trial: TrialContext, step: int, noise: float, *, is_reversed: bool = False) -> float:
    """Score after `step` steps: early on the ranks are another order, later those of `quality`, or their reverse."""
    quality = float(trial.architecture["quality"])
    progress = step / trial.total_steps
    settled = min(1.0, progress / (0.8 - 0.4 * trial.proxy_task.data_fraction * trial.proxy_task.width))
    shuffled = float(np.random.default_rng(int(quality)).random())
    seed = [trial.seed, step, int(quality), int(trial.spec.split is Split.FULL)]
    jitter = float(np.random.default_rng(seed).normal(0.0, noise))
    return (
        0.5 * progress
        + 0.4 * (settled * (100 - quality if is_reversed else quality) / 100 + (1 - settled) * shuffled)
        + jitter
    )


def _go_wrong(fault: str, trial: TrialContext) -> None:
    marker = trial.model_dir / "died.once"
    if fault not in FAULTS:
        raise ConfigError(f"fault must be one of {FAULTS}, got {fault!r}")
    if fault == "oom":
        raise MemoryError("no memory left for this architecture")
    if fault == "nan":
        raise FloatingPointError("the loss is not finite")
    if fault == "crash":
        raise RuntimeError("the trainer has a mistake")
    if fault == "broken" and not (trial.model_dir.parent.parent / "mended").exists():
        raise RuntimeError("the trainer waits to be mended")
    if fault == "hang":
        time.sleep(3600)
    if fault == "die" or (fault == "die_once" and not marker.exists()):
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
