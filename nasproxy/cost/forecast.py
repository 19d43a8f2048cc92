"""Forecast of a study's cost: time a few steps, count the planned work, multiply."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from nasproxy.config.builder import StudyBuilder
from nasproxy.cost.estimate import Assumption, Estimate, estimate_stage
from nasproxy.cost.speed import Speeds
from nasproxy.cost.timed_sample import Score, TimedSample, draw_architectures
from nasproxy.execution.backends.backend import Backend
from nasproxy.execution.work_order import OrderTemplate
from nasproxy.stages.proxy_search.definition import PROXY_SEARCH, make_candidate_pool, make_judge
from nasproxy.stages.proxy_search.expected_acceptance import ExpectedAcceptance, expect_acceptance
from nasproxy.stages.proxy_search.race import TaskSpeed
from nasproxy.stages.proxy_search.settings import ProxySearchSettings
from nasproxy.stages.proxy_search.workload import RaceWork
from nasproxy.stages.references.count_decision import (
    CountDecision,
    can_choose,
    decide,
    describe_economy,
    is_chosen,
    weigh_given,
)
from nasproxy.stages.registry import find_stage
from nasproxy.stages.workload import count_checks, list_checks
from nasproxy.statistics.tau_curve import TauCurve
from nasproxy.trials.proxy_task import ProxyTask


@dataclass(frozen=True)
class TimedForecast:
    """What the planned work is counted from, once a sample of the study is timed.

    Attributes:
        design: The configured study.
        stages: Names of the stages to estimate.
        speeds: Speeds of the models.
    """

    design: StudyBuilder
    stages: Collection[str]
    speeds: Speeds

    @cached_property
    def race(self) -> RaceWork:
        """Proxy tasks with their estimated speeds, and the models that they are judged on."""
        design = self.design
        models = tuple(design.candidates[: design.selection.models])
        task_speeds = {
            name: TaskSpeed(
                list_checks(design.recipe, task),
                self.speeds.timing(models, name).step_seconds,
                design.recipe.under(task).devices,
            )
            for name, task in design.tasks.items()
        }
        return RaceWork(
            task_speeds=task_speeds,
            models=models,
            candidate_pool=tuple(design.candidate_pool),
            maximum=design.references.max,
            full_steps=list_checks(design.recipe),
            settings=design.settings(ProxySearchSettings),
        )

    @cached_property
    def expected(self) -> ExpectedAcceptance:
        """Expected acceptance of the task with the median length of training."""
        race, recipe = self.race, self.design.recipe
        by_length = sorted(
            race.task_speeds, key=lambda name: race.task_speeds[name].seconds_at(race.task_speeds[name].check_steps[-1])
        )
        name = by_length[len(by_length) // 2]
        full_seconds = recipe.total_steps * self.speeds.timing(race.models, None).step_seconds * recipe.devices
        return expect_acceptance(
            name,
            race.task_speeds[name],
            judge=make_judge(self.design),
            candidate_pool=make_candidate_pool(self.design, race.candidate_pool, full_seconds),
            models=len(race.models),
            tasks=len(race.task_speeds),
        )


def forecast_references(design: StudyBuilder, speeds: Speeds) -> CountDecision:
    """Choose the numbers of references, or weigh given ones, from estimated costs and the prior of how tau rises."""
    recipe, models = design.recipe, tuple(design.candidates[: design.selection.models])
    full = recipe.total_steps * recipe.devices * speeds.timing(models, None).step_seconds

    def compare(name: str, task: ProxyTask) -> float:
        own = recipe.under(task)
        return own.total_steps * own.devices * speeds.timing(models, name).step_seconds / full

    costs = {name: compare(name, task) for name, task in design.tasks.items()}
    economy = describe_economy(design, costs=costs)
    return decide(design, economy, TauCurve(), 0) if is_chosen(design) else weigh_given(design, economy)


def forecast_costs(
    design: StudyBuilder, backend: Backend, orders: OrderTemplate, score: Score, stages: Collection[str]
) -> Estimate:
    """Estimate the cost of a study by training a few of its models for a few steps.

    Args:
        design: The configured study.
        backend: Backend that would run its trials.
        orders: Template of its work orders.
        score: Computes zero-cost scores of models.
        stages: Names of the stages to estimate.

    Raises:
        StageStoppedError: No model could be timed.
        ConfigError: The data cannot be loaded.
    """
    sample = TimedSample(design, backend, orders, score(draw_architectures(design)))
    speeds, notes = sample.speeds(design.open_backend)
    # Given numbers are weighed only where a person reads the result: it takes a second or two.
    is_weighed = design.config.dry_run and can_choose(design)
    references = forecast_references(design, speeds) if is_weighed or is_chosen(design) else None
    if references is not None and not references.is_given:
        chosen = references.choice.chosen
        design = design.with_references(chosen.initial, chosen.maximum)
    forecast = TimedForecast(design, stages, speeds)
    planned = {stage.label: stage.plan(forecast) for stage in map(find_stage, stages)}
    assumption = None
    if PROXY_SEARCH.name in stages:
        expected = forecast.expected
        steps = forecast.race.task_speeds[expected.task].check_steps
        until = steps[-1] if expected.step is None else expected.step
        timing = speeds.timing(forecast.race.models, expected.task)
        seconds = timing.seconds(starts=1, steps=until, checks=count_checks(steps, until))
        assumption = Assumption(expected.task, expected.step, steps[-1], expected.added, seconds)
    full = design.recipe.devices
    devices: dict[str | None, int] = {None: full, **{name: task.devices or full for name, task in design.tasks.items()}}

    def slots_of(task: str | None) -> float:
        return design.slots_of(devices[task])

    slots = backend.capabilities.slots
    return Estimate(
        stages={
            name: estimate_stage(work, speeds, slots, slots_of) for name, work in planned.items() if work is not None
        },
        full_steps=design.recipe.total_steps,
        devices_per_slot=design.devices_per_slot(slots),
        price_per_hour=design.config.cost.price_per_hour,
        assumption=assumption,
        timed=tuple(model.timing for model in speeds.models),
        notes=notes,
        references=references,
        slots_by_devices={str(number): design.slots_of(number) for number in sorted(set(devices.values()))},
    )
