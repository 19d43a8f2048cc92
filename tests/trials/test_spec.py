from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasproxy.errors import ConfigError
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Cause, State, Status
from nasproxy.trials.spec import Recipe, Split, TrialSpec, list_check_steps, to_canonical_json

RECIPE = Recipe(
    model={"_target_": "models.build", "dropout": 0.0},
    trainer={
        "_target_": "trainers.train",
        "identity_name": "ours",
        "version": 1,
        "batch_size": 64,
        "num_workers": 2,
        "log_every": 10,
        "identity_exclude": ["num_workers"],
    },
    data={"loader": {"_target_": "data.load", "root": "/data", "identity_exclude": ["root"]}, "holdout_fraction": 0.1},
    data_fingerprint="f",
    total_steps=100,
    check_every_steps=20,
)
SPEC = TrialSpec({"kernel": 3, "width": 16}, ProxyTask(), Split.SEARCH, 0, RECIPE)


def test_the_key_is_stable_across_machines_and_versions() -> None:
    assert SPEC.key == "34dacfeaa2ab2e1f"


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


def with_trainer(**changes: Any) -> TrialSpec:
    return replace(SPEC, recipe=replace(RECIPE, trainer={**RECIPE.trainer, **changes}))


def test_arguments_that_a_trainer_or_a_loader_excludes_do_not_change_the_key() -> None:
    loader = {**RECIPE.data["loader"], "root": "/elsewhere"}
    moved = replace(with_trainer(num_workers=8).recipe, data={**RECIPE.data, "loader": loader})
    assert replace(SPEC, recipe=moved).key == SPEC.key
    assert with_trainer(log_every=20).key != SPEC.key


def test_arguments_that_the_user_excludes_do_not_change_the_key() -> None:
    one, other = (
        replace(spec, recipe=replace(spec.recipe, identity_exclude=("trainer.log_every",)))
        for spec in (SPEC, with_trainer(log_every=20))
    )
    assert one.key == other.key != SPEC.key


def test_code_with_a_name_may_move() -> None:
    assert with_trainer(_target_="elsewhere.train").key == SPEC.key
    assert with_trainer(identity_name="theirs").key != SPEC.key
    nameless, moved = ({"_target_": target, "dropout": 0.0} for target in ("models.build", "networks.build"))
    assert replace(RECIPE, model=nameless).identity != replace(RECIPE, model=moved).identity


def test_a_name_of_the_package_is_for_its_own_code() -> None:
    ours = with_trainer(_target_="nasproxy.trainers.image_classifier.train", identity_name="nasproxy.image_classifier")
    moved = with_trainer(_target_="nasproxy.elsewhere.train", identity_name="nasproxy.image_classifier")
    inherited = with_trainer(_target_="mine.train", identity_name="nasproxy.image_classifier")
    assert moved.key == ours.key != inherited.key
    assert inherited.key == with_trainer(_target_="mine.train", identity_name=None).key


def test_code_inside_of_an_argument_has_a_name_too() -> None:
    def spec(target: str) -> TrialSpec:
        inner = {"_target_": target, "identity_name": "small", "identity_exclude": ["threads"], "threads": len(target)}
        return replace(SPEC, recipe=replace(RECIPE, model={**RECIPE.model, "backbone": inner}))

    assert spec("models.small").key == spec("networks.small").key != SPEC.key


@pytest.mark.parametrize("exclude", [["workers"], "num_workers", 5, [["num_workers"]]])
def test_an_exclusion_that_is_no_list_of_arguments_is_refused(exclude: Any) -> None:
    with pytest.raises(ConfigError, match=r"identity_exclude must be a list of arguments of trainers.train, got"):
        _ = with_trainer(identity_exclude=exclude).key


@dataclass(frozen=True)
class LaterRecipe(Recipe):
    """A recipe with a field that was added later."""

    shuffle: bool = True


@dataclass(frozen=True)
class LaterTask(ProxyTask):
    """A proxy task with a dimension that was added later."""

    quantisation: float = 1.0


def test_a_field_that_is_added_with_a_default_changes_no_key() -> None:
    later = LaterRecipe(**{field.name: getattr(RECIPE, field.name) for field in fields(RECIPE)})
    assert replace(SPEC, recipe=later).key == SPEC.key != replace(SPEC, recipe=replace(later, shuffle=False)).key
    assert replace(SPEC, proxy_task=LaterTask()).key == SPEC.key
    assert replace(SPEC, proxy_task=LaterTask(quantisation=0.5)).key != SPEC.key


def test_an_argument_that_is_added_with_the_default_null_changes_no_key() -> None:
    assert with_trainer(clip_norm=None).key == SPEC.key != with_trainer(clip_norm=1.0).key


def test_settings_of_the_data_with_their_defaults_change_no_key() -> None:
    added = {**RECIPE.data, "order_seed": 0, "balance": "proportional", "fingerprint": None}
    assert replace(SPEC, recipe=replace(RECIPE, data=added)).key == SPEC.key
    other = {**RECIPE.data, "holdout_fraction": 0.2}
    assert replace(SPEC, recipe=replace(RECIPE, data=other)).key != SPEC.key


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"check_at": 5}, "training.check_at must be a list of steps or null, got 5"),
        ({"check_at": ("a",)}, "training.check_at must be a list of steps or null"),
        ({"check_at": (0.5, 1.0)}, "training.check_at must be a list of steps or null"),
        ({"micro_batch": "small"}, "training.micro_batch must be a whole number, got 'small'"),
        ({"micro_batch": 0.5}, "training.micro_batch must be a whole number, got 0.5"),
        ({"total_steps": None}, "training.total_steps must be a whole number, got None"),
        ({"devices": True}, "training.devices must be a whole number, got True"),
        ({"total_steps": 10**12, "check_every_steps": 1}, "a training has at most 100000 checks, got 1000000000000"),
    ],
)
def test_a_schedule_that_cannot_be_kept_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(RECIPE, **changes)
