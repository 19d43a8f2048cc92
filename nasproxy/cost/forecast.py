"""From a design to what it will cost: time a few steps, count the rest, multiply."""

from collections.abc import Collection

from nasproxy.config.builder import Design
from nasproxy.config.schema import Step
from nasproxy.cost import workload
from nasproxy.cost.estimate import Assumption, Estimate, stage_estimate
from nasproxy.cost.expected_acceptance import Acceptance, expected_acceptance
from nasproxy.cost.speed import Speeds
from nasproxy.cost.timed_sample import OpenBackend, Sample, Score, architectures
from nasproxy.cost.workload import Course, Race, checked_at
from nasproxy.execution.backends.backend import Backend
from nasproxy.stages.proxy_search.judge import Judge
from nasproxy.stages.proxy_search.race import Pace
from nasproxy.stages.references.candidate_pool import Reserve
from nasproxy.stages.schedule_comparison.stage import compared
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.spec import Split, TrialSpec


def forecast(
    design: Design, backend: Backend, open_backend: OpenBackend, score: Score, steps: Collection[Step]
) -> Estimate:
    """Estimate what a design will cost, by training a few of its models for a few steps.

    Args:
        design: What is to be studied.
        backend: What would run its trials.
        open_backend: Opens what runs throwaway trials, on a store of theirs.
        score: Gives models their zero-cost scores.
        steps: What is to be estimated.

    Raises:
        StageStoppedError: No model could be timed.
        ConfigError: The data cannot be loaded.
    """
    sample = Sample(design, backend, score(architectures(design)))
    speeds, notes = sample.speeds(open_backend)
    stages: dict[str, Course] = {}
    if Step.compare_schedules in steps:
        trainings = len(compared(design.config.compare_schedules))
        stages["schedules"] = workload.schedules(design.recipe, design.showpiece, trainings)
    if Step.measure_variance in steps:
        stages["variance"] = workload.variance(design.config.variance, design.recipe, design.variance_candidates)
    if Step.select_models in steps:
        stages["selection"] = _selection(design, has_variance=Step.measure_variance in steps)
    assumption = None
    if Step.search_proxy_task in steps:
        run = _race(design, speeds)
        expected = _expected(design, run, speeds)
        stages["proxy search"] = workload.proxy_search(run, expected)
        total = run.paces[expected.task].check_steps[-1]
        assumption = Assumption(expected.task, expected.step, total, expected.added)
        confirm = design.config.confirm
        if Step.confirm in steps and confirm.enabled:
            fresh = tuple(design.fresh[: confirm.fresh_models])
            stages["confirmation"] = workload.confirmation(run, expected, fresh)
    full = design.recipe.devices
    devices: dict[str | None, int] = {None: full, **{name: task.devices or full for name, task in design.tasks.items()}}

    def slots_of(task: str | None) -> float:
        return design.slots_of(devices[task])

    return Estimate(
        stages={name: stage_estimate(course, speeds, backend.slots, slots_of) for name, course in stages.items()},
        full_steps=design.recipe.total_steps,
        devices_per_slot=design.devices_per_slot(backend.slots),
        price_per_hour=design.config.cost.price_per_hour,
        assumption=assumption,
        timed=tuple(model.timing for model in speeds.models),
        notes=notes,
        slots_by_devices={str(number): design.slots_of(number) for number in sorted(set(devices.values()))},
    )


def _selection(design: Design, *, has_variance: bool) -> Course:
    is_first_trained = has_variance and design.config.variance.total_steps is None
    return workload.selection(
        design.selection,
        design.recipe,
        design.candidates,
        design.space.baseline,
        is_first_trained=is_first_trained,
    )


def _race(design: Design, speeds: Speeds) -> Race:
    models = tuple(design.candidates[: design.selection.models])
    paces = {
        name: Pace(
            checked_at(design.recipe, task),
            speeds.timing(models, name).step_seconds,
            design.recipe.under(task).devices,
        )
        for name, task in design.tasks.items()
    }
    return Race(
        paces=paces,
        models=models,
        reserve=tuple(design.reserve),
        maximum=design.config.references.max,
        full_steps=checked_at(design.recipe),
        settings=design.config.proxy_search,
    )


def _expected(design: Design, run: Race, speeds: Speeds) -> Acceptance:
    """When the task whose whole training is of middle length would be accepted."""
    config, recipe = design.config, design.recipe
    whole = sorted(run.paces, key=lambda name: run.paces[name].seconds_at(run.paces[name].check_steps[-1]))
    name = whole[len(whole) // 2]
    full_seconds = recipe.total_steps * speeds.timing(run.models, None).step_seconds * recipe.devices
    reserve = Reserve(
        candidates=[TrialSpec(a, ProxyTask(), Split.FULL, config.seed, recipe) for a in run.reserve],
        first_number=design.selection.candidates,
        step=config.references.step,
        maximum=config.references.max,
        search_trials=config.search.trials,
        full_seconds=full_seconds,
    )
    judge = Judge(design.criterion, config.proxy_search.min_models, config.proxy_search.min_valid_ratio)
    return expected_acceptance(
        name, run.paces[name], judge=judge, reserve=reserve, models=len(run.models), tasks=len(run.paces)
    )
