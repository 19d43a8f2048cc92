"""The embedded study has the properties that the README states."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from helpers import cli
from nasproxy.execution.worker.measure import measure_zero_costs
from nasproxy.stages.confirmation.state import ConfirmationOutcome, read_confirmations
from nasproxy.stages.proxy_search.state import TaskState, find_best_task, read_rules, read_tasks
from nasproxy.stages.references.state import read_selection
from nasproxy.stages.variance.state import VarianceState
from nasproxy.statistics.ceiling import compare_spread_with_noise, compute_noise_ceiling
from nasproxy.statistics.rank_correlation import kendall_tau
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.trials.records import State


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> FolderStudyStore:
    """Train the embedded study, or open the one that `NASPROXY_EMBEDDED_STUDY` names, which `.ci/run` has trained."""
    if trained := os.environ.get("NASPROXY_EMBEDDED_STUDY"):
        assert (cli.ROOT / trained / "study.json").exists(), f"{trained} must be a study"
        return FolderStudyStore(cli.ROOT / trained)
    folder = tmp_path_factory.mktemp("embedded")
    code, output = cli.run(folder=folder, seconds=900)
    assert code == 0, output
    return FolderStudyStore(folder / "digits")


@pytest.mark.gate
def test_one_of_at_least_six_proxy_tasks_is_accepted_and_confirmed(embedded: FolderStudyStore) -> None:
    assert len(read_tasks(embedded)) >= 6
    best = find_winner(embedded)
    outcomes = {state.task: state.outcome for state in read_confirmations(embedded)}
    assert outcomes[best.name] is ConfirmationOutcome.STANDS


@pytest.mark.gate
def test_the_chosen_proxy_task_reduces_image_or_model(embedded: FolderStudyStore) -> None:
    task = find_winner(embedded).proxy_task
    assert task.image_size < 1 or task.width < 1


def find_winner(study: FolderStudyStore) -> TaskState:
    best = find_best_task(read_tasks(study), read_rules(study).judged_by, time_tolerance=0.05)
    assert best is not None
    return best


@pytest.mark.gate
def test_counting_parameters_does_not_rank_the_reference_models(embedded: FolderStudyStore) -> None:
    selected = read_selection(embedded)
    assert selected is not None
    references = selected.references or ()
    counts = [
        score.parameters for score in measure_zero_costs([embedded.trials.spec(r.key) for r in references]) if score
    ]
    tau = kendall_tau(counts, [reference.score for reference in references])
    assert tau is not None
    assert tau.tau <= 0.5


@pytest.mark.gate
def test_the_chosen_proxy_task_costs_less_than_half_of_full_training(embedded: FolderStudyStore) -> None:
    best = find_winner(embedded)
    selected = read_selection(embedded)
    assert selected is not None
    full = [reference.key for reference in selected.references or ()]
    assert count_operations(embedded, best.keys) < 0.5 * count_operations(embedded, full)


def count_operations(study: FolderStudyStore, keys: Sequence[str]) -> float:
    """Count the operations per image of trials, times their steps, on average; seconds depend on what else runs."""
    scores = measure_zero_costs([study.trials.spec(key) for key in keys])
    counted = [score.flops for score in scores if score is not None and score.flops is not None]
    assert len(counted) == len(keys)
    steps = [study.trials.read(key).step for key in keys]
    return sum(flops * step for flops, step in zip(counted, steps, strict=True)) / len(keys)


@pytest.mark.gate
def test_the_noise_ceiling_is_high_and_the_better_half_spreads_beyond_noise(embedded: FolderStudyStore) -> None:
    selected = read_selection(embedded)
    measured = embedded.read("variance/state", VarianceState)
    assert selected is not None
    assert selected.references is not None
    assert measured is not None
    assert measured.result is not None
    scores = [reference.score for reference in selected.references]
    ceiling = compute_noise_ceiling(scores, measured.result.deviation)
    assert ceiling is not None
    assert ceiling.tau >= 0.85
    spread = compare_spread_with_noise(scores, measured.result.deviation.sd)
    assert spread is not None
    assert spread >= 1.5, "five seeds measure the seed SD, and processors round differently"


@pytest.mark.gate
def test_no_step_is_trained_twice_and_no_trial_is_left_running(embedded: FolderStudyStore) -> None:
    store = embedded.trials
    for key in store.keys():
        record = store.read(key)
        steps = [check.step for check in record.checks]
        assert steps == list(store.spec(key).check_steps[: len(steps)])
        assert record.status.state in (State.DONE, State.PAUSED)


def outcome(folder: Path, trainer: str, *overrides: str) -> dict[str, object]:
    """Return the decisions of a study with a trainer, under settings that ignore measured seconds."""
    timeless = ("proxy_search.early_stop_if_not_best=false", "job=search_proxy_task", "study=one")
    code, output = cli.run(*timeless, f"trainer={trainer}", *overrides, folder=folder, seconds=900)
    assert code == 0, output
    lies = FolderStudyStore(folder / "one")
    selected = read_selection(lies)
    assert selected is not None
    return {
        "iterations": selected.iterations,
        "references": [(reference.number, reference.score) for reference in selected.references or ()],
        "tasks": {name: judged(task) for name, task in read_tasks(lies).items()},
    }


def judged(task: TaskState) -> tuple[object, ...]:
    return (task.stopping_state, task.final_step, [(check.step, check.correlation) for check in task.checks])


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(cli.SMALL, id="small", marks=pytest.mark.slow),
        pytest.param((), id="whole", marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
    ],
)
def test_lightning_and_the_plain_loop_give_the_same_decisions(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    lightning = outcome(tmp_path / "lightning", "image_classifier", *overrides)
    plain = outcome(tmp_path / "plain", "plain_pytorch", *overrides)
    assert lightning == plain
