"""Forecast of a study's cost: time a few steps, count the planned work, multiply."""

from collections.abc import Collection

from nasproxy.config.builder import StudyBuilder
from nasproxy.config.schema import StageName
from nasproxy.cost import workload
from nasproxy.cost.estimate import Assumption, Estimate, estimate_stage
from nasproxy.cost.expected_acceptance import ExpectedAcceptance, expect_acceptance
from nasproxy.cost.speed import Speeds
from nasproxy.cost.timed_sample import Score, TimedSample, draw_architectures
from nasproxy.cost.workload import RaceWork, StageWork, list_checks
from nasproxy.execution.backends.backend import Backend
from nasproxy.execution.work_order import OrderTemplate
from nasproxy.stages.proxy_search.judge import Judge
from nasproxy.stages.proxy_search.race import TaskSpeed
from nasproxy.stages.references.candidate_pool import CandidatePool
from nasproxy.stages.schedule_comparison.stage import list_compared_tasks
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.spec import Split, TrialSpec


def forecast_costs(
    design: StudyBuilder, backend: Backend, orders: OrderTemplate, score: Score, steps: Collection[StageName]
) -> Estimate:
    """Estimate the cost of a study by training a few of its models for a few steps.

    Args:
        design: The configured study.
        backend: Backend that would run its trials.
        orders: Template of its work orders.
        score: Computes zero-cost scores of models.
        steps: Stages to estimate.

    Raises:
        StageStoppedError: No model could be timed.
        ConfigError: The data cannot be loaded.
    """
    sample = TimedSample(design, backend, orders, score(draw_architectures(design)))
    speeds, notes = sample.speeds(design.open_backend)
    stages: dict[str, StageWork] = {}
    if StageName.compare_schedules in steps:
        trainings = len(list_compared_tasks(design.config.compare_schedules))
        stages["schedules"] = workload.plan_schedules(design.recipe, design.comparison_architecture, trainings)
    if StageName.measure_variance in steps:
        stages["variance"] = workload.plan_variance(design.config.variance, design.recipe, design.variance_candidates)
    if StageName.select_models in steps:
        stages["selection"] = _plan_selection(design, has_variance=StageName.measure_variance in steps)
    assumption = None
    if StageName.search_proxy_task in steps:
        run = _make_race_work(design, speeds)
        expected = _expect_acceptance(design, run, speeds)
        stages["proxy search"] = workload.plan_proxy_search(run, expected)
        total = run.task_speeds[expected.task].check_steps[-1]
        assumption = Assumption(expected.task, expected.step, total, expected.added)
        confirm = design.config.confirm
        if StageName.confirm in steps and confirm.enabled:
            fresh = tuple(design.fresh[: confirm.fresh_models])
            stages["confirmation"] = workload.plan_confirmation(run, expected, fresh)
    full = design.recipe.devices
    devices: dict[str | None, int] = {None: full, **{name: task.devices or full for name, task in design.tasks.items()}}

    def slots_of(task: str | None) -> float:
        return design.slots_of(devices[task])

    slots = backend.capabilities.slots
    return Estimate(
        stages={name: estimate_stage(course, speeds, slots, slots_of) for name, course in stages.items()},
        full_steps=design.recipe.total_steps,
        devices_per_slot=design.devices_per_slot(slots),
        price_per_hour=design.config.cost.price_per_hour,
        assumption=assumption,
        timed=tuple(model.timing for model in speeds.models),
        notes=notes,
        slots_by_devices={str(number): design.slots_of(number) for number in sorted(set(devices.values()))},
    )


def _plan_selection(design: StudyBuilder, *, has_variance: bool) -> StageWork:
    is_first_trained = has_variance and design.config.variance.total_steps is None
    return workload.plan_selection(
        design.selection,
        design.recipe,
        design.candidates,
        design.space.baseline,
        is_first_trained=is_first_trained,
    )


def _make_race_work(design: StudyBuilder, speeds: Speeds) -> RaceWork:
    models = tuple(design.candidates[: design.selection.models])
    task_speeds = {
        name: TaskSpeed(
            list_checks(design.recipe, task),
            speeds.timing(models, name).step_seconds,
            design.recipe.under(task).devices,
        )
        for name, task in design.tasks.items()
    }
    return RaceWork(
        task_speeds=task_speeds,
        models=models,
        candidate_pool=tuple(design.candidate_pool),
        maximum=design.config.references.max,
        full_steps=list_checks(design.recipe),
        settings=design.config.proxy_search,
    )


def _expect_acceptance(design: StudyBuilder, run: RaceWork, speeds: Speeds) -> ExpectedAcceptance:
    """Compute the expected acceptance of the task with the median length of training."""
    config, recipe = design.config, design.recipe
    by_length = sorted(
        run.task_speeds, key=lambda name: run.task_speeds[name].seconds_at(run.task_speeds[name].check_steps[-1])
    )
    name = by_length[len(by_length) // 2]
    full_seconds = recipe.total_steps * speeds.timing(run.models, None).step_seconds * recipe.devices
    candidate_pool = CandidatePool(
        candidates=[TrialSpec(a, ProxyTask(), Split.FULL, config.seed, recipe) for a in run.candidate_pool],
        first_number=design.selection.candidates,
        step=config.references.step,
        maximum=config.references.max,
        search_trials=config.search.trials,
        full_seconds=full_seconds,
    )
    judge = Judge(design.criterion, config.proxy_search.min_models, config.proxy_search.min_valid_ratio)
    return expect_acceptance(
        name,
        run.task_speeds[name],
        judge=judge,
        candidate_pool=candidate_pool,
        models=len(run.models),
        tasks=len(run.task_speeds),
    )
