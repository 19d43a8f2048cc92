"""The architectures of each stage, the base of a study, its checks and the slots of a trial."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from nasproxy.config import schema
from nasproxy.config.builder import StudyBuilder
from nasproxy.errors import ConfigError
from nasproxy.trials.spec import to_canonical_json

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


def test_the_base_of_a_study_holds_the_choices_and_the_canonical_baseline() -> None:
    config = design().config
    choices = {"op": ["conv", "mbconv"], "expand": {"oneof": [1, 3], "when": {"op": "mbconv"}}}

    def base(baseline: dict[str, Any]) -> Any:
        space = replace(config.search_space, choices=choices, baseline=baseline)
        return StudyBuilder(replace(config, search_space=space)).base["search_space"]

    assert base({"op": "conv"}) == base({"expand": 3, "op": "conv"})
    assert (base({"op": "conv"})["choices"], base({"op": "conv"})["baseline"]) == (choices, {"op": "conv"})


def test_a_study_may_check_only_the_last_step() -> None:
    chosen = design("training.check_every_steps=null", "variance.on_failure=warn")
    chosen.check()
    assert chosen.preflight_specs[0].check_steps == (100,)


def test_variance_of_trainings_with_one_check_is_refused_before_training() -> None:
    with pytest.raises(ConfigError, match="variance needs 2 checks of a training to measure how smooth it is, got 1"):
        design("training.check_every_steps=null").check()


def test_a_trial_occupies_the_slots_of_its_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    for share, slots in ((1, 2.0), (2, 1.0), (0.5, 4.0)):
        on_gpus = design("training.accelerator=cuda", f"backend.gpus_per_trial={share}")
        assert (on_gpus.slots_of(1), on_gpus.slots_of(2)) == (1.0, slots)
    assert design().slots_of(2) == 2
