"""The architectures of each stage, the base of a study, its checks and the slots of a trial."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from nasproxy.config import schema
from nasproxy.config.builder import StudyBuilder
from nasproxy.errors import ConfigError, NasproxyError
from nasproxy.storage.study import list_differences
from nasproxy.trials.overrides import flatten
from nasproxy.trials.spec import DATA_DEFAULTS, to_canonical_json

CONF = Path(__file__).resolve().parents[2] / "conf"


def design(*overrides: str) -> StudyBuilder:
    schema.register_schema()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return StudyBuilder(schema.read_config(compose("config", ["experiment=debug", *overrides])))


def test_fresh_models_are_disjoint_from_the_models_of_other_stages() -> None:
    for selection in ("random", "spread"):
        chosen = design("confirm.fresh_models=8", f"selection={selection}")
        drawn_on = {
            to_canonical_json(a) for a in (*chosen.candidates, *chosen.candidate_pool, *chosen.variance_candidates)
        }
        fresh = [to_canonical_json(a) for a in chosen.fresh]
        assert len(fresh) == len(set(fresh)) == 10, "two in reserve for failures"
        assert not drawn_on & set(fresh)


def test_requesting_more_fresh_models_keeps_the_first_and_changes_no_other_stage() -> None:
    few, many = design("confirm.fresh_models=8"), design("confirm.fresh_models=16")
    assert many.fresh[: len(few.fresh)] == few.fresh
    assert (many.candidates, many.candidate_pool) == (few.candidates, few.candidate_pool)
    assert design().fresh == []
    assert design().base == many.base


def test_named_architectures_are_measured_in_the_order_of_the_candidates() -> None:
    plain = design("confirm.fresh_models=8")
    assert plain.variance_candidates == plain.candidates
    named = [plain.fresh[0], plain.candidates[7], plain.candidates[2]]
    chosen = StudyBuilder(
        replace(plain.config, variance=replace(plain.config.variance, architectures=[*map(dict, named)]))
    )
    assert chosen.variance_candidates == [plain.candidates[2], plain.candidates[7], plain.fresh[0]]
    assert chosen.fresh == plain.fresh[1:], "a model whose noise was measured is not fresh"
    chosen.config.variance.max_tries = 2
    del chosen.variance_candidates
    assert chosen.variance_candidates == [plain.candidates[2], plain.candidates[7]]


@pytest.mark.parametrize(
    ("architectures", "message"),
    [
        ("[]", "variance.architectures must list at least one architecture, got none"),
        ("[{quality: 5000}]", "5000"),
        ("[{color: red}]", "color"),
    ],
)
def test_architectures_that_the_space_does_not_have_are_not_measured(architectures: str, message: str) -> None:
    with pytest.raises(NasproxyError, match=message):
        design(f"variance.architectures={architectures}").check()


def test_whether_the_variance_is_measured_may_change_during_a_study() -> None:
    assert design("variance.enabled=false").base == design().base


def test_long_lists_are_recorded_by_number_and_digest() -> None:
    def record(count: int, last: int) -> Any:
        values = [*range(count - 1), last]
        space = replace(design().config.search_space, choices={"quality": values}, baseline=None)
        return StudyBuilder(replace(design().config, search_space=space)).base["search_space.choices.quality"]

    assert record(50, 99) == [*range(49), 99]
    assert record(51, 99).startswith("51 values, SHA-256 ")
    assert record(51, 99) != record(51, 98)


def test_the_base_of_a_study_holds_the_choices_and_the_canonical_baseline() -> None:
    config = design().config
    choices = {"op": ["conv", "mbconv"], "expand": {"oneof": [1, 3], "when": {"op": "mbconv"}}}

    def base(baseline: dict[str, Any]) -> Any:
        space = replace(config.search_space, choices=choices, baseline=baseline)
        values = StudyBuilder(replace(config, search_space=space)).base
        return {path: value for path, value in values.items() if path.startswith("search_space.")}

    assert base({"op": "conv"}) == base({"expand": 3, "op": "conv"})
    assert base({"op": "conv"}).items() >= flatten({"search_space": {"choices": choices}}).items()
    assert base({"op": "conv"})["search_space.baseline.op"] == "conv"


def test_arguments_that_decide_no_result_may_change_during_a_study() -> None:
    assert design("trainer.check_seconds=0.1").base == design("trainer.check_seconds=0.2").base, "the trainer says so"
    assert design("trainer.noise=0.1").base != design("trainer.noise=0.2").base
    one, other = (design("identity.exclude=[trainer.noise]", f"trainer.noise={noise}") for noise in (0.1, 0.2))
    assert one.base == other.base != design().base
    assert one.preflight_specs[0].key == other.preflight_specs[0].key


def test_code_of_a_study_may_move() -> None:
    moved = design("trainer._target_=nasproxy.elsewhere.train")
    assert moved.base == design().base
    assert moved.preflight_specs[0].key == design().preflight_specs[0].key


def test_a_study_begun_before_its_space_said_what_it_decides_goes_on() -> None:
    policies = design("search_space.augmentation=[quality]")
    old = {path: value for path, value in policies.base.items() if path != "search_space.augmentation"}
    assert list_differences(old, policies.base, policies.base_defaults) == []
    assert policies.preflight_specs[0].key == design().preflight_specs[0].key


def test_every_default_of_a_base_configuration_is_known() -> None:
    known, base = design().base_defaults, design().base
    differing = {path: (value, base[path]) for path, value in known.items() if path in base}
    assert {path for path, (default, value) in differing.items() if default == value} > {
        "training.devices",
        "failures.on_nan",
        "variance.seeds",
        "data.order_seed",
        "selection.max_failure_ratio",
    }


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("trainer.check_second", "got 'trainer.check_second': did you mean 'trainer.check_seconds'"),
        ("training.total_steps", "takes arguments of trainer, data.loader and search_space.model, got 'training.tot"),
        ("trainer._target_", "got 'trainer._target_'"),
        ("trainer.version", "got 'trainer.version'"),
    ],
)
def test_an_exclusion_that_is_no_argument_is_refused(path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        design(f"identity.exclude=[{path}]").check()


@pytest.mark.parametrize(("name", "exclude"), [("noise", "[trainer.noise]"), ("check_seconds", "[]")])
def test_a_proxy_task_cannot_override_what_decides_no_result(name: str, exclude: str) -> None:
    tasks = f"proxy.tasks=[{{name: a, trainer.{name}: 0.2}}]"
    with pytest.raises(ConfigError, match=rf"must decide its result, got 'trainer.{name}' of 'a', which identity"):
        design("proxy=custom", tasks, f"identity.exclude={exclude}").check()


def test_a_proxy_task_cannot_override_inside_of_what_decides_no_result() -> None:
    excluded = ("+trainer.environment={SEED: 1}", "identity.exclude=[trainer.environment]")
    with pytest.raises(ConfigError, match=r"must decide its result, got 'trainer.environment.SEED' of 'a'"):
        design("proxy=custom", "proxy.tasks=[{name: a, trainer.environment.SEED: 2}]", *excluded).check()


def test_compared_schedules_cannot_be_left_out_of_the_identity_of_trials() -> None:
    job = ("job=compare_schedules", "trainer=plain_pytorch", "identity.exclude=[trainer.schedule]")
    with pytest.raises(ConfigError, match=r"must decide its result, got 'trainer.schedule' of"):
        design(*job).check()


def test_defaults_of_the_data_are_those_of_their_identity() -> None:
    defaults = {name: value for name, value in asdict(schema.DataConfig()).items() if name != "loader"}
    assert {**defaults, "balance": defaults["balance"].value} == DATA_DEFAULTS


def test_another_trainer_in_the_place_of_one_of_the_package_is_another_study() -> None:
    assert design("trainer._target_=mine.train").base != design().base


def test_a_selection_that_needs_arguments_is_a_base_without_defaults() -> None:
    chosen = design("selection._target_=helpers.user_code.FixedSelection", "+selection.first=3")
    assert not any(path.startswith("selection") for path in chosen.base_defaults)


def test_a_proxy_task_may_be_accepted_before_the_first_requested_check() -> None:
    """The overrides that a report prints have the step of acceptance as the total."""
    chosen = design("training.total_steps=3", "training.check_every_steps=5")
    chosen.check()
    assert chosen.preflight_specs[0].check_steps == (3,)


def test_a_study_may_check_only_the_last_step() -> None:
    chosen = design("training.check_every_steps=null")
    chosen.check()
    assert chosen.preflight_specs[0].check_steps == (100,)


def test_a_trial_occupies_the_slots_of_its_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    for share, slots in ((1, 2.0), (2, 1.0), (0.5, 4.0)):
        on_gpus = design("training.accelerator=cuda", f"backend.gpus_per_trial={share}")
        assert (on_gpus.slots_of(1), on_gpus.slots_of(2)) == (1.0, slots)
    assert design().slots_of(2) == 2


def test_attempts_may_change_at_any_time_and_are_written_into_each_order() -> None:
    patient = design("failures.max_attempts=9")
    assert patient.base == design().base
    assert patient.base_defaults == design().base_defaults
    assert patient.make_order_template(Path("study")).max_attempts == 9


def test_a_preflight_is_known_by_its_kind_its_time_and_the_models_it_chooses_from() -> None:
    def digests(*overrides: str) -> set[str]:
        chosen = design(*overrides)
        return {chosen.digest_preflight(spec) for spec in chosen.preflight_specs}

    once = digests("references.initial=8", "references.max=0")
    unlimited = digests("references.initial=8", "references.max=0", "preflight.seconds=600")
    assert once.isdisjoint(unlimited), "what was not seen in a minute may be seen in ten"
    assert once.isdisjoint(digests("references.initial=20", "references.max=0")), "a larger model may be among them"
    assert once > digests("references.initial=8", "references.max=0", "proxy=data50"), "another grid of the same models"


def test_a_preflight_chooses_from_the_baseline_and_the_first_of_the_sample() -> None:
    chosen = design("references.initial=40", "references.max=0", "confirm.enabled=false")
    architectures = chosen.preflight_options["architectures"]
    baseline = [] if chosen.space.baseline is None else [chosen.space.baseline]
    assert architectures == [*baseline, *chosen.candidates][:32]


@pytest.mark.parametrize("seconds", ["-1", "1e9"])
def test_a_time_limit_of_the_preflight_that_cannot_be_kept_is_refused(seconds: str) -> None:
    with pytest.raises(ConfigError, match=r"preflight.seconds must lie in \[0, 86400\], got"):
        design(f"preflight.seconds={seconds}").check()
