"""The sample of models that is timed, and the speeds computed from it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from helpers.cli import ROOT, SMALL
from nasproxy.config import schema
from nasproxy.config.builder import StudyBuilder
from nasproxy.cost.speed import interpolate_timing
from nasproxy.cost.timed_sample import MAX_SETTINGS, TimedSample, draw_architectures
from nasproxy.execution.backends.backend import BackendContext
from nasproxy.execution.backends.local import LocalBackend
from nasproxy.execution.orders import measure_models
from nasproxy.execution.work_order import OrderTemplate
from nasproxy.storage.trial_stores import FolderTrialStore
from nasproxy.storage.zero_cost_scores import ZeroCost, ZeroCostScores
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.spec import Split, TrialSpec, to_canonical_json

ORDERS = OrderTemplate(Path("study"))


def make_builder(*overrides: str) -> StudyBuilder:
    schema.register_schema()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return StudyBuilder(schema.read_config(compose("config", [*SMALL, *overrides])))


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[LocalBackend]:
    made = LocalBackend(context=BackendContext(FolderTrialStore(tmp_path / "trials"), tmp_path), slots=2)
    yield made
    made.close()


def make_scores(of: StudyBuilder, sizes: dict[int, int]) -> ZeroCostScores:
    """Make scores with the given sizes by index of the architecture, 50 for the others."""
    every = draw_architectures(of)
    return ZeroCostScores(
        {to_canonical_json(a): ZeroCost(1, sizes.get(place, 50), None) for place, a in enumerate(every)}
    )


def test_the_smallest_the_median_and_the_largest_model_are_timed(backend: LocalBackend) -> None:
    of = make_builder("training.total_steps=60")
    every = draw_architectures(of)
    sample = TimedSample(of, backend, ORDERS, make_scores(of, {2: 10, 4: 900}))
    smallest, middle, largest = sample.chosen
    assert (smallest, largest) == (every[2], every[4])
    assert middle not in (smallest, largest)
    assert of.space.baseline in every


def test_the_first_models_are_timed_if_sizes_are_unknown(backend: LocalBackend) -> None:
    of = make_builder()
    assert TimedSample(of, backend, ORDERS, ZeroCostScores()).chosen == draw_architectures(of)[:3]


def test_proxy_tasks_that_differ_only_in_data_or_schedule_are_timed_once(backend: LocalBackend) -> None:
    of = make_builder("proxy.data_fraction=[0.25,0.5,1.0]", "proxy.width=[0.5,1.0]")
    assert TimedSample(of, backend, ORDERS, ZeroCostScores()).settings == [ProxyTask(width=0.5), ProxyTask()]
    tasks = (
        "proxy.tasks=[{name: a, training.total_steps: 30}, {name: b, trainer.batch_size: 32}, {name: c, width: 0.5}]"
    )
    of = make_builder("proxy=custom", "proxy.data_fraction=null", "proxy.width=null", "proxy.image_size=null", tasks)
    assert TimedSample(of, backend, ORDERS, ZeroCostScores()).settings == [
        ProxyTask(),
        ProxyTask(overrides={"trainer.batch_size": 32}),
        ProxyTask(width=0.5),
    ]


def test_further_tasks_of_a_large_grid_are_interpolated_by_size(tmp_path: Path) -> None:
    of = make_builder("proxy.data_fraction=1.0", "proxy.width=[2.0,1.0,0.9,0.8,0.7,0.6,0.25]")
    backend = of.open_backend(FolderTrialStore(tmp_path / "trials"), tmp_path)
    orders = of.make_order_template(tmp_path)
    try:
        full = [TrialSpec(a, ProxyTask(), Split.FULL, 0, of.recipe) for a in draw_architectures(of)]
        measured = measure_models(backend, orders, full)
        scores = dict(zip((to_canonical_json(spec.architecture) for spec in full), measured, strict=True))
        sample = TimedSample(of, backend, orders, ZeroCostScores(scores))
        speeds, notes = sample.speeds(of.open_backend)
        middle = sample.chosen[1]
        (narrow,) = measure_models(
            backend, orders, [TrialSpec(middle, ProxyTask(width=0.25), Split.SEARCH, 1, of.recipe)]
        )
    finally:
        backend.close()
    assert notes == ()
    assert set(speeds.factors) == set(of.tasks)
    assert len(sample.settings) == MAX_SETTINGS + 1
    assert narrow is not None
    whole, reduced = (
        interpolate_timing(speeds.models, size) for size in (speeds.sizes[to_canonical_json(middle)], narrow.size)
    )
    assert speeds.factors["width25"][0] == pytest.approx(reduced.step_seconds / whole.step_seconds)
    assert all(timed.timing.step_seconds > 0 for timed in speeds.models)
