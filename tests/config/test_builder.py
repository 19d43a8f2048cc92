"""Which architectures each stage draws on."""

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


def test_fresh_models_are_none_that_another_stage_may_draw_on() -> None:
    for selection in ("random", "spread"):
        chosen = design("confirm.fresh_models=8", f"selection={selection}")
        drawn_on = {
            to_canonical_json(a) for a in (*chosen.candidates, *chosen.candidate_pool, *chosen.variance_candidates)
        }
        fresh = [to_canonical_json(a) for a in chosen.fresh]
        assert len(fresh) == len(set(fresh)) == 10, "two in reserve for failures"
        assert not drawn_on & set(fresh)


def test_asking_for_more_of_them_keeps_the_first_and_changes_no_other_stage() -> None:
    few, many = design("confirm.fresh_models=8"), design("confirm.fresh_models=16")
    assert many.fresh[: len(few.fresh)] == few.fresh
    assert (many.candidates, many.candidate_pool) == (few.candidates, few.candidate_pool)
    assert design().fresh == []
    assert design().base == many.base


def test_a_study_rests_on_the_tree_of_choices_and_on_the_baseline_however_it_is_spelled() -> None:
    config = design().config
    choices = {"op": ["conv", "mbconv"], "expand": {"oneof": [1, 3], "when": {"op": "mbconv"}}}

    def base(baseline: dict[str, Any]) -> Any:
        space = replace(config.search_space, choices=choices, baseline=baseline)
        return StudyBuilder(replace(config, search_space=space)).base["search_space"]

    assert base({"op": "conv"}) == base({"expand": 3, "op": "conv"})
    assert (base({"op": "conv"})["choices"], base({"op": "conv"})["baseline"]) == (choices, {"op": "conv"})


def test_a_study_may_check_the_last_step_alone() -> None:
    chosen = design("training.check_every_steps=null", "variance.on_failure=warn")
    chosen.check()
    assert chosen.preflight_specs[0].check_steps == (100,)


def test_variance_of_trainings_that_are_checked_once_is_refused_before_they_are_trained() -> None:
    with pytest.raises(ConfigError, match="variance needs 2 checks of a training to measure how smooth it is, got 1"):
        design("training.check_every_steps=null").check()


def test_a_trial_takes_up_the_slots_that_its_backend_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    for share, slots in ((1, 2.0), (2, 1.0), (0.5, 4.0)):
        on_gpus = design("training.accelerator=cuda", f"backend.gpus_per_trial={share}")
        assert (on_gpus.slots_of(1), on_gpus.slots_of(2)) == (1.0, slots)
    assert design().slots_of(2) == 2
