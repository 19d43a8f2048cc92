"""Dry run: estimate the cost of a study without creating it."""

import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nasproxy.config.builder import StudyBuilder
from nasproxy.cost.estimate import Estimate
from nasproxy.cost.forecast import forecast_costs
from nasproxy.errors import ConfigError
from nasproxy.execution.backends.backend import Backend
from nasproxy.execution.orders import measure_models, run_preflight
from nasproxy.stages.registry import list_stages
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.storage.zero_cost_scores import ZeroCost, ZeroCostScores, add_scores
from nasproxy.tracking.events import Noted, Progress, StageProgressed
from nasproxy.tracking.tracker import Tracker
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.spec import Architecture, Split, TrialSpec


def list_design_stages() -> list[str]:
    """List the names of the stages that every study has."""
    return [stage.name for stage in list_stages() if stage.is_part_of_design]


def check_dry_run(design: StudyBuilder, *, is_sweep: bool) -> None:
    """Check that the job has a cost that can be estimated.

    Raises:
        ConfigError: The job trains nothing, or is part of a sweep.
    """
    if is_sweep:
        raise ConfigError(
            "dry_run estimates one job, got a sweep (-m), whose jobs share trials: write the grid as lists, such as "
            "proxy.data_fraction=[0.25,0.5], without -m"
        )
    if not design.stages:
        raise ConfigError(
            f"dry_run needs a job that trains, got job={design.config.job.name}: choose another, such as job=design"
        )


def estimate_dry(design: StudyBuilder, tracker: Tracker) -> Estimate:
    """Estimate the cost of a study in a temporary folder.

    Args:
        design: The configured study.
        tracker: Receives progress and notes.

    Raises:
        NasproxyError: Nothing is trained, a preflight failed, or no trial could be timed.
    """
    if design.is_replay:
        raise ConfigError("dry_run estimates the cost of trainings, got a replay, which trains nothing: remove dry_run")
    with _open_temporary_study(design) as (study, backend):
        tracker.receive(StageProgressed(Progress("warming up", "loading the trainer, the data and a model")))
        orders = design.make_order_template(study.path)
        for note in run_preflight(backend, orders, design.preflight_specs, **design.preflight_options):
            tracker.receive(Noted(note))
        tracker.receive(StageProgressed(Progress("dry run", "a few steps of a few models")))
        return estimate_study(design, backend, study, [stage.name for stage in design.stages])


def score_samples(
    design: StudyBuilder, architectures: Sequence[Architecture]
) -> tuple[list[ZeroCost | None], str | None]:
    """Compute zero-cost scores of models in a temporary folder.

    Args:
        design: The configured study.
        architectures: The models.

    Returns:
        Scores in the same order, and the error of the first model without scores, if its preflight fails.

    Raises:
        ConfigError: The data cannot be loaded.
    """
    with _open_temporary_study(design) as (study, backend):
        scores_by_architecture = add_zero_costs(design, backend, study, architectures)
        scores = [scores_by_architecture.of(architecture) for architecture in architectures]
        if all(scores):
            return scores, None
        failed = architectures[scores.index(None)]
        try:
            spec = TrialSpec(failed, ProxyTask(), Split.FULL, design.config.seed, design.recipe)
            run_preflight(backend, design.make_order_template(study.path), [spec])
        except ConfigError as error:
            return scores, str(error)
        return scores, None


@contextmanager
def _open_temporary_study(design: StudyBuilder) -> Iterator[tuple[FolderStudyStore, Backend]]:
    """Open a temporary study folder and a backend for a block."""
    with tempfile.TemporaryDirectory(prefix="nasproxy-dry-run-") as path:
        study = design.open_study(Path(path))
        backend = design.open_backend(study.trials, study.path)
        try:
            yield study, backend
        finally:
            backend.close()


def estimate_study(
    design: StudyBuilder, backend: Backend, study: FolderStudyStore, stages: Collection[str]
) -> Estimate:
    """Estimate the cost of some stages of a study; zero-cost scores of its models are stored in it.

    Args:
        design: The configured study.
        backend: Backend that would run its trials.
        study: The study.
        stages: Names of the stages.

    Raises:
        StageStoppedError: No model could be timed.
    """

    def score(architectures: Sequence[Architecture]) -> ZeroCostScores:
        return add_zero_costs(design, backend, study, architectures)

    return forecast_costs(design, backend, design.make_order_template(study.path), score, stages)


def add_zero_costs(
    design: StudyBuilder, backend: Backend, study: FolderStudyStore, architectures: Sequence[Architecture]
) -> ZeroCostScores:
    """Compute and store zero-cost scores of models that the study has not scored before; returns all scores."""
    recipe, seed, orders = design.recipe, design.config.seed, design.make_order_template(study.path)
    return add_scores(
        study,
        architectures,
        lambda new: measure_models(backend, orders, [TrialSpec(a, ProxyTask(), Split.FULL, seed, recipe) for a in new]),
    )
