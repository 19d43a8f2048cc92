"""The proxy search as a stage of jobs."""

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median

from nasproxy.errors import ConfigError, StageStoppedError
from nasproxy.stages.confirmation.state import read_confirmations
from nasproxy.stages.definition import Design, Forecast, StageContext, StageDefinition
from nasproxy.stages.noise_ceiling import find_noise_ceiling
from nasproxy.stages.proxy_search.judge import Judge
from nasproxy.stages.proxy_search.settings import ProxySearchSettings, SearchSettings
from nasproxy.stages.proxy_search.stage import ProxySearchStage
from nasproxy.stages.proxy_search.state import JUDGED_PREFIX, PREFIX, ProxySearchState, read_tasks
from nasproxy.stages.proxy_search.workload import plan_proxy_search
from nasproxy.stages.references.candidate_pool import CandidatePool
from nasproxy.stages.references.definition import refuse_equal_scores
from nasproxy.stages.references.state import read_references, read_selection
from nasproxy.stages.variance.state import read_variance
from nasproxy.stages.workload import StageWork
from nasproxy.storage.study_stores import StudyStore
from nasproxy.trials.identity import check_overrides_decide
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.spec import Architecture, Split, TrialSpec, to_canonical_json

PROXY_SEED_OFFSET = 1
"""Offset of the seed of proxy trainings from that of the references, so that equal settings give different trials."""


def run(context: StageContext) -> ProxySearchState:
    """Search a proxy task; the merge of a sweep judges all tasks anew.

    Raises:
        StageStoppedError: The reference models cannot be ranked, or with this seed noise no proxy can reach the target.
    """
    return search(context, is_fresh=context.is_merge)


def search(context: StageContext, *, is_fresh: bool = False) -> ProxySearchState:
    """Search a proxy task, from the stored decisions on or anew.

    Raises:
        StageStoppedError: The reference models cannot be ranked, or with this seed noise no proxy can reach the target.
    """
    design, study = context.design, context.study
    references = read_references(study)
    refuse_equal_scores(context, references)
    _refuse_unreachable_target(design, study)
    full_seconds = median(reference.train_seconds for reference in references)
    stage = ProxySearchStage(
        design.settings(ProxySearchSettings),
        tasks=design.tasks,
        criterion=design.criterion,
        judged_by=design.judged_by,
        references=references,
        candidate_pool=make_candidate_pool(design, design.candidate_pool, full_seconds),
        recipe=design.recipe,
        seed=design.seed + PROXY_SEED_OFFSET,
        study=study,
        full_seconds=full_seconds,
        prefix=JUDGED_PREFIX if context.is_judging else PREFIX,
        confirmations=read_confirmations(study),
        is_fresh=is_fresh,
        is_random=design.selection.is_random,
        origin=design.task_origin,
    )
    context.preflight()
    with ExitStack() as held:
        # Locks are named by the settings, because jobs of a sweep share trials of equal settings under any name.
        for digest in sorted(map(_digest_task, design.tasks.values())):
            held.enter_context(context.hold(f"proxy_task_{digest}"))
        state = context.run(stage)
    context.score_untrained([model for task in state.tasks.values() for model in task.added])
    return state


def load(study: StudyStore) -> ProxySearchState | None:
    """Read the proxy tasks of a study; None before all of them are decided."""
    tasks = read_tasks(study)
    return ProxySearchState(tasks) if tasks and all(task.stopping_state for task in tasks.values()) else None


def check(design: Design) -> None:
    """Refuse proxy tasks that decide nothing or train too long, and too few models to judge them on.

    Raises:
        ConfigError: The search cannot give a verdict.
    """
    settings, recipe = design.settings(ProxySearchSettings), design.recipe
    for name, task in design.tasks.items():
        check_overrides_decide(name, task.overrides, recipe.excluded)
        _check_length(name, recipe.under(task).total_steps, recipe.total_steps)
    initial, most = design.selection.models, design.selection.models
    if design.selection.is_random:
        most = max(most, design.references.max)
    if initial < settings.min_models:
        raise ConfigError(
            f"references.initial must be at least proxy_search.min_models, {settings.min_models}, got {initial}: raise "
            f"it; too few models cannot be ranked"
        )
    if most < design.criterion.min_models:
        raise ConfigError(
            f"criterion needs {design.criterion.min_models} reference models to accept anything, got {most} at most: "
            f"raise references.initial or references.max, or take criterion=first_crossing"
        )


def list_kinds(design: Design) -> Sequence[TrialSpec]:
    """List one training under each proxy task."""
    first, seed = design.candidates[0], design.seed
    return [TrialSpec(first, task, Split.SEARCH, seed, design.recipe) for task in design.tasks.values()]


def plan(forecast: Forecast) -> StageWork:
    """Plan the race of the proxy tasks."""
    return plan_proxy_search(forecast.race, forecast.expected)


def make_judge(design: Design) -> Judge:
    """Make the judge of the study's proxy tasks."""
    settings = design.settings(ProxySearchSettings)
    return Judge(design.criterion, settings.min_models, settings.min_valid_ratio)


def make_candidate_pool(design: Design, architectures: Sequence[Architecture], full_seconds: float) -> CandidatePool:
    """Make the pool of candidates that may become further references.

    Args:
        design: The configured study.
        architectures: The candidates, in the order in which they are added.
        full_seconds: Median time of a full training, in seconds, of all its devices together.
    """
    references, recipe = design.references, design.recipe
    return CandidatePool(
        candidates=[TrialSpec(each, ProxyTask(), Split.FULL, design.seed, recipe) for each in architectures],
        first_number=design.selection.candidates,
        step=references.step,
        maximum=references.max,
        search_trials=design.settings(SearchSettings).trials,
        full_seconds=full_seconds,
    )


def _refuse_unreachable_target(design: Design, study: StudyStore) -> None:
    ceiling, target = find_noise_ceiling(read_variance(study), read_selection(study)), design.criterion.target
    if ceiling is not None and target > ceiling.high:
        raise StageStoppedError(
            f"criterion.target must not exceed the noise ceiling, got {target:g}: with this seed noise a perfect "
            f"proxy reaches tau {ceiling.tau:.2f} (at most {ceiling.high:.2f}) on these reference models; lower "
            f"the target, or make scores less noisy (longer training, more validation images)"
        )


def _check_length(name: str, steps: int, full_steps: int) -> None:
    """Refuse a proxy task that trains longer than full training.

    Raises:
        ConfigError: It trains longer.
    """
    if steps > full_steps:
        raise ConfigError(
            f"a proxy task must train no longer than full training's {full_steps} steps, got {steps} of {name!r}: "
            f"lower its training.total_steps"
        )


def _digest_task(task: ProxyTask) -> str:
    """Compute a short digest of a proxy task's setting."""
    return hashlib.sha256(to_canonical_json(vars(task)).encode()).hexdigest()[:16]


PROXY_SEARCH = StageDefinition(
    ProxySearchStage.name,
    run,
    load,
    requires=("references",),
    settings={"proxy_search": ProxySearchSettings, "search": SearchSettings},
    check=check,
    list_kinds=list_kinds,
    plan=plan,
    is_part_of_design=True,
)
