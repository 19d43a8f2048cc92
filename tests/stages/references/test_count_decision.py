"""The decision on the number of references: made after the first ones, kept, and made again under other rules."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nasproxy
from nasproxy.config.builder import StudyBuilder
from nasproxy.config.compose import compose_config
from nasproxy.errors import ConfigError
from nasproxy.stages.references.count_decision import (
    CountDecision,
    read_decision,
    update_curve,
    weigh_given,
    write_decision,
)
from nasproxy.stages.references.settings import ReferencesSettings
from nasproxy.stages.references.state import Reference, read_references
from nasproxy.statistics.reference_count import CountChoice, Economy, ReferenceCount
from nasproxy.statistics.tau_curve import TauCurve
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.testing import curves
from nasproxy.trials.objective import Objective
from nasproxy.trials.records import Check, TrialRecord


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("count") / "curves.csv"
    rows = curves.generate_rows(
        architectures=90, checks=8, proxies={"fast": "steady", "worse": "hopeless"}, costs={"fast": 0.2}
    )
    curves.write_table(path, rows)
    return path


@pytest.fixture
def replay(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replay a study, and return its decision and its references."""
    monkeypatch.chdir(tmp_path)

    def run(*overrides: str) -> tuple[CountDecision | None, tuple[Reference, ...]]:
        nasproxy.run(["experiment=replay", f"backend.table={table}", "study=one", *overrides])
        study = FolderStudyStore(tmp_path / "studies" / "one")
        return read_decision(study), read_references(study)

    return run


def test_the_first_ten_references_decide_how_many_are_trained(replay: Any) -> None:
    decision, references = replay("search.trials=600")
    assert decision is not None
    assert decision.models == 10
    assert decision.curve != TauCurve(), "their own checks are known"
    assert len(references) == decision.choice.chosen.initial > 10
    assert decision.economy.trials == 600
    assert decision.economy.tasks == 2


def test_a_resumed_study_keeps_its_decision(replay: Any) -> None:
    first = replay("search.trials=200")
    assert replay("search.trials=200") == first


def test_a_larger_search_trains_more_references_and_a_smaller_one_keeps_them(replay: Any) -> None:
    small, few = replay("search.trials=50", "job=select_models")
    _, many = replay("search.trials=600", "job=select_models")
    assert small.choice.chosen.initial == len(few) < len(many)
    again, kept = replay("search.trials=50", "job=select_models")
    assert again == small, "decided by the same first references"
    assert kept == many, "trained references are never fewer"


def test_given_numbers_win_and_nothing_is_decided(replay: Any) -> None:
    decision, references = replay("references.initial=12", "references.max=0")
    assert decision is None
    assert len(references) == 12


def test_one_given_number_is_kept_and_the_other_one_chosen(replay: Any) -> None:
    decision, references = replay("references.initial=12", "search.trials=600", "job=select_models")
    assert decision.choice.chosen.initial == len(references) == 12
    assert decision.choice.chosen.maximum >= 12


def test_a_criterion_without_a_stated_error_keeps_the_usual_numbers(replay: Any) -> None:
    decision, references = replay("criterion=first_crossing", "job=select_models")
    assert decision is None
    assert len(references) == 10


def test_more_models_per_verdict_begin_with_more_references(replay: Any) -> None:
    decision, references = replay("proxy_search.min_models=14", "search.trials=50", "job=select_models")
    assert decision.choice.chosen.initial == len(references) == 14


def make_models(count: int, noise: float) -> tuple[list[Reference], list[TrialRecord]]:
    """Make models whose early scores are their final ones with noise."""
    random = np.random.default_rng(0)
    references, records = [], []
    for model in range(count):
        checks = [Check(step, model + noise * float(random.standard_normal()), 1.0 * step) for step in (10, 20, 40)]
        references.append(Reference(model, {}, str(model), float(model), 100.0))
        records.append(TrialRecord(checks=(*checks, Check(100, float(model), 100.0))))
    return references, records


def test_early_checks_that_rank_well_raise_the_curve() -> None:
    well, badly = (update_curve(*make_models(10, noise), Objective(), 100) for noise in (0.1, 50.0))
    assert badly.level < TauCurve().level < well.level


def test_too_few_models_leave_the_prior() -> None:
    assert update_curve(*make_models(7, 0.1), Objective(), 100) == TauCurve()


def test_a_search_that_is_too_small_is_told_so() -> None:
    chosen = ReferenceCount(10, 10, 44.0, 14.0, 10.0, 0.7, 0.1)
    other = ReferenceCount(10, 15, 46.0, 18.0, 12.0, 0.7, 0.1)
    small, large = (
        write_decision(CountDecision("{}", Economy(trials), TauCurve(), models, CountChoice(chosen, (other,))))
        for trials, models in ((40, 10), (400, 0))
    )
    assert small.endswith("40 models is expected to cost no more: a study does not pay for this search.")
    assert large == (
        "10 reference models for a search of 400 models: study and search are expected to cost 44 full trainings "
        "without variance and confirmation, against 46 with 10 to 15, judged by published learning curves."
    )


@pytest.mark.parametrize("value", ["many", 2.5, True, None])
def test_a_number_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"references.initial must be a whole number or auto, got .*: give one such"):
        ReferencesSettings(initial=value).check()


def test_given_numbers_are_compared_with_those_of_auto_within_the_search_space() -> None:
    few = ("experiment=debug", "search_space.choices.quality=[1,2,3,4,5,6,7,8]", "search_space.choices.twin=[0]")
    given = ("search_space.baseline=null", "references.initial=8", "references.max=8")
    design = StudyBuilder(compose_config([*few, *given]))
    assert design.task_origin.architectures == 8
    decision = weigh_given(design, Economy(200, tasks=6))
    assert decision.is_given
    assert decision.choice.alternatives == (), "eight are all there are"
    assert "auto would choose the same" in write_decision(decision)
