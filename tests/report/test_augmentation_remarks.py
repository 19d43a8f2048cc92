"""Advice for spaces whose choices decide augmentation."""

from dataclasses import replace
from typing import Any

import pytest
import yaml

from helpers import cli
from nasproxy.report.augmentation_remarks import advise_on_augmentation, advise_on_kind, remark_on_augmentation
from nasproxy.space import SearchSpace
from nasproxy.stages.study_results import read_results


def test_a_space_of_policies_is_advised_to_reduce_data_not_steps() -> None:
    remark = advise_on_augmentation(["ops.0.op", "ops.0.magnitude"], ["ops"])
    assert remark is not None
    assert remark.title == "This is an augmentation search, not an architecture search."
    assert "In this space ops decides augmentation" in remark.text
    assert "proxy tasks with less data, as many epochs" in remark.text


def test_a_space_of_both_is_advised_to_search_one_after_the_other() -> None:
    remark = advise_on_augmentation(["depth", "num_ops", "magnitude"], ["num_ops", "magnitude"])
    assert remark is not None
    assert "num_ops, magnitude decide augmentation, the other choices the architecture" in remark.text
    assert "Search one after the other" in remark.text


def test_a_space_of_architectures_needs_no_advice() -> None:
    assert list(advise_on_kind(SearchSpace("test", {"depth": [1, 2]}))) == []


def test_the_remark_of_a_study_names_where_the_accepted_task_stops(full_study: Any) -> None:
    results = read_results(full_study.folder, time_tolerance=0.05)
    assert list(remark_on_augmentation(results)) == []
    (remark,) = remark_on_augmentation(replace(results, base={"search_space.augmentation": ["depth"]}))
    assert remark.title == "Architecture and augmentation are searched together."
    assert results.best is not None
    assert remark.text.endswith(f"{results.best.name} stops after {results.best.final_step} of 500 steps.")


@pytest.mark.parametrize("space", ["autoaugment", "randaugment"])
def test_the_spaces_of_policies_say_what_they_decide(space: str) -> None:
    content = yaml.safe_load((cli.ROOT / "conf" / "search_space" / f"{space}.yaml").read_text())
    made = SearchSpace(space, content["choices"], augmentation=tuple(content["augmentation"]))
    (line,) = advise_on_kind(made)
    assert line.startswith("advice: This is an augmentation search")
