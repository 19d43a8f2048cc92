from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasproxy.errors import ConfigError
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Cause, State, Status
from nasproxy.trials.spec import Recipe, Split, TrialSpec, list_check_steps, to_canonical_json

RECIPE = Recipe(
    model={"_target_": "models.build", "dropout": 0.0},
    trainer={"_target_": "trainers.train", "version": 1, "batch_size": 64, "num_workers": 2},
    data={"loader": {"_target_": "data.load", "root": "/data"}, "holdout_fraction": 0.1},
    data_fingerprint="f",
    total_steps=100,
    check_every_steps=20,
)
SPEC = TrialSpec({"kernel": 3, "width": 16}, ProxyTask(), Split.SEARCH, 0, RECIPE)


def test_the_key_is_stable_across_machines_and_versions() -> None:
    assert SPEC.key == "e71ba95401d3df3d"


@pytest.mark.parametrize(
    "other",
    [
        replace(SPEC, architecture={"kernel": 5, "width": 16}),
        replace(SPEC, proxy_task=ProxyTask(width=0.5)),
        replace(SPEC, split=Split.FULL),
        replace(SPEC, seed=1),
        replace(SPEC, recipe=replace(RECIPE, trainer={**RECIPE.trainer, "version": 2})),
        replace(SPEC, recipe=replace(RECIPE, total_steps=50)),
        replace(SPEC, recipe=replace(RECIPE, device_type="cuda")),
        replace(SPEC, recipe=replace(RECIPE, precision="bf16-mixed")),
        replace(SPEC, recipe=replace(RECIPE, data_fingerprint="g")),
        replace(SPEC, recipe=replace(RECIPE, micro_batch=32)),
        replace(SPEC, recipe=replace(RECIPE, check_every_steps=None)),
    ],
)
def test_fields_that_change_the_result_change_the_key(other: TrialSpec) -> None:
    assert other.key != SPEC.key


def test_paths_and_numbers_of_workers_do_not_change_the_key() -> None:
    moved = replace(
        RECIPE,
        data={"loader": {"_target_": "data.load", "root": "/elsewhere"}, "holdout_fraction": 0.1},
        trainer={**RECIPE.trainer, "num_workers": 8},
    )
    assert replace(SPEC, recipe=moved).key == SPEC.key


def test_grace_seconds_and_working_dir_of_a_program_do_not_change_the_key() -> None:
    timed = replace(RECIPE, trainer={**RECIPE.trainer, "grace_seconds": 60, "working_dir": "/there"})
    assert replace(SPEC, recipe=timed).key == SPEC.key


@pytest.mark.parametrize("part", ["model", "trainer"])
def test_root_changes_the_key_outside_of_data(part: str) -> None:
    one, other = (replace(RECIPE, **{part: {**getattr(RECIPE, part), "root": value}}) for value in (1, 2))
    assert replace(SPEC, recipe=one).key != replace(SPEC, recipe=other).key


@pytest.mark.parametrize("task", [ProxyTask(devices=1), ProxyTask(image_mode="crop")])
def test_a_proxy_setting_without_effect_does_not_change_the_key(task: ProxyTask) -> None:
    assert replace(SPEC, proxy_task=task).key == SPEC.key


@pytest.mark.parametrize("task", [ProxyTask(devices=2), ProxyTask(overrides={"training.devices": 2})])
def test_devices_of_a_proxy_task_equal_devices_of_the_recipe(task: ProxyTask) -> None:
    spread = replace(SPEC, proxy_task=task)
    assert spread.key == replace(SPEC, recipe=replace(RECIPE, devices=2)).key != SPEC.key
    assert spread.applied().devices == spread.devices == 2


def test_the_order_of_choices_does_not_change_the_key() -> None:
    assert replace(SPEC, architecture={"width": 16, "kernel": 3}).key == SPEC.key


def test_an_override_and_the_same_value_in_the_recipe_have_one_key() -> None:
    overridden = replace(SPEC, proxy_task=ProxyTask(overrides={"trainer.batch_size": 32, "training.total_steps": 60}))
    direct = replace(SPEC, recipe=replace(RECIPE, trainer={**RECIPE.trainer, "batch_size": 32}, total_steps=60))
    assert overridden.key == direct.key != SPEC.key
    assert overridden.total_steps == 60


@given(st.integers(1, 1000), st.integers(1, 1000))
def test_the_last_step_is_always_checked(total: int, every: int) -> None:
    steps = list_check_steps(total, every)
    assert steps[-1] == total
    assert list(steps) == sorted(set(steps))
    assert all(step % every == 0 for step in steps[:-1])


def test_canonical_json_ignores_key_order_and_number_types() -> None:
    assert (
        to_canonical_json({"b": 1.0, "a": [1, 2.5]})
        == to_canonical_json({"a": (1, 2.5), "b": 1})
        == '{"a":[1,2.5],"b":1}'
    )


def test_an_attempt_with_a_new_check_resets_the_failure_count() -> None:
    status = Status()
    for step in (10, 20, 30, 40):
        status = status.failed(Cause.LOST, "gone", step=step, max_attempts=2)
        assert status.state is State.PENDING
    assert status.failed(Cause.LOST, "gone", step=40, max_attempts=2).state is State.FAILED


def test_an_out_of_memory_failure_is_final() -> None:
    assert Status().failed(Cause.OOM, "", step=0, max_attempts=9).state is State.FAILED


def test_without_check_every_steps_only_the_last_step_is_checked() -> None:
    assert list_check_steps(50, None) == (50,)
    assert replace(SPEC, recipe=replace(RECIPE, check_every_steps=None)).check_steps == (100,)


def test_uneven_checks_beyond_the_last_step_are_dropped() -> None:
    uneven = replace(RECIPE, check_at=(5, 20, 50, 100))
    assert replace(SPEC, recipe=uneven).check_steps == (5, 20, 50, 100)
    assert replace(SPEC, recipe=replace(uneven, total_steps=30)).check_steps == (5, 20, 30)
    short = ProxyTask(overrides={"training.total_steps": 20})
    assert replace(SPEC, recipe=uneven, proxy_task=short).check_steps == (5, 20)
    assert replace(SPEC, recipe=uneven).key == replace(SPEC, recipe=replace(uneven, check_every_steps=7)).key
    with pytest.raises(ConfigError, match=r"check_at must hold increasing steps of at least 1, got \[0, 5\]"):
        replace(RECIPE, check_at=(0, 5))
