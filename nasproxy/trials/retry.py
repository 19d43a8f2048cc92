"""What follows a trial that failed by its own fault: another trial, whose recipe differs. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nasproxy.trials.records import Cause
from nasproxy.trials.retry_settings import RetrySettings
from nasproxy.trials.spec import TrialSpec

MICRO_BATCH = "training.micro_batch"
FEWEST_IMAGES = 2
"""A micro-batch of one image has no batch statistics where a model's last features are one pixel."""


@dataclass(frozen=True)
class Retry:
    """A trial that stands in for one that failed.

    Attributes:
        spec: What it is.
        change: What it does differently, in words.
    """

    spec: TrialSpec
    change: str


def find_retry(spec: TrialSpec, causes: Sequence[Cause], policy: RetrySettings) -> Retry | None:
    """What stands in for a trial after it, and each trial that stood in for it before, has failed.

    A function of what was asked for and of how that ended, so that results hang on nothing else.

    Args:
        spec: The trial that was asked for.
        causes: Why it failed, then why each of those that stood in for it did.
        policy: What is done about which cause.

    Returns:
        The next trial, trained from scratch; None where the last failure is final.
    """
    if not causes or causes.count(Cause.OOM) > policy.max_oom_retries or causes.count(Cause.NAN) > 1:
        return None
    following: Retry | None = Retry(spec, "")
    for cause in causes:
        following = None if following is None else _after(cause, following.spec, policy)
    return following


def read_batch_size(spec: TrialSpec) -> int | None:
    """Images of one optimizer step, overrides applied; None where the trainer has no `read_batch_size`."""
    trainer = spec.applied().recipe.trainer
    size = trainer.get("batch_size")
    if isinstance(size, bool) or not isinstance(size, int):
        return None
    is_mixed = any((trainer.get(name) or 0) * spec.proxy_task.augmentation > 0 for name in ("mixup", "cutmix"))
    return spec.proxy_task.batch(size, multiple=2 * spec.devices if is_mixed else 1)


def _after(cause: Cause, spec: TrialSpec, policy: RetrySettings) -> Retry | None:
    if cause is Cause.OOM:
        return _halved(spec)
    if cause is Cause.NAN and policy.on_nan == "lower_rate":
        return _slowed(spec, policy.learning_rate_factor)
    if cause is Cause.NAN and policy.on_nan == "clip":
        return _clipped(spec, policy.clip_norm)
    return None


def _halved(spec: TrialSpec) -> Retry | None:
    """The trial with half as many images on a device at once; its batches and its schedule stay."""
    batch = read_batch_size(spec)
    if batch is None:
        return None
    share = math.ceil(batch / spec.devices)
    held = min(spec.applied().recipe.micro_batch or share, share)
    if held <= FEWEST_IMAGES:
        return None
    half = max(FEWEST_IMAGES, math.ceil(held / 2))
    smaller = replace(_overridden(spec, MICRO_BATCH, half), recipe=replace(spec.recipe, micro_batch=half))
    return Retry(smaller, f"a micro-batch of {half} instead of {held}")


def _slowed(spec: TrialSpec, factor: float) -> Retry | None:
    rate = spec.applied().recipe.trainer.get("learning_rate")
    if not isinstance(rate, int | float):
        return None
    lower = _with_trainer(spec, "learning_rate", rate * factor)
    return Retry(lower, f"a learning rate of {rate * factor:g} instead of {rate:g}")


def _clipped(spec: TrialSpec, norm: float) -> Retry | None:
    trainer = spec.applied().recipe.trainer
    if "clip_norm" not in trainer:
        return None
    before = trainer["clip_norm"]
    if before is not None and before <= norm:
        return None  # it was clipped as hard already
    change = f"gradients clipped to a norm of {norm:g}" + ("" if before is None else f" instead of {before:g}")
    return Retry(_with_trainer(spec, "clip_norm", norm), change)


def _with_trainer(spec: TrialSpec, name: str, value: float) -> TrialSpec:
    recipe = replace(spec.recipe, trainer={**spec.recipe.trainer, name: value})
    return replace(_overridden(spec, f"trainer.{name}", value), recipe=recipe)


def _overridden(spec: TrialSpec, path: str, value: float) -> TrialSpec:
    """The trial with another value where its proxy task gives one; else the task stays what readers group it by."""
    task = spec.proxy_task
    if path not in task.overrides:
        return spec
    return replace(spec, proxy_task=replace(task, overrides={**task.overrides, path: value}))
