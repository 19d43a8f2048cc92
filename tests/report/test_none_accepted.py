"""The verdict without an accepted proxy task: which kind it is, and advice that works when it is followed."""

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

import nasproxy
from helpers.cli import ROOT
from nasproxy.config import schema
from nasproxy.config.builder import StudyBuilder
from nasproxy.errors import ConfigError
from nasproxy.report.milder_tasks import advise_milder_tasks
from nasproxy.report.none_accepted import NoneAccepted
from nasproxy.stages.proxy_search.state import TaskState
from nasproxy.stages.references.state import Reference
from nasproxy.stages.study_results import StudyResults, read_results
from nasproxy.testing import curves

WIDTH = "{name: narrow, width: 0.5}"


def design(*overrides: str) -> StudyBuilder:
    schema.register_schema()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return StudyBuilder(schema.read_config(compose("config", ["experiment=debug", *overrides])))


def results_of(builder: StudyBuilder) -> StudyResults:
    """Make the results of a study that has judged the tasks of a configuration."""
    tasks = {
        name: TaskState(name, number, task, "{}", (), 100) for number, (name, task) in enumerate(builder.tasks.items())
    }
    return StudyResults("s", {}, None, None, tasks, {}, time_tolerance=0.05, judged_by="{}", origin=builder.task_origin)


def read_overrides(advice: str) -> list[str]:
    """Read the overrides that an advice gives, as a shell would."""
    return [word.rstrip(",") for word in shlex.split(advice.replace("'s ", "s ")) if re.match(r"[a-z_.]+=", word)]


@pytest.mark.parametrize(
    ("given", "advised"),
    [
        (["proxy=data50"], "proxy.data_fraction=[0.75,1.0]"),
        (["proxy=[data,width]"], "proxy.data_fraction=[0.75,1.0]"),
        (["proxy=width75"], "proxy.width=[0.875,1.0]"),
        (["proxy=compound"], "proxy.compound=[-0.5,0.0]"),
        (["proxy=[depth50,follow]"], "proxy.depth=[0.75,1.0]"),
        (["proxy=custom", f"proxy.tasks=[{WIDTH}]"], "proxy.tasks=[{name: width75, width: 0.75}]"),
        (
            ["proxy=custom", "proxy.tasks=[{name: width75, width: 0.5, trainer.batch_size: 32}]"],
            "proxy.tasks=[{name: width75_2, width: 0.75}]",
        ),
    ],
    ids=str,
)
def test_advised_proxy_tasks_reduce_less_and_are_accepted_beside_those_of_the_study(
    given: list[str], advised: str
) -> None:
    before = design(*given)
    (override,) = read_overrides(advise_milder_tasks(results_of(before)))
    assert override == advised
    after = design(*given, override)
    after.check()
    new = {name: task for name, task in after.tasks.items() if name not in before.tasks}
    assert new, "tasks that the study has not judged"
    assert all(after.tasks[name] == before.tasks[name] for name in after.tasks.keys() & before.tasks.keys())


def test_axes_beside_a_list_of_tasks_are_refused() -> None:
    """The advice that a study with `proxy.tasks` used to get."""
    with pytest.raises(ConfigError, match="proxy takes axes or a list of tasks, not both"):
        design("proxy=custom", f"proxy.tasks=[{WIDTH}]", "proxy.data_fraction=[0.75,1.0]").check()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (["proxy=batch"], "Add proxy tasks that reduce less to the same study"),
        (
            ["proxy=custom", "proxy.tasks=[{name: small, trainer.batch_size: 32}]"],
            "Add proxy tasks that reduce less in the list proxy.tasks to the same study",
        ),
        (["proxy=generator", "proxy.generator._target_=helpers.user_code.list_tasks"], "Let the function of proxy.gen"),
    ],
    ids=str,
)
def test_advice_without_an_override_names_where_tasks_are_added(given: list[str], text: str) -> None:
    assert advise_milder_tasks(results_of(design(*given))).startswith(text)


def write_table(path: Path, tau: float, *, architectures: int = 60) -> Path:
    """Write a table whose only proxy task has a true tau at every check."""
    random, rho = np.random.default_rng(4), np.sin(np.pi / 2 * tau)
    quality = random.standard_normal(architectures)
    proxy = rho * quality + np.sqrt(1 - rho**2) * random.standard_normal(architectures)
    rows = [
        (f"a{model}", name, 0, step, float(scores[model]), float(cost * step), "")
        for name, scores, cost in (("full", quality, 2.0), ("fast", proxy, 1.0))
        for model in range(architectures)
        for step in range(1, 5)
    ]
    curves.write_table(path, rows)
    return path


def replay(table: Path, *overrides: str) -> Any:
    given = [f"backend.table={table}", "backend.proxies=[fast]", "references.initial=10", "references.max=0"]
    return nasproxy.run(["experiment=replay", *given, "study=one", *overrides]).verdict


def test_a_task_far_below_the_target_is_no_good_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    verdict = replay(write_table(tmp_path / "curves.csv", -0.3))
    assert verdict.headline == "No proxy task was accepted: none is good enough"
    assert "the true tau of each lies below the target of 0.65 (95 % upper bound over all" in verdict.sentence
    assert not any("more reference models" in step for step in verdict.next_steps)
    assert any(step.startswith("Add rows of proxy tasks that reduce less to the table") for step in verdict.next_steps)


def test_too_few_models_are_told_with_a_number_and_its_cost_and_that_number_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = write_table(tmp_path / "curves.csv", 0.45)
    verdict = replay(table)
    assert verdict.headline == "No proxy task was accepted: too few models to tell"
    assert "On 10 models a true tau at the target of 0.65 cannot be excluded" in verdict.sentence
    (advice,) = (step for step in verdict.next_steps if "would probably decide" in step)
    more = int(re.findall(r"(\d+) more reference models", advice)[0])
    assert advice.endswith(f"(about {more * 12 / 60:g} min of device time)."), "8 s fully, 4 s as a proxy"
    (override,) = read_overrides(advice)
    assert override == f"references.initial={10 + more}"
    decided = replay(table, override)
    assert "too few models" not in decided.headline


def test_a_space_with_too_few_architectures_is_not_advised_to_train_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    verdict = replay(write_table(tmp_path / "curves.csv", 0.45, architectures=12))
    (advice,) = (step for step in verdict.next_steps if "would need" in step)
    assert advice.endswith("reference models, and the search space has 12.")


def test_references_with_equal_scores_cannot_be_ranked(full_study: Any) -> None:
    results = read_results(full_study.folder, time_tolerance=0.05)
    assert results.selection is not None
    equal = tuple(replace(model, score=0.5) for model in results.references)
    shown = NoneAccepted(replace(results, selection=replace(results.selection, references=equal)))
    assert isinstance(equal[0], Reference)
    assert shown.headline == "No proxy task was accepted: the reference models cannot be ranked"
    (advice,) = shown.list_advice()
    assert advice.startswith("All reference models have the same full-training score")
