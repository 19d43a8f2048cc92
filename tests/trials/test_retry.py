"""Retries of failed trials, as a function of the original trial and the causes of failure."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasproxy.errors import ConfigError
from nasproxy.testing import synthetic
from nasproxy.trainers.settings import ClassifierSettings
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Cause
from nasproxy.trials.retry import Retry, find_retry, read_batch_size
from nasproxy.trials.retry_settings import RetrySettings
from nasproxy.trials.spec import Split, TrialSpec

OOM, NAN = Cause.OOM, Cause.NAN
TRAINER = {"batch_size": 64, "learning_rate": 0.1, "clip_norm": None}


def make_spec(task: ProxyTask | None = None, micro_batch: int | None = None, **trainer: Any) -> TrialSpec:
    recipe = synthetic.make_recipe(**{**TRAINER, **trainer})
    return TrialSpec({"quality": 1}, task or ProxyTask(), Split.SEARCH, 3, replace(recipe, micro_batch=micro_batch))


def find_existing_retry(spec: TrialSpec, *causes: Cause, **policy: Any) -> Retry:
    found = find_retry(spec, causes, RetrySettings(**policy))
    assert found is not None
    return found


def list_micro_batches(spec: TrialSpec, **policy: Any) -> list[int | None]:
    """List the micro-batches of all retries of a trial that always runs out of memory."""
    settings, sizes = RetrySettings(**policy), list[int | None]()
    while (found := find_retry(spec, [OOM] * (len(sizes) + 1), settings)) is not None:
        sizes.append(found.spec.recipe.micro_batch)
    return sizes


@pytest.mark.parametrize(
    ("spec", "sizes"),
    [
        (make_spec(), [32, 16, 8, 4]),
        (make_spec(micro_batch=24), [12, 6, 3, 2]),
        (make_spec(micro_batch=100), [32, 16, 8, 4]),
        (make_spec(batch_size=5), [3, 2]),
        (make_spec(batch_size=1), []),
        (make_spec(ProxyTask(devices=3)), [11, 6, 3, 2]),
        (make_spec(ProxyTask(batch_size=0.25)), [8, 4, 2]),
        (make_spec(ProxyTask(batch_size=0.25, overrides={"trainer.batch_size": 16})), [2]),
        (make_spec(ProxyTask(overrides={"training.micro_batch": 7})), [4, 2]),
    ],
)
def test_out_of_memory_halves_the_micro_batch(spec: TrialSpec, sizes: list[int]) -> None:
    assert list_micro_batches(spec) == sizes


@given(st.integers(1, 4096), st.integers(1, 8), st.one_of(st.none(), st.integers(1, 5000)), st.integers(0, 20))
def test_halving_stops_at_two_images_or_at_the_retry_limit(
    batch: int, devices: int, micro: int | None, limit: int
) -> None:
    spec = make_spec(ProxyTask(devices=devices), micro, batch_size=batch)
    sizes = [min(micro or batch, math.ceil(batch / devices)), *list_micro_batches(spec, max_oom_retries=limit)]
    assert len(sizes) <= limit + 1
    assert all(after == math.ceil(before / 2) < before for before, after in pairwise(sizes))
    assert sizes[-1] <= 2 or len(sizes) == limit + 1


@given(st.lists(st.sampled_from(list(Cause)), max_size=8), st.sampled_from(["fail", "lower_rate", "clip"]))
def test_a_retry_changes_only_the_recipe_and_keeps_batch_size_and_schedule(causes: list[Cause], nan: str) -> None:
    spec, policy = (
        make_spec(ProxyTask(width=0.5, overrides={"trainer.noise": 0.5}), noise=0.1),
        RetrySettings(on_nan=nan),
    )
    found = find_retry(spec, causes, policy)
    if found is None:
        return
    same = find_retry(spec.applied(), causes, policy)
    assert same is not None
    assert (found.spec.key, found.change) == (same.spec.key, same.change), "the spelling of the setting does not matter"
    assert found.spec.proxy_task == spec.proxy_task
    before, after = spec.applied(), found.spec.applied()
    assert replace(after, recipe=before.recipe) == before
    assert (after.check_steps, read_batch_size(after)) == (spec.check_steps, read_batch_size(spec))
    assert after.key != spec.key
    retries = [find_retry(spec, causes[:end], policy) for end in range(1, len(causes) + 1)]
    keys = {spec.key, *(retry.spec.key for retry in retries if retry is not None)}
    assert len(keys) == len(causes) + 1, "all retries have different keys"


def test_a_non_finite_loss_is_final_unless_the_policy_retries_it() -> None:
    assert find_retry(make_spec(), [NAN], RetrySettings()) is None
    slower = find_existing_retry(make_spec(), NAN, on_nan="lower_rate")
    assert slower.spec.recipe.trainer["learning_rate"] == 0.05
    assert slower.change == "a learning rate of 0.05 instead of 0.1"
    clipped = find_existing_retry(make_spec(), NAN, on_nan="clip", clip_norm=2.0)
    assert clipped.spec.recipe.trainer["clip_norm"] == 2.0
    assert clipped.change == "gradients clipped to a norm of 2"


def test_a_retry_keeps_its_proxy_task_and_changes_the_overrides_that_set_the_value() -> None:
    overrides = {"trainer.noise": 0.5, "trainer.learning_rate": 0.4, "training.micro_batch": 8}
    spec = make_spec(ProxyTask(width=0.5, overrides=overrides), noise=0.1, learning_rate=1.0)
    slower = find_existing_retry(spec, OOM, NAN, on_nan="lower_rate").spec
    changed = {"trainer.learning_rate": 0.2, "training.micro_batch": 4}
    assert slower.proxy_task == ProxyTask(width=0.5, overrides={**overrides, **changed})
    assert slower.applied().recipe.trainer["learning_rate"] == 0.2
    assert slower.applied().recipe.micro_batch == 4
    clipped = find_existing_retry(spec, NAN, on_nan="clip").spec
    assert clipped.proxy_task == spec.proxy_task, "a value that it did not override is not added"
    assert clipped.applied().recipe.trainer["clip_norm"] == 1.0


@pytest.mark.parametrize("nan", ["lower_rate", "clip"])
def test_a_diverged_trial_is_retried_once_and_out_of_memory_independently(nan: str) -> None:
    assert find_retry(make_spec(), [NAN, NAN], RetrySettings(on_nan=nan)) is None
    assert find_retry(make_spec(), [NAN, OOM, NAN], RetrySettings(on_nan=nan)) is None
    both = find_existing_retry(make_spec(), OOM, NAN, OOM, on_nan=nan)
    assert both.spec.recipe.micro_batch == 16
    assert both.spec.recipe.trainer != make_spec().recipe.trainer


def test_gradients_clipped_to_a_lower_norm_are_not_clipped_again() -> None:
    assert find_retry(make_spec(clip_norm=0.5), [NAN], RetrySettings(on_nan="clip")) is None
    assert (
        find_existing_retry(make_spec(clip_norm=5.0), NAN, on_nan="clip").change
        == "gradients clipped to a norm of 1 instead of 5"
    )


@pytest.mark.parametrize("cause", [Cause.CRASH, Cause.LOST])
def test_crashed_and_lost_trials_have_no_changed_retry(cause: Cause) -> None:
    assert find_retry(make_spec(), [cause], RetrySettings(on_nan="clip")) is None
    assert find_retry(make_spec(), [OOM, cause], RetrySettings(on_nan="clip")) is None


def test_a_trainer_without_the_argument_has_no_retry() -> None:
    bare = TrialSpec({}, ProxyTask(), Split.SEARCH, 0, synthetic.make_recipe())
    for policy in ("fail", "lower_rate", "clip"):
        assert all(find_retry(bare, [cause], RetrySettings(on_nan=policy)) is None for cause in (OOM, NAN))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_attempts": 0}, "failures.max_attempts must be at least 1, got 0: 1 repeats no trial"),
        ({"max_oom_retries": -1}, "failures.max_oom_retries must be at least 0, got -1"),
        ({"on_nan": "retry"}, "failures.on_nan must be one of fail, lower_rate, clip, got 'retry'"),
        ({"learning_rate_factor": 1.0}, "failures.learning_rate_factor must lie between 0 and 1, got 1"),
        ({"clip_norm": 0.0}, "failures.clip_norm must be above 0, got 0"),
        ({"on_nan": "clip"}, "failures.on_nan=clip changes trainer.clip_norm, which the study's trainer does not have"),
        ({"on_nan": "lower_rate"}, "failures.on_nan=lower_rate changes trainer.learning_rate, which"),
    ],
)
def test_invalid_retry_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RetrySettings(**settings).check({"_target_": "mine.train"})


@pytest.mark.parametrize(
    ("task", "trainer", "size"),
    [
        (ProxyTask(batch_size=0.5, devices=2), {}, 9),
        (ProxyTask(batch_size=0.5, devices=2), {"mixup": 0.2}, 8),
        (ProxyTask(batch_size=0.5), {"cutmix": 1.0}, 8),
        (ProxyTask(batch_size=0.5, devices=2, augmentation=0.0), {"mixup": 0.2}, 9),
        (ProxyTask(devices=4), {"mixup": 0.2}, 18),
    ],
)
def test_the_batch_size_equals_that_of_the_trainers(task: ProxyTask, trainer: dict[str, float], size: int) -> None:
    spec = make_spec(task, batch_size=18, **trainer)
    assert read_batch_size(spec) == size
    given = {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 0.0, "momentum": 0.9, "schedule": "cosine"}
    assert ClassifierSettings(**given, batch_size=18, **trainer).under(task, spec.devices).batch_size == size  # type: ignore[arg-type]
