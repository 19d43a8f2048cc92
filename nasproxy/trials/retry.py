"""Retries for out-of-memory and diverged trials: which changed trial replaces a failed one. Pure functions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nasproxy.trials.records import Cause
from nasproxy.trials.retry_settings import RetrySettings
from nasproxy.trials.spec import TrialSpec

MICRO_BATCH = "training.micro_batch"
MIN_MICRO_BATCH = 2
"""Smallest micro-batch: batch normalisation over one image fails where a model's last feature map is one pixel."""


@dataclass(frozen=True)
class Retry:
    """A changed trial that replaces a failed one.

    Attributes:
        spec: Specification of the retry.
        change: What it does differently, as text.
    """

    spec: TrialSpec
    change: str


def find_retry(spec: TrialSpec, causes: Sequence[Cause], policy: RetrySettings) -> Retry | None:
    """Find the next retry of a trial.

    Depends on the original trial and the causes of failure only, so that the same failures always give the same
    retries.

    Args:
        spec: The original trial.
        causes: Why it failed, then why each of its retries failed.
        policy: Which causes are retried, and how.

    Returns:
        The next retry, trained from scratch; None if the last failure is final.
    """
    if not causes or causes.count(Cause.OOM) > policy.max_oom_retries or causes.count(Cause.NAN) > 1:
        return None
    following: Retry | None = Retry(spec, "")
    for cause in causes:
        following = None if following is None else _change_for(cause, following.spec, policy)
    return following


def read_batch_size(spec: TrialSpec) -> int | None:
    """Return the images of one optimizer step, overrides applied; None if the trainer has no `batch_size`."""
    trainer = spec.applied().recipe.trainer
    size = trainer.get("batch_size")
    if isinstance(size, bool) or not isinstance(size, int):
        return None
    is_mixed = any((trainer.get(name) or 0) * spec.proxy_task.augmentation > 0 for name in ("mixup", "cutmix"))
    return spec.proxy_task.batch(size, multiple=2 * spec.devices if is_mixed else 1)


def read_smallest_batch(spec: TrialSpec) -> int | None:
    """Return the images of the smallest forward pass in training; None if the trainer has no `batch_size`."""
    size, spec = read_batch_size(spec), spec.applied()
    if size is None:
        return None
    share = max(1, size // spec.devices)
    return share // count_micro_batches(share, spec.recipe.micro_batch)


def count_micro_batches(count: int, micro_batch: int | None) -> int:
    """Compute the number of micro-batches, each of at least 2 images for batch statistics unless `micro_batch` is 1.

    >>> [count_micro_batches(*case) for case in ((36, 7), (36, None), (5, 2), (5, 1))]
    [6, 1, 2, 5]
    """
    parts = 1 if micro_batch is None else math.ceil(count / micro_batch)
    return parts if micro_batch == 1 else min(parts, max(1, count // 2))


def _change_for(cause: Cause, spec: TrialSpec, policy: RetrySettings) -> Retry | None:
    if cause is Cause.OOM:
        return _halve_micro_batch(spec)
    if cause is Cause.NAN and policy.on_nan == "lower_rate":
        return _lower_learning_rate(spec, policy.learning_rate_factor)
    if cause is Cause.NAN and policy.on_nan == "clip":
        return _clip_gradients(spec, policy.clip_norm)
    return None


def _halve_micro_batch(spec: TrialSpec) -> Retry | None:
    """Halve the images that a device holds at once; batch size and schedule stay the same."""
    batch = read_batch_size(spec)
    if batch is None:
        return None
    share = math.ceil(batch / spec.devices)
    held = min(spec.applied().recipe.micro_batch or share, share)
    if held <= MIN_MICRO_BATCH:
        return None
    half = max(MIN_MICRO_BATCH, math.ceil(held / 2))
    smaller = replace(_update_override(spec, MICRO_BATCH, half), recipe=replace(spec.recipe, micro_batch=half))
    return Retry(smaller, f"a micro-batch of {half} instead of {held}")


def _lower_learning_rate(spec: TrialSpec, factor: float) -> Retry | None:
    rate = spec.applied().recipe.trainer.get("learning_rate")
    if not isinstance(rate, int | float):
        return None
    lower = _set_trainer_argument(spec, "learning_rate", rate * factor)
    return Retry(lower, f"a learning rate of {rate * factor:g} instead of {rate:g}")


def _clip_gradients(spec: TrialSpec, norm: float) -> Retry | None:
    trainer = spec.applied().recipe.trainer
    if "clip_norm" not in trainer:
        return None
    before = trainer["clip_norm"]
    if before is not None and before <= norm:
        return None  # the failed trial was clipped to at most this norm
    change = f"gradients clipped to a norm of {norm:g}" + ("" if before is None else f" instead of {before:g}")
    return Retry(_set_trainer_argument(spec, "clip_norm", norm), change)


def _set_trainer_argument(spec: TrialSpec, name: str, value: float) -> TrialSpec:
    recipe = replace(spec.recipe, trainer={**spec.recipe.trainer, name: value})
    return replace(_update_override(spec, f"trainer.{name}", value), recipe=recipe)


def _update_override(spec: TrialSpec, path: str, value: float) -> TrialSpec:
    """Change an override of the proxy task if it has this path; else keep the task, by which results are grouped."""
    task = spec.proxy_task
    if path not in task.overrides:
        return spec
    return replace(spec, proxy_task=replace(task, overrides={**task.overrides, path: value}))
